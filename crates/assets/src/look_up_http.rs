//! Look-ups over HTTP and HTTPS: one request of an enrichment, and what is answered in JSON.
//!
//! Values of events go into the requests, so whoever sends events can steer them. Therefore: no redirects, no proxies, no
//! addresses inside the machine or its network unless they are allowed by name, no answer above a mebibyte, and an end
//! after the time that the configuration gives. A host that fails again and again is left alone for a while.
//! Snowplow: `enrichments.md` 21.

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use enrich::look_up::{Answer, HttpRequest};
use serde_json::Value;
use ureq::config::Config;
use ureq::http::{Request, Uri, header};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Error};

use crate::http::tls;
use crate::look_ups::LookUp;

/// The largest answer.
const BODY_BYTES_MAX: u64 = 1 << 20;

/// The deepest answer; its root is level 1.
const DEPTH_MAX: usize = 64;

/// So many failures of a host, one after another, and it is left alone.
const FAILURES_MAX: u32 = 5;

/// For so long.
const PAUSE: Duration = Duration::from_secs(10);

/// Asks HTTP APIs.
pub struct LookUpHttp {
    agent: Agent,
    hosts: Mutex<HashMap<String, Host>>,
}

#[derive(Clone, Copy, Default)]
struct Host {
    failures: u32,
    paused_until: Option<Instant>,
}

impl LookUpHttp {
    /// `allowed` are the hosts, as the configurations name them (`localhost`, `10.0.0.7`), that may lie inside the
    /// machine or its network.
    pub fn new(allowed: Vec<String>) -> LookUpHttp {
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
        LookUpHttp { agent, hosts: Mutex::default() }
    }

    fn ask(&self, request: &HttpRequest) -> Result<Vec<u8>, String> {
        let builder = Request::builder()
            .method(request.method)
            .uri(&request.uri)
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

    /// Whether the host is to be left alone.
    fn is_paused(&self, host: &str) -> bool {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let until = hosts.get(host).and_then(|host| host.paused_until);
        until.is_some_and(|until| Instant::now() < until)
    }

    fn note(&self, host: String, failed: bool) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if !failed {
            hosts.remove(&host);
            return;
        }
        let host = hosts.entry(host).or_default();
        host.failures += 1;
        if host.failures >= FAILURES_MAX {
            // After the pause one failure is enough for another.
            host.paused_until = Some(Instant::now() + PAUSE);
        }
    }
}

impl LookUp for LookUpHttp {
    fn look_up(&self, request: &HttpRequest) -> Answer {
        let uri: Option<Uri> = request.uri.parse().ok();
        let host = uri.and_then(|uri| uri.authority().map(|it| it.as_str().to_owned()));
        let host = host.unwrap_or_default();
        if self.is_paused(&host) {
            return Err(format!("{request}: left alone after {FAILURES_MAX} failures"));
        }
        let answered = self.ask(request);
        // A status that refuses this question says nothing about others.
        let failed =
            answered.as_ref().is_err_and(|what| !what.starts_with("Request failed with status 4"));
        self.note(host, failed);
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
    allowed: Vec<String>,
}

impl Resolver for Guard {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        let host = uri.host().unwrap_or_default();
        if self.allowed.iter().any(|allowed| allowed == host) {
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
#[error("its address lies inside this machine or its network, and its host is not allowed")]
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
fn base64(bytes: &[u8]) -> String {
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
    fn base64_is_that_of_the_standard() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foob", "Zm9vYg==")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
