//! Lists in the IAB's form from the patterns of `crawler-user-agents`. They are not the IAB's lists; a robot is what one
//! of the patterns names. Snowplow: `enrichments.md` 7, `enrichments-data.md` 5.

use serde::Deserialize;

pub(super) const EXCLUDE: &str = "exclude_current.txt";
pub(super) const INCLUDE: &str = "include_current.txt";
pub(super) const ADDRESSES: &str = "ip_exclude_current_cidr.txt";

#[derive(Deserialize)]
struct Crawler {
    pattern: String,
}

/// The three files, by name.
pub(super) fn lists(json: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
    let crawlers: Vec<Crawler> = serde_json::from_slice(json)
        .map_err(|error| format!("its patterns cannot be read: {error}"))?;
    let mut exclude = String::from(
        "# Made from crawler-user-agents (MIT). Not the list of the IAB.\n# pattern|active|exceptions|unused|impact|start\n",
    );
    let mut patterns: Vec<String> =
        crawlers.iter().filter_map(|it| plain(&it.pattern)).map(|it| it.to_lowercase()).collect();
    patterns.sort();
    patterns.dedup();
    if patterns.is_empty() {
        return Err("there is no pattern in it".to_owned());
    }
    for pattern in patterns {
        exclude.push_str(&format!("{pattern}|1||1|2|0\n"));
    }
    // Browsers, and what trackers in apps call themselves.
    let include = "# Written for this project.\n# pattern|active|start\nmozilla/5.0|1|1\nopera|1|1\ndalvik|1|1\n\
                   okhttp|1|1\ncfnetwork|1|0\n";
    Ok(vec![
        (EXCLUDE.to_owned(), exclude.into_bytes()),
        (INCLUDE.to_owned(), include.as_bytes().to_vec()),
        (ADDRESSES.to_owned(), Vec::new()),
    ])
}

/// The text that a pattern stands for, if it is a text: no class, no choice, no repetition, no anchor. `[Ww]` counts as
/// a letter of any case.
fn plain(pattern: &str) -> Option<String> {
    let mut text = String::with_capacity(pattern.len());
    let mut rest = pattern.chars();
    while let Some(character) = rest.next() {
        match character {
            '\\' => match rest.next()? {
                escaped if escaped.is_ascii_alphanumeric() => return None,
                escaped => text.push(escaped),
            },
            '[' => {
                let (upper, lower) = (rest.next()?, rest.next()?);
                let is_case = upper != lower && upper.eq_ignore_ascii_case(&lower);
                (is_case && rest.next()? == ']').then_some(())?;
                text.push(lower);
            }
            '.' | '^' | '$' | '*' | '+' | '?' | '(' | ')' | '|' | '{' | '}' | ']' => return None,
            other => text.push(other),
        }
    }
    // A bar ends a field of the list, and short patterns meet too much.
    (text.trim().len() > 3 && !text.contains(['|', '\n'])).then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_that_are_texts_become_lines() {
        for (pattern, expected) in [
            (r"Googlebot\/", Some("Googlebot/")),
            ("[wW]get", Some("Wget")),
            (r"bing\.com", Some("bing.com")),
            (r"^Mozilla", None),
            ("bot$", None),
            ("a(b)?", None),
            ("[0-9]bot", None),
            (r"\bbot", None),
            ("bot", None),
        ] {
            assert_eq!(plain(pattern).as_deref(), expected, "{pattern}");
        }
        let json = br#"[{"pattern": "Googlebot\\/", "url": "x"}, {"pattern": "^a"}, {"pattern": "Ahrefs"}]"#;
        let lists = lists(json).unwrap();
        let text = String::from_utf8(lists[0].1.clone()).unwrap();
        assert!(text.ends_with("ahrefs|1||1|2|0\ngooglebot/|1||1|2|0\n"), "{text}");
        assert!(super::lists(b"[]").is_err() && super::lists(b"{").is_err());
    }
}
