//! What a request for an event comes to: whether it is recorded, under which id, and what is answered. Looks at the
//! head alone. Snowplow: `collector.md` 1.4, 1.6, 2.5 and 2.6.

use crate::config::Config;
use crate::head::{Method, View};
use crate::identity::{self, Identity};
use crate::redirect;
use regex::Regex;

/// What is decided before anything is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    pub(crate) identity: Identity,
    pub(crate) store: What,
    /// Whether the answer may change the cookie: not for someone who asked not to be tracked.
    pub(crate) may_set_cookie: bool,
    pub(crate) reply: Reply,
}

/// What is stored of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Payload,
    /// A bad row instead, since the query cannot be read.
    IllegalQuery,
    Nothing,
}

/// The answer once that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// `ok`, to a POST.
    Ok,
    /// To GET and HEAD.
    Pixel,
    /// 302 to this place.
    Found(String),
    /// 400: there is no place that a redirect may lead to.
    RedirectRefused,
    /// 200 without a body and without any header of an event.
    Bare,
}

/// Decides it. `redirect` says that the path is one of `/r/…`; `do_not_track` matches the values of that cookie.
pub(crate) fn decide(
    view: View<'_>,
    redirect: bool,
    config: &Config,
    do_not_track: Option<&Regex>,
) -> Decision {
    let identity = Identity::of(view, config);
    let compat = config.compat;
    if compat.strict && compat.is_v2() && !view.target_is_legal() {
        let (store, reply) = (What::IllegalQuery, Reply::Bare);
        return Decision { identity, store, may_set_cookie: false, reply };
    }
    let asks_not_to_track = identity::asks_not_to_track(view, config, do_not_track);
    let store = if asks_not_to_track { What::Nothing } else { What::Payload };
    let may_set_cookie = !asks_not_to_track;
    let expects_pixel = view.head.method != Method::Post;
    let (store, reply) = if redirect {
        (store, redirect_reply(view, config, &identity))
    } else if config.cookie_bounce.enabled && identity.is_new && expects_pixel && !asks_not_to_track
    {
        (What::Nothing, Reply::Found(identity::bounce_location(view, config)))
    } else {
        (store, if expects_pixel { Reply::Pixel } else { Reply::Ok })
    };
    Decision { identity, store, may_set_cookie, reply }
}

fn redirect_reply(view: View<'_>, config: &Config, identity: &Identity) -> Reply {
    match redirect::location(view.query().as_deref(), config, &identity.network_user_id) {
        Ok(location) => Reply::Found(location),
        Err(refused) => {
            tracing::info!(%refused, "a redirect is answered 400");
            Reply::RedirectRefused
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Compat, Profile};
    use crate::head::tests::parse;

    fn of(config: &Config, redirect: bool, line: &str, headers: &str) -> Decision {
        let head = format!("{line} HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
        let parsed = parse(head.as_bytes()).unwrap();
        let pattern = config.do_not_track_cookie.pattern().unwrap();
        decide(View { head: &parsed, bytes: head.as_bytes() }, redirect, config, pattern.as_ref())
    }

    fn told(decision: &Decision) -> (What, bool, Reply) {
        (decision.store, decision.may_set_cookie, decision.reply.clone())
    }

    #[test]
    fn an_event_is_stored_and_answered_by_its_method() {
        let config = Config::default();
        for (line, reply) in
            [("GET /i", Reply::Pixel), ("HEAD /i", Reply::Pixel), ("POST /a/b", Reply::Ok)]
        {
            assert_eq!(told(&of(&config, false, line, "")), (What::Payload, true, reply));
        }
    }

    #[test]
    fn only_a_pixel_without_an_id_bounces_and_only_once() {
        let mut config = Config::default();
        config.cookie_bounce.enabled = true;
        let bounced = Reply::Found("/i?e=pv&n3pc=true".to_owned());
        for line in ["GET /i?e=pv", "HEAD /i?e=pv"] {
            assert_eq!(told(&of(&config, false, line, "")), (What::Nothing, true, bounced.clone()));
        }
        for (redirect, line, headers) in [
            (false, "POST /a/b", ""),
            (false, "GET /i?nuid=1", ""),
            (false, "GET /i?n3pc=true", ""),
            (false, "GET /i", "Cookie: sp=1\r\n"),
            (false, "GET /i", "SP-Anonymous: *\r\n"),
            (true, "GET /r/tp2?u=/x", ""),
        ] {
            assert_eq!(of(&config, redirect, line, headers).store, What::Payload, "{line}");
        }
    }

    #[test]
    fn a_redirect_is_stored_also_where_it_is_refused() {
        let config = Config { redirect_domains: vec!["h".to_owned()], ..Config::default() };
        let found = Reply::Found("https://h/".to_owned());
        for method in ["GET", "HEAD", "POST"] {
            let good = of(&config, true, &format!("{method} /r/a?u=https://h/"), "");
            assert_eq!(told(&good), (What::Payload, true, found.clone()));
            let refused = of(&config, true, &format!("{method} /r/a?u=https://i/"), "");
            assert_eq!(told(&refused), (What::Payload, true, Reply::RedirectRefused));
        }
    }

    #[test]
    fn who_asks_not_to_be_tracked_gets_the_usual_answer_and_nothing_else() {
        let mut config = Config::default();
        config.cookie_bounce.enabled = true;
        config.do_not_track_cookie.enabled = true;
        config.do_not_track_cookie.name = "dnt".to_owned();
        config.do_not_track_cookie.value = "1".to_owned();
        let cookie = "Cookie: dnt=1\r\n";
        for (redirect, line, reply) in [
            (false, "GET /i", Reply::Pixel),
            (false, "POST /a/b", Reply::Ok),
            (true, "GET /r/a?u=/x", Reply::Found("/x".to_owned())),
            (true, "GET /r/a", Reply::RedirectRefused),
        ] {
            assert_eq!(told(&of(&config, redirect, line, cookie)), (What::Nothing, false, reply));
        }
    }

    #[test]
    fn an_illegal_query_is_a_bad_row_in_strict_v2_alone() {
        for (profile, strict) in [(Profile::V2, true), (Profile::V2, false), (Profile::V3, true)] {
            let config = Config { compat: Compat { profile, strict }, ..Config::default() };
            let decision = of(&config, false, "GET /i?a=b|c", "");
            let bare = profile == Profile::V2 && strict;
            let expect = match bare {
                true => (What::IllegalQuery, false, Reply::Bare),
                false => (What::Payload, true, Reply::Pixel),
            };
            assert_eq!(told(&decision), expect);
        }
    }
}
