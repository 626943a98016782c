//! The client's address, from the forwarding headers or else from the collector. Snowplow: `enrich-core.md` 1.5.
//!
//! Called by the loader. The token grammar is deliberately loose (no range checks): the value is a label here, and the
//! columns' own length limit still applies.

/// Walks the headers in order. The first `X-Forwarded-For` with an address wins; a `Forwarded` is remembered. If
/// `forwarded_must_be_last`, any header after it that is not itself a `Forwarded` makes it forgotten.
pub(crate) fn client_ip(
    headers: &[impl AsRef<str>],
    collector_ip: &str,
    forwarded_must_be_last: bool,
) -> String {
    let mut forwarded = None;
    for header in headers {
        let header = header.as_ref();
        if let Some(rest) = strip_prefix_ignoring_case(header, "x-forwarded-for: ")
            && let Some(address) = address_at_start(rest)
        {
            return address;
        }
        let found =
            strip_prefix_ignoring_case(header, "forwarded: for=").and_then(address_at_start);
        if found.is_some() || forwarded_must_be_last {
            forwarded = found;
        }
    }
    forwarded.unwrap_or_else(|| collector_ip.to_owned())
}

/// The address up to the first comma, bar or space.
pub(crate) fn cut(address: &str) -> &str {
    let end = address.bytes().position(|byte| matches!(byte, b',' | b'|' | b' '));
    &address[..end.unwrap_or(address.len())]
}

fn strip_prefix_ignoring_case<'a>(header: &'a str, prefix: &str) -> Option<&'a str> {
    let (start, rest) = header.split_at_checked(prefix.len())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// The address that `text` begins with, in lower case, without a quote or bracket before it.
fn address_at_start(text: &str) -> Option<String> {
    let text = text.strip_prefix('"').unwrap_or(text);
    let text = text.strip_prefix('[').unwrap_or(text);
    let length = ipv4_len(text.as_bytes()).or_else(|| pieces_len(text.as_bytes()))?;
    Some(text[..length].to_ascii_lowercase())
}

/// The length of four groups of one to three digits, if `text` begins with them.
fn ipv4_len(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    for group in 0..4 {
        let digits = text[at..].iter().take(3).take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return None;
        }
        at += digits;
        if group < 3 {
            if text.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
    }
    Some(at)
}

/// The length of the longest run of at most 15 pieces: a point, a colon, or a whole word of one to four hex digits.
fn pieces_len(text: &[u8]) -> Option<usize> {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let mut at = 0;
    for _ in 0..15 {
        match text.get(at) {
            Some(b'.' | b':') => at += 1,
            Some(byte) if byte.is_ascii_hexdigit() => {
                // Six bytes are enough to see that a word is too long.
                let word = text[at..].iter().take(6).take_while(|byte| is_word(byte)).count();
                let hex = text[at..at + word].iter().all(u8::is_ascii_hexdigit);
                if word > 4 || !hex {
                    break;
                }
                at += word;
            }
            _ => break,
        }
    }
    (at > 0).then_some(at)
}
