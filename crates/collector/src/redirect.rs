//! Where a redirect leads. Snowplow: `collector.md` 1.6.
//!
//! With an allow-list the host must be one that every browser finds in the target: what two programs could read in two
//! ways is refused. Without one, every target is allowed, as in Snowplow; a control character never is.

use crate::config::Config;
use crate::query;

/// Why a request for a redirect is answered 400. The texts are for logs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error("there is no parameter `u`")]
    Missing,
    #[error("the target `{0}` is no URL that can be read in one way only")]
    Unreadable(String),
    #[error("the host of `{0}` is not among `collector.redirect-domains`")]
    NotAllowed(String),
}

/// The `Location`, with the macro replaced by the network user id.
///
/// # Errors
/// When `u` is missing, unreadable, or leads to a host that is not allowed.
pub(crate) fn location(
    query: Option<&str>,
    config: &Config,
    network_user_id: &str,
) -> Result<String, Refused> {
    let target = query::first(query, "u").ok_or(Refused::Missing)?;
    let compat = config.compat;
    let is_open = config.redirect_domains.is_empty();
    let readable = match compat.is_strict_v3() {
        true => is_uri(&target),
        false => !target.chars().any(char::is_control) && (is_open || !target.contains('\\')),
    };
    if !readable {
        return Err(Refused::Unreadable(target.escape_debug().to_string()));
    }
    let is_allowed = |target: &str| {
        let host = host_of(target);
        is_open
            || config.redirect_domains.iter().any(|allowed| match compat.strict {
                true => allowed == host,
                false => allowed.eq_ignore_ascii_case(host),
            })
    };
    if !is_allowed(&target) {
        return Err(Refused::NotAllowed(target));
    }
    let replacement = &config.redirect_macro;
    // 3.x reads the setting and forgets it.
    if !replacement.enabled || compat.is_strict_v3() {
        return Ok(target);
    }
    // The id is the client's own claim: it may neither break the header that it is put into, nor lead elsewhere. Snowplow
    // looks at the target before; that is enough for nobody who has an allow-list.
    if !target.contains(&replacement.placeholder) {
        return Ok(target);
    }
    let unreadable = |char: char| char.is_control() || (!is_open && char == '\\');
    if network_user_id.chars().any(unreadable) {
        return Err(Refused::Unreadable(target));
    }
    let target = target.replace(&replacement.placeholder, network_user_id);
    if is_allowed(&target) { Ok(target) } else { Err(Refused::NotAllowed(target)) }
}

/// The host of `scheme://[user@]host[:port]…` or `//host…`; empty where there is none.
fn host_of(target: &str) -> &str {
    let scheme_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    let behind_scheme = match target.split_once(':') {
        Some((scheme, rest))
            if scheme.starts_with(|char: char| char.is_ascii_alphabetic())
                && scheme.bytes().all(scheme_byte) =>
        {
            rest
        }
        _ => target,
    };
    let Some(rest) = behind_scheme.strip_prefix("//") else { return "" };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let behind_user = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    crate::cors::split_port(behind_user).map_or("", |(host, _)| host)
}

/// Whether a text has only the characters of RFC 3986, as 3.x wants it.
fn is_uri(text: &str) -> bool {
    let (before, fragment) = text.split_once('#').unwrap_or((text, ""));
    query::is_legal(before.as_bytes()) && query::is_legal(fragment.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Compat, Profile};

    fn config(domains: &[&str]) -> Config {
        let redirect_domains = domains.iter().map(|&domain| domain.to_owned()).collect();
        Config { redirect_domains, ..Config::default() }
    }

    fn to(config: &Config, query: &str) -> Result<String, Refused> {
        location(Some(query), config, "the-id")
    }

    #[test]
    fn without_a_list_every_target_is_allowed_and_sent_unchanged() {
        for (query, expect) in [
            ("u=http%3A%2F%2Fh.example%2Fa%3Fb%3Dc", "http://h.example/a?b=c"),
            ("e=se&u=https://h/x&u=https://i/", "https://h/x"),
            ("u=http%3A%2F%2Fh%2Fa%253Db", "http://h/a%3Db"),
            ("u=/relative", "/relative"),
            ("u=app://open", "app://open"),
            ("u=https%3A%2F%2Fh%2F%C3%A9+x", "https://h/é x"),
        ] {
            assert_eq!(to(&config(&[]), query).as_deref(), Ok(expect), "{query}");
        }
        assert_eq!(to(&config(&[]), "e=se"), Err(Refused::Missing));
        assert_eq!(location(None, &config(&[]), "id"), Err(Refused::Missing));
    }

    #[test]
    fn control_characters_are_refused_in_every_profile() {
        for profile in [Profile::V2, Profile::V3] {
            for strict in [false, true] {
                let config = Config { compat: Compat { profile, strict }, ..config(&[]) };
                for query in
                    ["u=http%3A%2F%2Fh%0d%0aSet-Cookie:%20a=b", "u=a%00", "u=a%7f", "u=a%09"]
                {
                    assert!(matches!(to(&config, query), Err(Refused::Unreadable(_))), "{query}");
                }
            }
        }
    }

    #[test]
    fn with_a_list_the_host_must_be_one_of_it_in_full() {
        let config = config(&["good.example", "other.example", "[::1]"]);
        for target in [
            "https://good.example",
            "https://GOOD.example:8080/x",
            "//other.example/x",
            "http://user:pw@good.example/",
            "http://[::1]:81/",
            "https://good.example?x#y",
        ] {
            assert!(to(&config, &format!("u={target}")).is_ok(), "{target}");
        }
        for target in [
            "https://sub.good.example/",
            "https://good.example.evil.example/",
            "https://good.example@evil.example/",
            "https://evil.example/good.example",
            "https://evil.example#@good.example",
            "https://evil.example\\@good.example/",
            "https:\\\\evil.example",
            "https:///good.example",
            "https:evil.example",
            "good.example",
            "/good.example",
            "",
            " https://good.example",
            "https://good%2Eexample/",
        ] {
            let query = format!("u={}", target.replace('%', "%25"));
            assert!(to(&config, &query).is_err(), "{target}");
        }
    }

    #[test]
    fn the_macro_is_replaced_by_the_id_except_in_strict_v3() {
        let mut config = config(&[]);
        let query = "u=https%3A%2F%2Fh%2F%3Fid%3D%24%7BSP_NUID%7D%26again%3D%24%7BSP_NUID%7D";
        let verbatim = "https://h/?id=${SP_NUID}&again=${SP_NUID}";
        assert_eq!(to(&config, query).as_deref(), Ok(verbatim));
        config.redirect_macro.enabled = true;
        assert_eq!(to(&config, query).as_deref(), Ok("https://h/?id=the-id&again=the-id"));
        assert!(location(Some(query), &config, "a\r\nb").is_err());
        config.redirect_macro.placeholder = "[TOKEN]".to_owned();
        assert_eq!(to(&config, query).as_deref(), Ok(verbatim));
        assert_eq!(
            to(&config, "u=https://h/[TOKEN][token]").as_deref(),
            Ok("https://h/the-id[token]")
        );
        config.compat = Compat { profile: Profile::V3, strict: true };
        assert_eq!(to(&config, "u=https://h/[TOKEN]").as_deref(), Ok("https://h/[TOKEN]"));
        config.compat.profile = Profile::V2;
        assert_eq!(to(&config, "u=https://h/[TOKEN]").as_deref(), Ok("https://h/the-id"));
    }

    #[test]
    fn the_macro_leads_nowhere_else_than_the_list_allows() {
        for strict in [false, true] {
            let mut config = config(&["good.example"]);
            config.redirect_macro.enabled = true;
            config.compat = Compat { profile: Profile::V2, strict };
            for (target, id) in [
                ("https://${SP_NUID}@good.example/", "evil.example/"),
                ("https://${SP_NUID}@good.example/", "evil.example#"),
                ("https://${SP_NUID}@good.example/", "evil.example\\"),
                ("//${SP_NUID}@good.example/", "evil.example?"),
                ("https://good.example:${SP_NUID}/", "80@evil.example"),
                ("https://good.example/${SP_NUID}", "\\\\evil.example"),
            ] {
                let query = format!("u={target}").replace('#', "%23");
                assert!(location(Some(&query), &config, id).is_err(), "{target} {id}");
            }
            for (target, id, expect) in [
                ("https://good.example/?id=${SP_NUID}", "a/b", "https://good.example/?id=a/b"),
                ("https://${SP_NUID}@good.example/", "me", "https://me@good.example/"),
            ] {
                let query = format!("u={target}");
                assert_eq!(location(Some(&query), &config, id).as_deref(), Ok(expect));
            }
        }
    }

    #[test]
    fn strict_v3_wants_a_uri_to_the_letter_and_the_host_in_its_case() {
        let strict = |domains: &[&str]| Config {
            compat: Compat { profile: Profile::V3, strict: true },
            ..config(domains)
        };
        for query in
            ["u=https://h/a%20b", "u=https://h/%C3%A9", "u=https://h/%7B", "u=https://h/%25"]
        {
            assert!(to(&strict(&[]), query).is_err(), "{query}");
        }
        assert!(to(&strict(&["h"]), "u=https://h/a%2520b").is_ok());
        assert!(to(&strict(&["h"]), "u=https://H/").is_err());
    }
}
