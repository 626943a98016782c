//! The collector payload: what one HTTP request left behind, and its bytes on the raw stream.
//!
//! The collector writes it field by field with a [`Writer`], enrich and the offline tools read it. The bytes are the
//! Thrift binary protocol without an envelope (Snowplow: `collector.md` 5): each field is a type byte, a 16-bit id and
//! a value, all numbers big-endian; a zero byte ends the struct. The ids below are those on the wire; the interface
//! text that is published for the same schema has other ids, which nothing uses. The reader is in [`read`].
//! What a payload means, its events and their checks, is `enrich`'s.

mod read;

pub use read::Payload;

/// The schema that every payload of ours names.
pub const SCHEMA: &str = "iglu:com.snowplowanalytics.snowplow/CollectorPayload/thrift/1-0-0";

/// How deep unknown structs and containers may be nested.
const DEPTH_MAX: u32 = 64;

const BOOL: u8 = 2;
const BYTE: u8 = 3;
const DOUBLE: u8 = 4;
const I16: u8 = 6;
const I32: u8 = 8;
const I64: u8 = 10;
const STRING: u8 = 11;
const STRUCT: u8 = 12;
const MAP: u8 = 13;
const SET: u8 = 14;
const LIST: u8 = 15;
const STOP: u8 = 0;

const TIMESTAMP: i16 = 200;
const HEADERS: i16 = 350;

/// One recorded request. Snowplow: `collector.md` 5; field ids in [`Field`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CollectorPayload {
    /// `unknown` when it is not known.
    pub ip_address: String,
    /// Milliseconds since the epoch, taken when the record was built.
    pub timestamp: i64,
    /// A charset name; ours is always `UTF-8`. Empty when the field was missing.
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

/// The text fields and their ids on the wire, in the order in which they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(i16)]
pub enum Field {
    IpAddress = 100,
    Encoding = 210,
    Collector = 220,
    UserAgent = 300,
    RefererUri = 310,
    Path = 320,
    Querystring = 330,
    Body = 340,
    ContentType = 360,
    Hostname = 400,
    NetworkUserId = 410,
    Schema = 31337,
}

impl CollectorPayload {
    /// The bytes of the raw record: fields in ascending order of their ids, absent ones left out.
    pub fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(self.encoded_len());
        let optional = |writer: &mut Writer, field, text: &Option<String>| {
            if let Some(text) = text {
                writer.text(field, text);
            }
        };
        writer.text(Field::IpAddress, &self.ip_address);
        writer.timestamp(self.timestamp);
        writer.text(Field::Encoding, &self.encoding);
        writer.text(Field::Collector, &self.collector);
        optional(&mut writer, Field::UserAgent, &self.user_agent);
        optional(&mut writer, Field::RefererUri, &self.referer_uri);
        optional(&mut writer, Field::Path, &self.path);
        optional(&mut writer, Field::Querystring, &self.querystring);
        optional(&mut writer, Field::Body, &self.body);
        if let Some(headers) = &self.headers {
            let mut list = writer.headers();
            for header in headers {
                list.push(&[header]);
            }
        }
        optional(&mut writer, Field::ContentType, &self.content_type);
        optional(&mut writer, Field::Hostname, &self.hostname);
        optional(&mut writer, Field::NetworkUserId, &self.network_userid);
        writer.finish(&self.schema)
    }

    /// Reads a raw record, as [`Payload::decode`] does.
    ///
    /// # Errors
    /// When the bytes are not a Thrift struct; [`InvalidPayload`] prints the cause in the words of the bad row.
    pub fn decode(bytes: &[u8]) -> Result<CollectorPayload, InvalidPayload> {
        Payload::decode(bytes).map(Payload::into_owned)
    }

    fn encoded_len(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, |text| 7 + text.len());
        let headers = self.headers.iter().flatten().map(|header| 4 + header.len()).sum::<usize>();
        64 + self.ip_address.len()
            + self.encoding.len()
            + self.collector.len()
            + self.schema.len()
            + headers
            + text(&self.user_agent)
            + text(&self.referer_uri)
            + text(&self.path)
            + text(&self.querystring)
            + text(&self.body)
            + text(&self.content_type)
            + text(&self.hostname)
            + text(&self.network_userid)
    }
}

/// Writes a collector payload straight into its bytes. The caller writes the fields in the order of their ids
/// (`timestamp` after the ip address, `headers` after the body) and ends with [`Writer::finish`].
#[derive(Debug)]
pub struct Writer {
    bytes: Vec<u8>,
    last: i16,
}

impl Writer {
    /// `bytes` is a guess of the whole length.
    pub fn with_capacity(bytes: usize) -> Writer {
        Writer { bytes: Vec::with_capacity(bytes), last: 0 }
    }

    /// Writes one text field.
    ///
    /// # Panics
    /// When the text is longer than the format can say (2 GiB), or, in a debug build, when the order is wrong.
    pub fn text(&mut self, field: Field, text: &str) {
        self.field(STRING, field as i16);
        self.length(text.len());
        self.bytes.extend_from_slice(text.as_bytes());
    }

    /// How many bytes are written so far.
    pub fn bytes_written(&self) -> usize {
        self.bytes.len()
    }

    /// Milliseconds since the epoch.
    pub fn timestamp(&mut self, millis: i64) {
        self.field(I64, TIMESTAMP);
        self.bytes.extend_from_slice(&millis.to_be_bytes());
    }

    /// Begins the list of headers; it ends when the returned value is dropped.
    pub fn headers(&mut self) -> HeaderList<'_> {
        self.field(LIST, HEADERS);
        self.bytes.push(STRING);
        let count_at = self.bytes.len();
        self.length(0);
        HeaderList { writer: self, count_at, count: 0 }
    }

    /// Writes the schema, the last field, and the end of the struct.
    pub fn finish(mut self, schema: &str) -> Vec<u8> {
        self.text(Field::Schema, schema);
        self.bytes.push(STOP);
        self.bytes
    }

    fn field(&mut self, kind: u8, id: i16) {
        debug_assert!(self.last < id, "field {id} after field {}", self.last);
        self.last = id;
        self.bytes.push(kind);
        self.bytes.extend_from_slice(&id.to_be_bytes());
    }

    fn length(&mut self, length: usize) {
        let length = i32::try_from(length).expect("a text of a payload is shorter than 2 GiB");
        self.bytes.extend_from_slice(&length.to_be_bytes());
    }
}

/// The list of headers while it is being written.
#[derive(Debug)]
pub struct HeaderList<'a> {
    writer: &'a mut Writer,
    count_at: usize,
    count: u32,
}

impl HeaderList<'_> {
    /// Adds one entry, given in pieces.
    pub fn push(&mut self, pieces: &[&str]) {
        self.count += 1;
        self.writer.length(pieces.iter().map(|piece| piece.len()).sum());
        for piece in pieces {
            self.writer.bytes.extend_from_slice(piece.as_bytes());
        }
    }
}

impl Drop for HeaderList<'_> {
    fn drop(&mut self) {
        let count = &mut self.writer.bytes[self.count_at..self.count_at + 4];
        count.copy_from_slice(&self.count.to_be_bytes());
    }
}

/// Bytes that are not a collector payload. The text is the cause that a bad row quotes after
/// `error deserializing raw event: ` (Snowplow: `enrich-core.md` 1.3).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPayload {
    /// The bytes end inside a field, or a length points beyond them.
    #[error("Reached end of bytes when parsing as thrift format")]
    Truncated,
    #[error("Negative size: {0}")]
    NegativeSize(i32),
    #[error("Unrecognized type {0}")]
    UnknownType(u8),
    #[error("Maximum skip depth exceeded")]
    TooDeep,
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    const NIL: &str = "00000000-0000-0000-0000-000000000000";

    fn sha256(bytes: &[u8]) -> String {
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn pixel_hit() -> CollectorPayload {
        CollectorPayload {
            ip_address: "unknown".to_owned(),
            timestamp: 0,
            encoding: "UTF-8".to_owned(),
            collector: "ssc-3.4.0-x".to_owned(),
            path: Some("/i".to_owned()),
            querystring: Some(String::new()),
            headers: Some(vec![]),
            network_userid: Some(NIL.to_owned()),
            schema: SCHEMA.to_owned(),
            ..CollectorPayload::default()
        }
    }

    fn post() -> CollectorPayload {
        let id = "ea2f6e3b-0f4c-4d0f-9d57-2f6f3b1c8a11";
        let headers = [
            "Host: c.example.com",
            "User-Agent: curl/8.5.0",
            &format!("Cookie: sp={id}"),
            "Content-Type: application/json; charset=UTF-8",
            "application/json; charset=utf-8",
        ];
        CollectorPayload {
            ip_address: "203.0.113.7".to_owned(),
            timestamp: 1_700_000_000_123,
            encoding: "UTF-8".to_owned(),
            collector: "ssc-3.4.0-kinesissink".to_owned(),
            user_agent: Some("curl/8.5.0".to_owned()),
            path: Some("/com.snowplowanalytics.snowplow/tp2".to_owned()),
            querystring: Some(String::new()),
            body: Some("{}".to_owned()),
            headers: Some(headers.map(str::to_owned).to_vec()),
            content_type: Some("application/json; charset=utf-8".to_owned()),
            network_userid: Some(id.to_owned()),
            schema: SCHEMA.to_owned(),
            ..CollectorPayload::default()
        }
    }

    #[test]
    fn the_worked_example_of_a_pixel_hit_is_equal_byte_for_byte() {
        let bytes = pixel_hit().encode();
        assert_eq!(bytes.len(), 195);
        assert_eq!(
            sha256(&bytes),
            "19bf74117a890955d2189e33ffdc836b23c008791e42a821cd1255536401fc61"
        );
        assert_eq!(CollectorPayload::decode(&bytes), Ok(pixel_hit()));
    }

    #[test]
    fn the_worked_example_of_a_post_is_equal_byte_for_byte() {
        let bytes = post().encode();
        assert_eq!(bytes.len(), 490);
        assert_eq!(
            sha256(&bytes),
            "4c744ec49695302fbfa3a29c5f3f842434df20be702b70aa159061026acf57c3"
        );
        assert!(STANDARD.encode(&bytes).starts_with("CwBkAAAACzIwMy4wLjExMy43CgDIAAABi8/laHs"));
        assert_eq!(CollectorPayload::decode(&bytes), Ok(post()));
    }

    #[test]
    fn every_truncation_says_that_the_bytes_ended() {
        let bytes = post().encode();
        for length in 0..bytes.len() {
            let error = CollectorPayload::decode(&bytes[..length]).unwrap_err();
            assert_eq!(error, InvalidPayload::Truncated, "{length}");
        }
        assert_eq!(
            InvalidPayload::Truncated.to_string(),
            "Reached end of bytes when parsing as thrift format"
        );
    }

    #[test]
    fn the_published_field_ids_name_no_field() {
        let mut bytes = post().encode();
        // 100 becomes 20, as the published interface text has it.
        bytes[1..3].copy_from_slice(&20_i16.to_be_bytes());
        assert_eq!(CollectorPayload::decode(&bytes).unwrap().ip_address, "");
    }

    #[test]
    fn fields_may_stand_in_any_order_and_bytes_may_follow_the_struct() {
        let mut bytes = Vec::new();
        for (id, text) in [(31337_i16, SCHEMA), (320, "/i"), (100, "unknown")] {
            bytes.push(STRING);
            bytes.extend_from_slice(&id.to_be_bytes());
            bytes.extend_from_slice(&i32::try_from(text.len()).unwrap().to_be_bytes());
            bytes.extend_from_slice(text.as_bytes());
        }
        bytes.extend_from_slice(&[STOP, 1, 2, 3]);
        let payload = CollectorPayload::decode(&bytes).unwrap();
        assert_eq!((payload.schema.as_str(), payload.path.as_deref()), (SCHEMA, Some("/i")));
        assert_eq!((payload.ip_address.as_str(), payload.headers), ("unknown", None));
    }

    fn with_unknown(kind: u8, value: &[u8]) -> Result<CollectorPayload, InvalidPayload> {
        let mut bytes = vec![kind, 0, 1];
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(&pixel_hit().encode());
        CollectorPayload::decode(&bytes)
    }

    #[test]
    fn unknown_fields_of_every_type_are_skipped() {
        let cases: &[(u8, &[u8])] = &[
            (BOOL, &[1]),
            (BYTE, &[7]),
            (DOUBLE, &[0; 8]),
            (I16, &[0; 2]),
            (I32, &[0; 4]),
            (I64, &[0; 8]),
            (STRING, &[0, 0, 0, 2, 255, 254]),
            (STRUCT, &[I32, 0, 1, 0, 0, 0, 5, STOP]),
            (MAP, &[STRING, I16, 0, 0, 0, 1, 0, 0, 0, 1, 65, 0, 9]),
            (MAP, &[0, 0, 0, 0, 0, 0]),
            (SET, &[BOOL, 0, 0, 0, 2, 0, 1]),
            (LIST, &[LIST, 0, 0, 0, 1, BYTE, 0, 0, 0, 1, 9]),
        ];
        for (kind, value) in cases {
            assert_eq!(with_unknown(*kind, value), Ok(pixel_hit()), "type {kind}");
        }
        assert_eq!(with_unknown(99, &[]), Err(InvalidPayload::UnknownType(99)));
        assert_eq!(with_unknown(99, &[]).unwrap_err().to_string(), "Unrecognized type 99");
    }

    #[test]
    fn a_known_field_of_another_type_is_skipped() {
        let bytes = [I32, 0, 100, 0, 0, 0, 5, LIST, 1, 0x5e, I16, 0, 0, 0, 1, 0, 5, STOP];
        assert_eq!(CollectorPayload::decode(&bytes), Ok(CollectorPayload::default()));
    }

    #[test]
    fn claims_of_huge_sizes_and_deep_nesting_end_in_an_error() {
        let huge = [0x7f, 0xff, 0xff, 0xff];
        let list = [&[STRUCT][..], &huge].concat();
        assert_eq!(with_unknown(LIST, &list), Err(InvalidPayload::Truncated));
        let map = [&[BOOL, BOOL][..], &huge].concat();
        assert_eq!(with_unknown(MAP, &map), Err(InvalidPayload::Truncated));
        assert_eq!(with_unknown(STRING, &huge), Err(InvalidPayload::Truncated));
        assert_eq!(with_unknown(STRING, &[255; 4]), Err(InvalidPayload::NegativeSize(-1)));
        let headers = [&[LIST, 1, 0x5e, STRING][..], &huge, &[0; 64]].concat();
        assert_eq!(CollectorPayload::decode(&headers), Err(InvalidPayload::Truncated));
        let deep = [STRUCT, 0, 1].repeat(100_000);
        assert_eq!(CollectorPayload::decode(&deep), Err(InvalidPayload::TooDeep));
    }

    #[test]
    fn text_that_is_not_utf8_is_read_with_replacement_characters() {
        let bytes = [STRING, 1, 0x54, 0, 0, 0, 3, b'a', 0xff, b'b', STOP];
        let payload = CollectorPayload::decode(&bytes).unwrap();
        assert_eq!(payload.body.as_deref(), Some("a\u{fffd}b"));
    }

    prop_compose! {
        fn payloads()(
            required in prop::array::uniform4(".*"),
            timestamp: i64,
            optional in prop::array::uniform8(prop::option::of(".*")),
            headers in prop::option::of(prop::collection::vec(".*", 0..5)),
        ) -> CollectorPayload {
            let [ip_address, encoding, collector, schema] = required;
            let [user_agent, referer_uri, path, querystring, body, content_type, hostname,
                network_userid] = optional;
            CollectorPayload {
                ip_address, timestamp, encoding, collector, user_agent, referer_uri, path,
                querystring, body, headers, content_type, hostname, network_userid, schema,
            }
        }
    }

    proptest! {
        #[test]
        fn an_encoded_payload_decodes_to_itself(payload in payloads()) {
            prop_assert_eq!(CollectorPayload::decode(&payload.encode()), Ok(payload));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes: Vec<u8>) {
            let _ = CollectorPayload::decode(&bytes);
        }

        #[test]
        fn a_damaged_payload_does_not_panic(payload in payloads(), at: prop::sample::Index, byte: u8) {
            let mut bytes = payload.encode();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = CollectorPayload::decode(&bytes);
        }
    }
}
