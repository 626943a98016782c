//! Whose address is recorded, and how much of it. Snowplow: `collector.md` 4.1 and 10.2.

use ipnetwork::IpNetwork;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The address of the client. With the defaults it is Snowplow's choice, the first of `X-Forwarded-For`, and the headers
/// are recorded as they came. With any other setting the address is chosen here, and the headers that carry addresses
/// are not recorded: enrich would choose again from them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Ip {
    /// Headers to look for the address in, the best first, for example `["CF-Connecting-IP", "X-Forwarded-For"]`. The
    /// first that has one is taken, else the connection's own address. Default: none, which means `X-Forwarded-For`.
    pub headers: Vec<String>,
    /// Networks of your own balancers and proxies, as `10.0.0.0/8`. Then a connection from elsewhere is its own client,
    /// whatever its headers say, and of a list of addresses the last one outside of these networks is the client's.
    /// Default: none, which believes everybody and takes the first of a list.
    #[schemars(with = "Vec<String>")]
    pub trusted_proxies: Vec<IpNetwork>,
    /// How much of the address is recorded.
    pub anonymize: Anonymize,
}

/// The end of an address that is set to zero before it is recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Anonymize {
    /// Octets of an IPv4 address, 0 to 4. Default: 0.
    pub ipv4_octets: u8,
    /// Groups of 16 bits of an IPv6 address, 0 to 8. Default: 0.
    pub ipv6_segments: u8,
}

impl Ip {
    /// Whether the address is chosen here, and not by Snowplow's rule.
    pub(crate) fn is_set(&self) -> bool {
        *self != Ip::default()
    }
}

/// Looks at the values that a type cannot refuse; `refuse` is told of each problem and its key.
pub(super) fn check(config: &super::Config, mut refuse: impl FnMut(bool, &str, &str)) {
    let ip = &config.ip;
    refuse(
        !ip.headers.iter().all(|name| super::is_token(name)),
        "ip.headers",
        "a name of letters, digits and any of !#$%&'*+-.^_`|~",
    );
    refuse(ip.anonymize.ipv4_octets > 4, "ip.anonymize.ipv4-octets", "must be 4 or less");
    refuse(ip.anonymize.ipv6_segments > 8, "ip.anonymize.ipv6-segments", "must be 8 or less");
    refuse(
        ip.is_set() && config.compat.strict,
        "ip",
        "differs from Snowplow's collector, so it goes without `compat.strict`",
    );
}
