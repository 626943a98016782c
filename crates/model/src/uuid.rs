//! UUIDs as Java's reader takes them: each group may be shorter than canonical.
//!
//! Read by enrich for the network user id of a payload (Snowplow: `enrich-core.md` 1.3) and by the analytics SDK for
//! event ids. Parameters of the tracker protocol are read strictly, which is enrich's own business.

/// The canonical form in lower case: groups that are too short are filled up with zeros. `None` for any other text.
pub fn lenient(text: &str) -> Option<String> {
    // Nearly all are whole.
    if is_canonical(text) {
        return Some(text.to_ascii_lowercase());
    }
    const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
    let mut printed = String::with_capacity(36);
    let mut groups = text.split('-');
    for (at, width) in GROUPS.into_iter().enumerate() {
        let group = groups.next()?;
        let is_hex = group.bytes().all(|byte| byte.is_ascii_hexdigit());
        if group.is_empty() || group.len() > width || !is_hex {
            return None;
        }
        if at > 0 {
            printed.push('-');
        }
        printed.extend(std::iter::repeat_n('0', width - group.len()));
        printed.push_str(&group.to_ascii_lowercase());
    }
    groups.next().is_none().then_some(printed)
}

/// Whether a text is a UUID of full groups, in any letter case.
pub fn is_canonical(text: &str) -> bool {
    let Some(bytes) = text.as_bytes().as_array::<36>() else { return false };
    // No early end, so that the compiler looks at many bytes at once.
    let is_one = |found: bool, byte: &u8| found & (byte.is_ascii_hexdigit() | (*byte == b'-'));
    let dashes = bytes.iter().filter(|byte| **byte == b'-').count();
    bytes.iter().fold(true, is_one)
        && dashes == 4
        && [8, 13, 18, 23].iter().all(|at| bytes[*at] == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_groups_of_hex_digits_are_canonical() {
        let id = "3F2b8f5e-0f2d-4c7a-9a35-0123456789ab";
        assert!(is_canonical(id));
        for at in 0..id.len() {
            for other in ["-", "g", "/", ":", "@", "`", "G", ""] {
                let mut text = id.to_owned();
                text.replace_range(at..=at, other);
                assert_eq!(is_canonical(&text), text == id, "{text}");
            }
        }
        assert!(
            !is_canonical("") && !is_canonical(&"-".repeat(36)) && !is_canonical(&"a".repeat(36))
        );
    }

    #[test]
    fn short_groups_are_filled_up() {
        let one = "00000001-0001-0001-0001-000000000001";
        assert_eq!(lenient("1-1-1-1-1").as_deref(), Some(one));
        assert_eq!(
            lenient("ABCDEF01-2345-4678-9ABC-DEF012345678").as_deref(),
            Some("abcdef01-2345-4678-9abc-def012345678")
        );
        for text in ["", "1-1-1-1", "1-1-1-1-1-1", "1-1-1-1-", "g-1-1-1-1", "123456789-1-1-1-1"] {
            assert_eq!(lenient(text), None, "{text}");
        }
    }
}
