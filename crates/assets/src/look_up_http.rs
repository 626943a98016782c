//! Look-ups over HTTP and HTTPS: one request of an enrichment, and what is answered in JSON.
//!
//! Values of events go into the requests, so whoever sends events can steer them. Therefore: no redirects, no proxies, no
//! addresses inside the machine or its network unless they are allowed by name, no answer above a mebibyte, and an end
//! after the time that the configuration gives. A host that fails again and again is left alone for a while.
//! Snowplow: `enrichments.md` 21.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::time::Duration;

use enrich::look_up::{Answer, HttpRequest};
use serde_json::Value;
use ureq::config::Config;
use ureq::http::{Request, Uri, header};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error};

use crate::http::tls;
use crate::pauses::Pauses;

/// The largest answer.
const BODY_BYTES_MAX: u64 = 1 << 20;

/// The deepest answer; its root is level 1.
const DEPTH_MAX: usize = 64;

/// Asks HTTP APIs.
pub struct LookUpHttp {
    agent: Agent,
    pauses: Pauses,
}

/// A host that may be asked although its address lies inside the machine or its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedHost {
    /// As the configurations of enrichments name it: a name, or an address. In lower case.
    host: String,
    /// None: every port.
    port: Option<u16>,
}

/// A text that names no host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no host: write `host`, `host:port` or `[address]:port`, without a scheme or a path"
)]
pub struct InvalidHost(String);

impl FromStr for AllowedHost {
    type Err = InvalidHost;

    fn from_str(text: &str) -> Result<AllowedHost, InvalidHost> {
        let invalid = || InvalidHost(text.to_owned());
        let in_brackets = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (host, port) = match in_brackets {
            Some((address, "")) => (address, None),
            Some((address, rest)) => (address, Some(rest.strip_prefix(':').ok_or_else(invalid)?)),
            // An IPv6 address without brackets has more than one colon.
            None => match text.split_once(':').filter(|(_, port)| !port.contains(':')) {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let is_address = host.parse::<Ipv6Addr>().is_ok();
        let is_name = !host.is_empty()
            && host.bytes().all(|it| it.is_ascii_alphanumeric() || b"-._".contains(&it));
        let port = port.map(|port| port.parse::<u16>().map_err(|_| invalid())).transpose()?;
        match is_name || is_address {
            true => Ok(AllowedHost { host: host.to_ascii_lowercase(), port }),
            false => Err(invalid()),
        }
    }
}

impl AllowedHost {
    fn is_of(&self, uri: &Uri) -> bool {
        let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
        let otherwise = if uri.scheme_str() == Some("https") { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(otherwise);
        self.host.eq_ignore_ascii_case(host) && self.port.is_none_or(|allowed| allowed == port)
    }
}

impl LookUpHttp {
    /// `allowed` are the hosts that may lie inside the machine or its network.
    pub fn new(allowed: Vec<AllowedHost>) -> LookUpHttp {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .user_agent(concat!("snowmelt/", env!("CARGO_PKG_VERSION")))
            .tls_config(tls())
            .build();
        let guard = Guard { inner: DefaultResolver::default(), allowed };
        let agent = Agent::with_parts(config, DefaultConnector::default(), guard);
        LookUpHttp { agent, pauses: Pauses::default() }
    }

    fn ask(&self, request: &HttpRequest) -> Result<Vec<u8>, String> {
        let builder = Request::builder()
            .method(request.method)
            .uri(whole_uri(request))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "*/*");
        let builder = match &request.basic {
            Some((user, password)) => {
                let pair = base64(format!("{user}:{password}").as_bytes());
                builder.header(header::AUTHORIZATION, format!("Basic {pair}"))
            }
            None => builder,
        };
        let body = request.body.clone().unwrap_or_default();
        let built = builder.body(body).map_err(|_| "Request failed: no such address".to_owned())?;
        let timeout = Duration::from_millis(request.timeout_ms.into());
        let built = self.agent.configure_request(built).timeout_global(Some(timeout)).build();
        let response = self.agent.run(built);
        let mut response = response.map_err(|error| describe(&error, request.timeout_ms))?;
        let status = response.status().as_u16();
        if !(200..300).contains(&status) {
            return Err(format!("Request failed with status {status}"));
        }
        let body = response.body_mut().with_config().limit(BODY_BYTES_MAX).read_to_vec();
        body.map_err(|error| describe(&error, request.timeout_ms))
    }

    /// What is answered, in words that hold no secret where it is an error.
    pub fn look_up(&self, request: &HttpRequest) -> Answer {
        let uri: Option<Uri> = request.uri.parse().ok();
        let host = uri.and_then(|uri| uri.authority().map(|it| it.as_str().to_owned()));
        let host = host.unwrap_or_default();
        if self.pauses.holds(&host) {
            return Err(format!("{request}: {}", Pauses::WHY));
        }
        let answered = self.ask(request);
        // A status that refuses this question says nothing about others.
        let failed =
            answered.as_ref().is_err_and(|what| !what.starts_with("Request failed with status 4"));
        self.pauses.note(host, failed);
        let body = answered.map_err(|what| format!("{request}: {what}"))?;
        let value: Value = serde_json::from_slice(&body)
            .map_err(|_| format!("{request}: the answer is not JSON"))?;
        match is_deeper_than(&value, DEPTH_MAX) {
            true => Err(format!("{request}: the answer is deeper than {DEPTH_MAX} levels")),
            false => Ok(value),
        }
    }
}

impl fmt::Debug for LookUpHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LookUpHttp").finish_non_exhaustive()
    }
}

/// Resolves names, and refuses addresses that an event must not reach.
struct Guard {
    inner: DefaultResolver,
    allowed: Vec<AllowedHost>,
}

impl Resolver for Guard {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        if self.allowed.iter().any(|allowed| allowed.is_of(uri)) {
            return Ok(found);
        }
        // One inner address among others is as bad as none but inner ones.
        match found.iter().all(|address| is_outside(address.ip())) {
            true => Ok(found),
            false => Err(Error::Other(Box::new(Inside))),
        }
    }
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guard").field(&self.allowed).finish()
    }
}

/// Why an address is refused.
#[derive(Debug, thiserror::Error)]
#[error(
    "its address lies inside this machine or its network, and its host is not among `enrich.look-up-hosts`"
)]
struct Inside;

/// Whether an address is one of the public network: not of this machine, this network, a cloud's metadata, or special.
fn is_outside(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_outside_v4(v4),
        IpAddr::V6(v6) => is_outside_v6(v6),
    }
}

fn is_outside_v4(v4: Ipv4Addr) -> bool {
    let [a, b, c, _] = v4.octets();
    !(v4.is_private()
        || v4.is_loopback()
        || v4.is_link_local()
        || v4.is_broadcast()
        || v4.is_documentation()
        || v4.is_multicast()
        || a == 0
        || a >= 240
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 198 && (b == 18 || b == 19)))
}

fn is_outside_v6(v6: Ipv6Addr) -> bool {
    // An IPv4 address in any of its disguises.
    let [a, b, .., y, z] = v6.segments();
    let last = || Ipv4Addr::from((u32::from(y) << 16) | u32::from(z));
    let is_embedded = v6.to_ipv4_mapped().is_some() || (a == 0x64 && b == 0xff9b);
    if is_embedded {
        return is_outside_v4(last());
    }
    // Only 2000::/3 is public. 2002::/16 and 2001::/32 are tunnels to IPv4 addresses.
    (a & 0xe000) == 0x2000 && a != 0x2002 && !(a == 0x2001 && b == 0)
}

/// The address with the parameter that is shown to nobody.
fn whole_uri(request: &HttpRequest) -> String {
    let HttpRequest { uri, secret, .. } = request;
    let Some((name, value)) = secret else { return uri.clone() };
    let mark = if uri.contains('?') { '&' } else { '?' };
    let mut whole = format!("{uri}{mark}{name}=");
    for byte in value.bytes() {
        match byte {
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                whole.push(byte.into());
            }
            byte => whole.push_str(&format!("%{byte:02X}")),
        }
    }
    whole
}

fn describe(error: &Error, timeout_ms: u32) -> String {
    match error {
        Error::Timeout(_) => format!("Request failed: no answer within {timeout_ms} ms"),
        Error::BodyExceedsLimit(_) => {
            format!("Request failed: the answer is larger than {BODY_BYTES_MAX} bytes")
        }
        Error::HostNotFound => "Request failed: its host has no address".to_owned(),
        Error::Io(error) => format!("Request failed: {}", error.kind()),
        Error::Other(other) if other.is::<Inside>() => format!("Request failed: {Inside}"),
        // Others may repeat the address, and what is in it.
        _ => "Request failed".to_owned(),
    }
}

/// Without recursion that the answer could drive: `serde_json` has bounded the depth before.
fn is_deeper_than(value: &Value, levels: usize) -> bool {
    match value {
        _ if levels == 0 => true,
        Value::Array(items) => items.iter().any(|item| is_deeper_than(item, levels - 1)),
        Value::Object(map) => map.values().any(|item| is_deeper_than(item, levels - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Standard base64 with padding.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let bits = (byte(0) << 16) | (byte(1) << 8) | byte(2);
        for digit in 0..4 {
            match digit <= chunk.len() {
                true => text.push(char::from(DIGITS[(bits >> (18 - 6 * digit)) as usize & 63])),
                false => text.push('='),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_inside_are_told_from_those_outside() {
        for inside in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.0.1",
            "169.254.169.254",
            "0.0.0.0",
            "100.64.0.1",
            "192.0.0.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::1",
            "::",
            "fe80::1",
            "fd00:ec2::254",
            "::ffff:127.0.0.1",
            "64:ff9b::7f00:1",
            "2002:7f00:1::",
            "2001::1",
            "ff02::1",
        ] {
            assert!(!is_outside(inside.parse().unwrap()), "{inside}");
        }
        for outside in
            ["9.9.9.9", "172.32.0.1", "2620:fe::fe", "::ffff:9.9.9.9", "64:ff9b::909:909"]
        {
            assert!(is_outside(outside.parse().unwrap()), "{outside}");
        }
    }

    #[test]
    fn an_allowed_host_is_one_host_and_one_port_if_it_names_one() {
        let is_of = |allowed: &str, uri: &str| {
            allowed.parse::<AllowedHost>().unwrap().is_of(&uri.parse().unwrap())
        };
        for (allowed, uri, expected) in [
            ("localhost", "http://localhost:9000/a", true),
            ("LocalHost", "http://LOCALHOST/a", true),
            ("localhost:9000", "http://localhost:9000/a", true),
            ("localhost:9000", "http://localhost:9001/a", false),
            ("crm.internal:443", "https://crm.internal/a", true),
            ("crm.internal:443", "http://crm.internal/a", false),
            ("crm.internal", "http://other.crm.internal/a", false),
            ("10.0.0.7", "http://10.0.0.70/", false),
            ("[::1]:80", "http://[::1]/", true),
            ("::1", "http://[::1]:8080/", true),
            ("[fd00::7]", "http://[fd00::8]/", false),
        ] {
            assert_eq!(is_of(allowed, uri), expected, "{allowed} {uri}");
        }
        for odd in ["", "http://localhost", "localhost/a", "localhost:x", "[::1", "a b", "*", ":80"]
        {
            let error = odd.parse::<AllowedHost>().unwrap_err().to_string();
            assert!(error.contains("is no host"), "{error}");
        }
    }

    #[test]
    fn a_secret_parameter_is_sent_and_not_shown() {
        let request = |uri: &str| HttpRequest {
            method: "GET",
            uri: uri.to_owned(),
            secret: Some(("app_id", "a b&c".to_owned())),
            body: None,
            timeout_ms: 1,
            basic: None,
        };
        assert_eq!(whole_uri(&request("http://a/b")), "http://a/b?app_id=a%20b%26c");
        assert_eq!(whole_uri(&request("http://a/b?c=1")), "http://a/b?c=1&app_id=a%20b%26c");
        assert_eq!(request("http://a/b").to_string(), "GET http://a/b");
    }

    #[test]
    fn base64_is_that_of_the_standard() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
