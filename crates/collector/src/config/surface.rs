//! What a collector can be told about its answers, beside cookies and CORS: which Snowplow release it stands in for,
//! the optional routes, redirects, and who is left alone. Snowplow: `collector.md` 0 and 8.1.

use super::is_token;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// Which Snowplow collector this one stands in for. Snowplow: `collector.md` 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Compat {
    /// The line whose answers and records are given: `v3` or `v2`. Default: `v3`.
    #[schemars(with = "String")]
    pub profile: Profile,
    /// Follow that line in its faults as well, for comparing the two. Default: false, which repairs them: see
    /// `docs/guides/collector.md`.
    pub strict: bool,
}

/// A line of Snowplow's collector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// 2.x
    V2,
    /// 3.x
    #[default]
    V3,
}

impl Compat {
    pub(crate) fn is_v2(self) -> bool {
        self.profile == Profile::V2
    }

    /// Whether the faults of 3.x are wanted.
    pub(crate) fn is_strict_v3(self) -> bool {
        self.strict && self.profile == Profile::V3
    }
}

/// `Strict-Transport-Security` on every answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Hsts {
    /// Whether the header is sent. Default: false.
    pub enable: bool,
    /// How long a browser is to insist on HTTPS, in whole seconds. Default: 365d.
    #[serde(with = "model::duration::serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub max_age: Duration,
}

/// The `P3P` header, which only the profile `v2` sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct P3p {
    /// Where the policy lies. Default: `/w3c/p3p.xml`.
    pub policy_ref: String,
    /// The compact policy. Default: `NOI DSP COR NID PSA OUR IND COM NAV STA`.
    pub cp: String,
}

/// `/crossdomain.xml`, for Flash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CrossDomain {
    /// Whether the file is there. Default: false, 404.
    pub enabled: bool,
    /// The domains that are allowed. Default: `*`.
    pub domains: Vec<String>,
    /// The `secure` attribute of each. Default: true.
    pub secure: bool,
}

/// A cookie by which a person asks not to be tracked: such a request is answered as usual, sets no cookie and is not
/// recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct DoNotTrackCookie {
    /// Whether it is looked at. Default: false.
    pub enabled: bool,
    /// Its name. Default: none.
    pub name: String,
    /// A regular expression that the whole value must match; without look-around and back-references. Default: none.
    pub value: String,
}

/// The probe for browsers that keep no third-party cookie: a pixel without a user id is sent back to the same URL once,
/// and only the second request is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct CookieBounce {
    /// Whether it is made. Default: false.
    pub enabled: bool,
    /// The parameter that marks the second request. Default: `n3pc`.
    pub name: String,
    /// The user id of a second request that has none. Default: `00000000-0000-4000-A000-000000000000`.
    pub fallback_network_user_id: String,
    /// A header in which a balancer says `http` or `https`; the second URL is absolute then, and relative without it.
    /// Default: none, written `""`.
    pub forwarded_protocol_header: String,
}

/// The macro in redirect targets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RedirectMacro {
    /// Whether the placeholder in a target is replaced by the network user id. Default: false.
    pub enabled: bool,
    /// The text that is replaced. Default: `${SP_NUID}`.
    pub placeholder: String,
}

/// What `GET /` answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct RootResponse {
    /// Whether it answers at all. Default: false, 404.
    pub enabled: bool,
    /// The status, 200 to 599. Default: 302.
    pub status_code: u16,
    /// Headers by name. Default: none.
    pub headers: BTreeMap<String, String>,
    /// The body. Default: empty.
    pub body: String,
}

/// Many payloads in one compressed record of the raw stream. Snowplow: `collector.md` 5.4.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Compression {
    /// Whether requests share compressed records. Default: false. Each answer waits for its record, up to
    /// `time-limit`.
    pub enabled: bool,
    /// `zstd` or `gzip`. Default: `zstd`.
    #[serde(rename = "type")]
    #[schemars(with = "String")]
    pub kind: CompressionType,
    /// 1 to 22. Default: 9.
    pub zstd_compression_level: i32,
    /// 1 to 9. Default: 6.
    pub gzip_compression_level: u32,
    /// How long a record is kept open for more payloads. Default: 300ms.
    #[serde(with = "model::duration::serde")]
    #[schemars(with = "String", extend("format" = "duration"))]
    pub time_limit: Duration,
}

/// How a record of many payloads is compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CompressionType {
    #[default]
    Zstd,
    Gzip,
}

impl Default for Hsts {
    fn default() -> Hsts {
        Hsts { enable: false, max_age: Duration::from_secs(365 * 86_400) }
    }
}

impl Default for P3p {
    fn default() -> P3p {
        P3p {
            policy_ref: "/w3c/p3p.xml".to_owned(),
            cp: "NOI DSP COR NID PSA OUR IND COM NAV STA".to_owned(),
        }
    }
}

impl Default for CrossDomain {
    fn default() -> CrossDomain {
        CrossDomain { enabled: false, domains: vec!["*".to_owned()], secure: true }
    }
}

impl Default for CookieBounce {
    fn default() -> CookieBounce {
        CookieBounce {
            enabled: false,
            name: "n3pc".to_owned(),
            fallback_network_user_id: "00000000-0000-4000-A000-000000000000".to_owned(),
            forwarded_protocol_header: String::new(),
        }
    }
}

impl Default for RedirectMacro {
    fn default() -> RedirectMacro {
        RedirectMacro { enabled: false, placeholder: "${SP_NUID}".to_owned() }
    }
}

impl Default for RootResponse {
    fn default() -> RootResponse {
        RootResponse {
            enabled: false,
            status_code: 302,
            headers: BTreeMap::new(),
            body: String::new(),
        }
    }
}

impl Default for Compression {
    fn default() -> Compression {
        Compression {
            enabled: false,
            kind: CompressionType::Zstd,
            zstd_compression_level: 9,
            gzip_compression_level: 6,
            time_limit: Duration::from_millis(300),
        }
    }
}

impl DoNotTrackCookie {
    /// The expression, which matches whole values only. `None` when the cookie is not looked at.
    ///
    /// # Errors
    /// When the text is no regular expression, or one that this collector does not know.
    pub(crate) fn pattern(&self) -> Result<Option<regex::Regex>, regex::Error> {
        if !self.enabled {
            return Ok(None);
        }
        regex::Regex::new(&format!(r"\A(?:{})\z", self.value)).map(Some)
    }
}

/// Looks at the values that a type cannot refuse; `refuse` is told of each problem and its key.
pub(super) fn check(config: &super::Config, mut refuse: impl FnMut(bool, &str, &str)) {
    let line = |text: &str| !text.chars().any(char::is_control);
    for (from, to) in &config.paths {
        let two = |path: &str| {
            path.strip_prefix('/').is_some_and(|rest| rest.split('/').count() == 2 && line(rest))
        };
        refuse(
            !two(from) || !(two(to) || to == "/i" || to == "/ice.png"),
            "paths",
            "must map `/vendor/version` to `/vendor/version`, `/i` or `/ice.png`",
        );
    }
    let quotable = |text: &str| line(text) && !text.contains('"');
    let quoted = "one line of text without quotes";
    refuse(!quotable(&config.p3p.policy_ref), "p3p.policy-ref", quoted);
    refuse(!quotable(&config.p3p.cp), "p3p.cp", quoted);
    let plain = |text: &String| quotable(text) && !text.contains(['<', '>', '&']);
    refuse(
        !config.cross_domain.domains.iter().all(plain),
        "cross-domain.domains",
        "text without quotes, <, > and &",
    );
    let track = &config.do_not_track_cookie;
    refuse(
        track.enabled && !is_token(&track.name),
        "do-not-track-cookie.name",
        "must be the name of a cookie",
    );
    refuse(
        track.pattern().is_err(),
        "do-not-track-cookie.value",
        "must be a regular expression without look-around and back-references",
    );
    let bounce = &config.cookie_bounce;
    refuse(
        !is_token(&bounce.name),
        "cookie-bounce.name",
        "must be the name of a parameter: letters, digits and any of !#$%&'*+-.^_`|~",
    );
    let header = &bounce.forwarded_protocol_header;
    refuse(
        !header.is_empty() && !is_token(header),
        "cookie-bounce.forwarded-protocol-header",
        "must be the name of a header",
    );
    refuse(
        config.redirect_macro.enabled && config.redirect_macro.placeholder.is_empty(),
        "redirect-macro.placeholder",
        "must not be empty",
    );
    let root = &config.root_response;
    refuse(
        !(200..=599).contains(&root.status_code),
        "root-response.status-code",
        "must be 200 to 599",
    );
    // The collector ends the answer itself: a second length would be a second meaning.
    let ours = ["content-length", "transfer-encoding", "connection", "date"];
    let name = |name: &str| is_token(name) && !ours.contains(&name.to_ascii_lowercase().as_str());
    refuse(
        !root.headers.iter().all(|(key, value)| name(key) && line(value)),
        "root-response.headers",
        "must be headers, none of them Content-Length, Transfer-Encoding, Connection or Date",
    );
    let compression = &config.compression;
    refuse(
        !(1..=22).contains(&compression.zstd_compression_level),
        "compression.zstd-compression-level",
        "must be 1 to 22",
    );
    refuse(
        !(1..=9).contains(&compression.gzip_compression_level),
        "compression.gzip-compression-level",
        "must be 1 to 9",
    );
}
