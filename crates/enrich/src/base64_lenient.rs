//! Base64 as trackers send it: any alphabet, any padding, anything between. Snowplow: `enrich-core.md` 2.3, "base64".
//!
//! Used for `ue_px`, `cx` and the cross-domain parameter. It never fails; garbage becomes a JSON error later.

use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::{NO_PAD, URL_SAFE_NO_PAD};
use base64::engine::{GeneralPurposeConfig, Simd};

/// Decodes as much as there is, up to the first `=`, as UTF-8 with U+FFFD for what is malformed.
pub(crate) fn decode(text: &str) -> String {
    let bytes = decode_plain(text).unwrap_or_else(|| decode_any(text));
    String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// The same bytes as [`decode_any`] gives for a text of one alphabet with nothing between, which is many times faster;
/// `None` for any other.
fn decode_plain(text: &str) -> Option<Vec<u8>> {
    // Bits behind the last whole byte have no meaning.
    const CONFIG: GeneralPurposeConfig = NO_PAD.with_decode_allow_trailing_bits(true);
    // With vector instructions, where the processor has them.
    static URL_SAFE: LazyLock<Simd> = LazyLock::new(|| Simd::url_safe(CONFIG));
    static STANDARD: LazyLock<Simd> = LazyLock::new(|| Simd::standard(CONFIG));
    let text = text.trim_end_matches('=');
    URL_SAFE.decode(text).or_else(|_| STANDARD.decode(text)).ok()
}

fn decode_any(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.bytes().take_while(|byte| *byte != b'=') {
        let Some(value) = value_of(byte) else { continue };
        bits = bits << 6 | value;
        count += 1;
        if count == 4 {
            bytes.extend_from_slice(&bits.to_be_bytes()[1..]);
            (bits, count) = (0, 0);
        }
    }
    // Two characters leave 12 bits, of which 8 count; three leave 18 and 16.
    match count {
        2 => bytes.push((bits >> 4) as u8),
        3 => bytes.extend_from_slice(&((bits >> 2) as u16).to_be_bytes()),
        _ => {}
    }
    bytes
}

/// Encodes in the URL-safe alphabet without padding, as trackers do.
pub(crate) fn encode(text: &str) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

fn value_of(byte: u8) -> Option<u32> {
    match byte {
        b'A'..=b'Z' => Some(u32::from(byte - b'A')),
        b'a'..=b'z' => Some(u32::from(byte - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(byte - b'0') + 52),
        b'+' | b'-' => Some(62),
        b'/' | b'_' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_short_way_gives_the_same_bytes(text in "([A-Za-z0-9_-]{0,8}|[A-Za-z0-9+/]{0,8}|[A-Z+/_=* -]{0,6}){1,3}={0,2}") {
            if let Some(bytes) = decode_plain(&text) {
                prop_assert_eq!(bytes, decode_any(&text));
            }
        }

        #[test]
        fn what_was_encoded_comes_back_whatever_stands_between(text in ".{0,40}") {
            let encoded = encode(&text);
            prop_assert_eq!(decode(&encoded), text.clone());
            let strewn: String = encoded.chars().flat_map(|c| [c, '\n', '*']).collect();
            prop_assert_eq!(decode(&(strewn + "==QUJD")), text);
        }
    }
}
