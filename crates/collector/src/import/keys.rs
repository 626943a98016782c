//! Every key of Snowplow's collector, and what becomes of it. One table; names are compared in kebab-case, so that
//! `maxConnections`, `max-connections` and `MaxConnections` are one.

use std::net::IpAddr;
use std::time::Duration;

use super::hocon::Value;

/// What becomes of a key.
#[derive(Clone, Copy, Debug)]
pub(super) enum Becomes {
    /// A key of ours, under `collector`.
    Key(&'static str, Form),
    /// A key of both streams.
    Both(&'static str, Form),
    /// A map of texts, under `collector`.
    Map(&'static str),
    /// The kind of sink, which has no place here either.
    Sink,
    /// It has no place here, for this reason.
    Dropped(&'static str),
}

/// The form of a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    Bool,
    Number,
    Text,
    /// A text, or none where it is empty.
    List,
    Duration,
    /// A number of milliseconds.
    Millis,
    Address,
}

pub(super) const STDOUT: &str = "records go to the embedded log; for lines on stdout: `snowmelt run collector --set collector.streams.sink=stdout`";
pub(super) const SINK: &str =
    "this build has no such sink: records go to the embedded log, and are on its disk before 200";
pub(super) const NO_TELEMETRY: &str = "Snowmelt tells nobody that it runs, unless `telemetry.url` is the host of a collector of yours";
const NO_AKKA: &str = "there is no akka here; see `collector.networking`";

use Becomes::{Both, Dropped, Key, Map};
use Form::{Address, Bool, List, Millis, Number, Text};

/// The table. A name that ends with a dot stands for everything below it.
const KEYS: &[(&str, Becomes)] = &[
    ("license.", Dropped("Snowmelt wants no licence accepted")),
    ("production", Dropped("there is one mode only")),
    ("interface", Key("bind", Address)),
    ("port", Key("port", Number)),
    ("ssl.enable", Key("ssl.enable", Bool)),
    ("ssl.port", Key("ssl.port", Number)),
    ("ssl.redirect", Key("ssl.redirect", Bool)),
    ("hsts.enable", Key("hsts.enable", Bool)),
    ("hsts.max-age", Key("hsts.max-age", Form::Duration)),
    ("paths", Map("paths")),
    ("p3p.policy-ref", Key("p3p.policy-ref", Text)),
    ("p3p.policyref", Key("p3p.policy-ref", Text)),
    ("p3p.cp", Key("p3p.cp", Text)),
    ("cross-domain.enabled", Key("cross-domain.enabled", Bool)),
    ("cross-domain.domains", Key("cross-domain.domains", List)),
    ("cross-domain.domain", Key("cross-domain.domains", List)),
    ("cross-domain.secure", Key("cross-domain.secure", Bool)),
    ("cookie.enabled", Key("cookie.enabled", Bool)),
    ("cookie.name", Key("cookie.name", Text)),
    ("cookie.expiration", Key("cookie.expiration", Form::Duration)),
    ("cookie.domains", Key("cookie.domains", List)),
    ("cookie.domain", Key("cookie.fallback-domain", Text)),
    ("cookie.fallback-domain", Key("cookie.fallback-domain", Text)),
    ("cookie.secure", Key("cookie.secure", Bool)),
    ("cookie.http-only", Key("cookie.http-only", Bool)),
    ("cookie.same-site", Key("cookie.same-site", Text)),
    ("cookie.client-cookie-name", Key("cookie.client-cookie-name", Text)),
    ("do-not-track-cookie.enabled", Key("do-not-track-cookie.enabled", Bool)),
    ("do-not-track-cookie.name", Key("do-not-track-cookie.name", Text)),
    ("do-not-track-cookie.value", Key("do-not-track-cookie.value", Text)),
    ("cookie-bounce.enabled", Key("cookie-bounce.enabled", Bool)),
    ("cookie-bounce.name", Key("cookie-bounce.name", Text)),
    ("cookie-bounce.fallback-network-user-id", Key("cookie-bounce.fallback-network-user-id", Text)),
    (
        "cookie-bounce.forwarded-protocol-header",
        Key("cookie-bounce.forwarded-protocol-header", Text),
    ),
    ("enable-default-redirect", Key("enable-default-redirect", Bool)),
    ("redirect-domains", Key("redirect-domains", List)),
    ("redirect-macro.enabled", Key("redirect-macro.enabled", Bool)),
    ("redirect-macro.placeholder", Key("redirect-macro.placeholder", Text)),
    ("root-response.enabled", Key("root-response.enabled", Bool)),
    ("root-response.status-code", Key("root-response.status-code", Number)),
    ("root-response.headers", Map("root-response.headers")),
    ("root-response.body", Key("root-response.body", Text)),
    ("cors.access-control-max-age", Key("cors.access-control-max-age", Form::Duration)),
    ("networking.max-connections", Key("networking.max-connections", Number)),
    ("networking.idle-timeout", Key("networking.idle-timeout", Form::Duration)),
    (
        "networking.response-header-timeout",
        Key("networking.response-header-timeout", Form::Duration),
    ),
    ("networking.body-read-timeout", Key("networking.body-read-timeout", Form::Duration)),
    ("networking.max-request-line-length", Key("networking.max-request-line-length", Number)),
    ("networking.max-headers-length", Key("networking.max-headers-length", Number)),
    ("networking.max-payload-size", Key("networking.max-payload-size", Number)),
    ("networking.drop-payload-size", Key("networking.drop-payload-size", Number)),
    ("pre-termination-period", Key("pre-termination-period", Form::Duration)),
    ("pre-termination-unhealthy", Key("pre-termination-unhealthy", Bool)),
    ("termination-deadline", Key("termination-deadline", Form::Duration)),
    ("experimental.", Dropped("there is nothing to warm up")),
    (
        "prometheus-metrics.",
        Dropped(
            "`GET /metrics` is always there, on the server's address and not on the collector's",
        ),
    ),
    ("compression.enabled", Key("compression.enabled", Bool)),
    ("compression.type", Key("compression.type", Text)),
    ("compression.zstd-compression-level", Key("compression.zstd-compression-level", Number)),
    ("compression.gzip-compression-level", Key("compression.gzip-compression-level", Number)),
    ("streams.use-ip-address-as-partition-key", Key("use-ip-address-as-partition-key", Bool)),
    ("sink.use-ip-address-as-partition-key", Key("use-ip-address-as-partition-key", Bool)),
    ("streams.good.buffer.byte-limit", Key("streams.good.buffer.byte-limit", Number)),
    ("streams.good.buffer.record-limit", Key("streams.good.buffer.record-limit", Number)),
    ("streams.good.buffer.time-limit", Key("streams.good.buffer.time-limit", Millis)),
    ("streams.bad.buffer.byte-limit", Key("streams.bad.buffer.byte-limit", Number)),
    ("streams.bad.buffer.record-limit", Key("streams.bad.buffer.record-limit", Number)),
    ("streams.bad.buffer.time-limit", Key("streams.bad.buffer.time-limit", Millis)),
    ("streams.good.thread-pool-size", Key("streams.good.thread-pool-size", Number)),
    ("streams.bad.thread-pool-size", Key("streams.bad.thread-pool-size", Number)),
    (
        "streams.good.startup-check-interval",
        Key("streams.good.startup-check-interval", Form::Duration),
    ),
    (
        "streams.bad.startup-check-interval",
        Key("streams.bad.startup-check-interval", Form::Duration),
    ),
    (
        "streams.good.backoff-policy.min-backoff",
        Key("streams.good.backoff-policy.min-backoff", Millis),
    ),
    (
        "streams.good.backoff-policy.max-backoff",
        Key("streams.good.backoff-policy.max-backoff", Millis),
    ),
    (
        "streams.good.backoff-policy.max-retries",
        Key("streams.good.backoff-policy.max-retries", Number),
    ),
    (
        "streams.bad.backoff-policy.min-backoff",
        Key("streams.bad.backoff-policy.min-backoff", Millis),
    ),
    (
        "streams.bad.backoff-policy.max-backoff",
        Key("streams.bad.backoff-policy.max-backoff", Millis),
    ),
    (
        "streams.bad.backoff-policy.max-retries",
        Key("streams.bad.backoff-policy.max-retries", Number),
    ),
    ("streams.good.max-bytes", Key("networking.max-record-size", Number)),
    ("streams.bad.max-bytes", Dropped("bad rows lie beside the records, whose limit they share")),
    ("streams.buffer.byte-limit", Both("buffer.byte-limit", Number)),
    ("streams.buffer.record-limit", Both("buffer.record-limit", Number)),
    ("streams.buffer.time-limit", Both("buffer.time-limit", Millis)),
    ("streams.sink.thread-pool-size", Both("thread-pool-size", Number)),
    ("streams.sink.startup-check-interval", Both("startup-check-interval", Form::Duration)),
    ("streams.sink.max-bytes", Key("networking.max-record-size", Number)),
    ("streams.sink.backoff-policy.min-backoff", Both("backoff-policy.min-backoff", Millis)),
    ("streams.sink.backoff-policy.max-backoff", Both("backoff-policy.max-backoff", Millis)),
    ("streams.sink.backoff-policy.max-retries", Both("backoff-policy.max-retries", Number)),
    ("sink.buffer.byte-limit", Both("buffer.byte-limit", Number)),
    ("sink.buffer.record-limit", Both("buffer.record-limit", Number)),
    ("sink.buffer.time-limit", Both("buffer.time-limit", Millis)),
    ("sink.kinesis.thread-pool-size", Both("thread-pool-size", Number)),
    ("sink.kinesis.backoff-policy.min-backoff", Both("backoff-policy.min-backoff", Millis)),
    ("sink.kinesis.backoff-policy.max-backoff", Both("backoff-policy.max-backoff", Millis)),
    ("streams.sink.enabled", Becomes::Sink),
    ("sink.enabled", Becomes::Sink),
    ("sink.", Dropped(SINK)),
    ("streams.", Dropped(SINK)),
    ("monitoring.metrics.statsd.enabled", Key("monitoring.metrics.statsd.enabled", Bool)),
    ("monitoring.metrics.statsd.hostname", Key("monitoring.metrics.statsd.hostname", Text)),
    ("monitoring.metrics.statsd.port", Key("monitoring.metrics.statsd.port", Number)),
    ("monitoring.metrics.statsd.period", Key("monitoring.metrics.statsd.period", Form::Duration)),
    ("monitoring.metrics.statsd.prefix", Key("monitoring.metrics.statsd.prefix", Text)),
    ("monitoring.metrics.statsd.tags", Map("monitoring.metrics.statsd.tags")),
    ("telemetry.disable", Key("telemetry.disable", Bool)),
    ("telemetry.interval", Key("telemetry.interval", Form::Duration)),
    ("telemetry.method", Key("telemetry.method", Text)),
    ("telemetry.url", Key("telemetry.url", Text)),
    ("telemetry.port", Key("telemetry.port", Number)),
    ("telemetry.secure", Key("telemetry.secure", Bool)),
    ("telemetry.user-provided-id", Key("telemetry.user-provided-id", Text)),
    ("telemetry.module-name", Key("telemetry.module-name", Text)),
    ("telemetry.module-version", Key("telemetry.module-version", Text)),
    ("telemetry.instance-id", Key("telemetry.instance-id", Text)),
    ("telemetry.auto-generated-id", Key("telemetry.auto-generated-id", Text)),
    ("telemetry.", Dropped(NO_TELEMETRY)),
    ("akka.http.server.idle-timeout", Key("networking.idle-timeout", Form::Duration)),
    ("akka.http.server.request-timeout", Key("networking.response-header-timeout", Form::Duration)),
    ("akka.http.server.max-connections", Key("networking.max-connections", Number)),
    ("akka.http.server.parsing.max-uri-length", Key("networking.max-request-line-length", Number)),
    ("akka.", Dropped(NO_AKKA)),
    ("spray.", Dropped(NO_AKKA)),
];

/// What becomes of a key; `None` for one that nobody knows. The namespace `collector` may be there or not.
pub(super) fn find(path: &[String]) -> Option<&'static Becomes> {
    let path = match path {
        [first, rest @ ..] if first == "collector" => rest,
        path => path,
    };
    let name = path.iter().map(|name| kebab(name)).collect::<Vec<_>>().join(".");
    KEYS.iter()
        .find(|(key, _)| match key.strip_suffix('.') {
            Some(section) => name
                .strip_prefix(section)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.')),
            None => name == *key,
        })
        .map(|(_, becomes)| becomes)
}

/// `maxConnections` as `max-connections`; `CP` as `cp`.
fn kebab(name: &str) -> String {
    let mut kebab = String::new();
    let mut before_is_small = false;
    for char in name.chars() {
        if char.is_uppercase() && before_is_small {
            kebab.push('-');
        }
        before_is_small = char.is_lowercase() || char.is_numeric();
        kebab.extend(char.to_lowercase());
    }
    kebab
}

impl Form {
    /// The value as TOML.
    ///
    /// # Errors
    /// Why it cannot be said, in words.
    pub(super) fn toml(self, value: &Value) -> Result<String, String> {
        let text = match (self, value) {
            (Form::List, Value::List(items)) => {
                let items: Result<Vec<String>, String> =
                    items.iter().map(|item| Form::Text.toml(item)).collect();
                return Ok(format!("[{}]", items?.join(", ")));
            }
            (_, Value::Text(text)) => text.as_str(),
            (_, Value::Null | Value::List(_) | Value::Object(_)) => {
                return Err("its value has a form that was not expected".to_owned());
            }
        };
        match self {
            Form::Text => Ok(quote(text)),
            Form::List => Ok(format!("[{}]", quote(text))),
            Form::Bool => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" => Ok("true".to_owned()),
                "false" | "no" | "off" => Ok("false".to_owned()),
                _ => Err(format!("`{text}` is neither true nor false")),
            },
            Form::Number => text
                .parse::<u64>()
                .map(|number| number.to_string())
                .map_err(|_| format!("`{text}` is not a whole number")),
            Form::Address => {
                match text {
                    "localhost" => Ok(quote("127.0.0.1")),
                    _ => text.parse().map(|address: IpAddr| quote(&address.to_string())).map_err(
                        |_| format!("`{text}` is not an IP address, and names are not looked up"),
                    ),
                }
            }
            Form::Duration | Form::Millis => {
                let duration = duration(text)
                    .ok_or_else(|| format!("`{text}` is not a duration of whole milliseconds"))?;
                Ok(quote(&model::duration::print(duration)))
            }
        }
    }
}

/// A duration as HOCON writes it: a number, of milliseconds unless a unit follows.
fn duration(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let unit_ms = match text[digits..].trim() {
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1,
        "s" | "second" | "seconds" => 1000,
        "m" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(unit_ms).map(Duration::from_millis)
}

/// A basic string of TOML.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            '\r' => quoted.push_str("\\r"),
            char if char.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(char))),
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_in_kebab_case() {
        for (name, expect) in [
            ("maxConnections", "max-connections"),
            ("byte-limit", "byte-limit"),
            ("CP", "cp"),
            ("policyRef", "policy-ref"),
            ("p3p", "p3p"),
            ("useIpAddressAsPartitionKey", "use-ip-address-as-partition-key"),
        ] {
            assert_eq!(kebab(name), expect);
        }
    }

    #[test]
    fn values_become_toml_or_say_why_not() {
        let toml = |form: Form, text: &str| form.toml(&Value::Text(text.to_owned()));
        assert_eq!(toml(Form::Duration, "365 days").unwrap(), "\"365d\"");
        assert_eq!(toml(Form::Duration, "5 seconds").unwrap(), "\"5s\"");
        assert_eq!(toml(Form::Millis, "5000").unwrap(), "\"5s\"");
        assert_eq!(toml(Form::Bool, "yes").unwrap(), "true");
        assert_eq!(toml(Form::Text, "a\"\\\n\u{1}").unwrap(), "\"a\\\"\\\\\\n\\u0001\"");
        assert_eq!(toml(Form::Address, "localhost").unwrap(), "\"127.0.0.1\"");
        for (form, text) in [
            (Form::Duration, "-1"),
            (Form::Duration, "5 ns"),
            (Form::Number, "many"),
            (Form::Bool, "maybe"),
            (Form::Address, "c.example"),
        ] {
            assert!(toml(form, text).unwrap_err().contains(text), "{text}");
        }
        let list = Value::List(vec![Value::Text("a".to_owned()), Value::Text("b".to_owned())]);
        assert_eq!(Form::List.toml(&list).unwrap(), "[\"a\", \"b\"]");
    }
}
