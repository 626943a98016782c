//! The collector payload: what one HTTP request left behind, and its bytes on the raw stream.

/// One recorded request. Snowplow: `collector.md` 5; field ids in the codec below.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectorPayload {
    /// `unknown` when it is not known.
    pub ip_address: String,
    /// Milliseconds since the epoch, taken when the record was built.
    pub timestamp: i64,
    /// A charset name; ours is always `UTF-8`.
    pub encoding: String,
    pub collector: String,
    pub user_agent: Option<String>,
    pub referer_uri: Option<String>,
    pub path: Option<String>,
    /// Still percent-encoded, without the question mark.
    pub querystring: Option<String>,
    pub body: Option<String>,
    /// `Name: value` each, in the order of arrival.
    pub headers: Option<Vec<String>>,
    pub content_type: Option<String>,
    pub hostname: Option<String>,
    pub network_userid: Option<String>,
    /// `iglu:com.snowplowanalytics.snowplow/CollectorPayload/thrift/1-0-0`
    pub schema: String,
}
