//! Thrift collector payloads: any bytes are read or refused, and what was read is written and read back as it was.

use model::payload::CollectorPayload;

pub(crate) fn payload(bytes: &[u8]) {
    let Ok(payload) = CollectorPayload::decode(bytes) else { return };
    let written = payload.encode();
    assert_eq!(CollectorPayload::decode(&written).as_ref(), Ok(&payload));
    assert_eq!(payload.encode(), written);
}
