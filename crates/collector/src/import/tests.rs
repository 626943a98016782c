//! The three layouts, from `testdata/collector-configs/`, and what must be said about what they lose.

use super::*;
use crate::Config;
use crate::config::{Profile, SameSite};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

fn imported(name: &str) -> Imported {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/collector-configs");
    let text = std::fs::read_to_string(folder.join(name)).unwrap();
    import(&text, &|_| None).unwrap()
}

/// The tree under `collector` that an import makes; it must pass the check.
fn config_of(imported: &Imported) -> Config {
    let mut tree: BTreeMap<String, Config> = toml::from_str(&imported.toml())
        .unwrap_or_else(|error| panic!("{error}\n{}", imported.toml()));
    let config = tree.remove("collector").unwrap();
    config.check().unwrap();
    config
}

fn why<'a>(imported: &'a Imported, key: &str) -> &'a str {
    let found = imported.dropped.iter().find(|(dropped, _)| dropped == key);
    &found.unwrap_or_else(|| panic!("{key} is not in {:?}", imported.dropped)).1
}

#[test]
fn the_layout_of_r89_is_read() {
    let imported = imported("r89.hocon");
    assert_eq!(imported.layout, Layout::R89);
    let config = config_of(&imported);
    assert_eq!((config.port, config.compat.profile), (8081, Profile::V2));
    assert_eq!(config.cookie.name, "shop");
    assert_eq!(config.cookie.fallback_domain.as_deref(), Some("shop.example"));
    assert!(config.enable_default_redirect, "on before 2.0");
    assert_eq!(config.redirect_macro.placeholder, "[TOKEN]");
    for sink in [&config.streams.good, &config.streams.bad] {
        assert_eq!(sink.buffer.time_limit, Duration::from_secs(60));
        assert_eq!(sink.backoff_policy.max_backoff, Duration::from_secs(600));
    }
    assert_eq!(why(&imported, "collector.sink.enabled"), keys::SINK);
    assert_eq!(why(&imported, "collector.sink.kinesis.stream.good"), keys::SINK);
    assert!(why(&imported, "akka.http.server.parsing.uri-parsing-mode").contains("akka"));
    assert!(imported.notes.iter().any(|note| note.contains("`${?COLLECTOR_PORT}`")));
    assert!(imported.notes.iter().any(|note| note.contains("embedded log")));
}

#[test]
fn the_layout_of_2_x_is_read() {
    let imported = imported("2.x.hocon");
    assert_eq!(imported.layout, Layout::V2);
    let config = config_of(&imported);
    assert_eq!((config.port, config.compat.profile), (8082, Profile::V2));
    assert_eq!(config.paths["/com.shop/go"], "/r/tp2");
    assert!(!config.enable_default_redirect && config.use_ip_address_as_partition_key);
    assert_eq!(config.cookie.domains, ["shop.example", "shop.test"]);
    assert_eq!(config.do_not_track_cookie.value, "yes|1");
    assert_eq!(config.root_response.headers["Location"], "https://shop.example/");
    assert_eq!(config.cross_domain.domains.len(), 2);
    assert_eq!(config.networking.max_connections, 2048);
    assert_eq!(config.networking.idle_timeout, Duration::from_secs(610));
    assert_eq!(config.streams.good.buffer.byte_limit, 3_145_728);
    assert_eq!(config.streams.bad.backoff_policy.min_backoff, Duration::from_millis(500));
    assert_eq!(config.pre_termination_period, Duration::from_secs(5));
    assert!(config.pre_termination_unhealthy && config.ssl.redirect && !config.ssl.only);
    assert!(why(&imported, "collector.telemetry.disable").contains("tells nobody"));
    assert!(why(&imported, "collector.prometheusMetrics.enabled").contains("/metrics"));
    assert_eq!(why(&imported, "collector.streams.sink.aws.accessKey"), keys::SINK);
}

#[test]
fn the_layout_of_3_x_is_read() {
    let imported = imported("3.x.hocon");
    assert_eq!(imported.layout, Layout::V3);
    let config = config_of(&imported);
    assert_eq!((config.port, config.compat.profile), (8083, Profile::V3));
    assert_eq!(config.hsts.max_age, Duration::from_secs(180 * 86_400));
    assert_eq!(config.cookie.same_site, Some(SameSite::Lax));
    assert_eq!(config.cookie.client_cookie_name.as_deref(), Some("sp_client"));
    assert_eq!(config.networking.max_connections, 4096);
    assert_eq!(config.networking.max_record_size, 900_000);
    assert_eq!(config.monitoring.metrics.statsd.tags["app"], "collector");
    assert!(config.monitoring.metrics.statsd.enabled);
    assert_eq!(config.pre_termination_period, Duration::from_secs(10));
    assert_eq!(why(&imported, "streams.good.producerConf.security.protocol"), keys::SINK);
    assert_eq!(why(&imported, "experimental.warmup.enable"), "there is nothing to warm up");
    assert!(imported.dropped.iter().any(|(key, _)| key.starts_with("license")));
}

#[test]
fn both_layouts_of_streams_are_read_as_the_same() {
    let of = |streams: &str| {
        let text = format!("collector {{ port = 8081, streams {{ {streams} }} }}");
        config_of(&import(&text, &|_| None).unwrap()).streams
    };
    let buffer = "buffer { byteLimit = 4000000, recordLimit = 400, timeLimit = 700 }";
    let backoff = "backoffPolicy { minBackoff = 700, maxBackoff = 900, maxRetries = 5 }";
    let older = of(&format!(
        "good = g, bad = b, {buffer}, sink {{ enabled = kinesis, threadPoolSize = 7, {backoff} }}"
    ));
    let newer = of(&format!(
        "good {{ name = g, {buffer}, threadPoolSize = 7, {backoff} }}, \
         bad {{ name = b, {buffer}, threadPoolSize = 7, {backoff} }}"
    ));
    assert_eq!(older, newer);
    for sink in [&newer.good, &newer.bad] {
        assert_eq!((sink.buffer.byte_limit, sink.thread_pool_size), (4_000_000, 7));
        assert_eq!(sink.buffer.time_limit, Duration::from_millis(700));
        assert_eq!(sink.backoff_policy.max_backoff, Duration::from_millis(900));
        assert_eq!(sink.backoff_policy.max_retries, 5);
    }
}

#[test]
fn minimal_examples_are_enough() {
    let good_and_bad = |stream: &str| format!("good {{ {stream} }}, bad {{ {stream} }}");
    let newer = good_and_bad("name = s, region = eu-central-1");
    let brokers = good_and_bad("name = s, brokers = \"localhost:9092\"");
    for streams in [
        newer.as_str(),
        &brokers,
        "good = g, bad = b, sink { enabled = kinesis, region = eu-central-1 }",
        "good = g, bad = b, sink { enabled = stdout }",
    ] {
        let text = format!(
            "collector {{ interface = \"127.0.0.1\", port = 8080, streams {{ {streams} }} }}"
        );
        let config = config_of(&import(&text, &|_| None).unwrap());
        assert!(config.check().is_ok(), "{streams}");
        assert_eq!(config.port, 8080);
    }
}

#[test]
fn signs_of_life_go_to_a_collector_of_ones_own_or_nowhere() {
    let of = |telemetry: &str| {
        let text = format!("port = 8080, telemetry {{ {telemetry} }}");
        import(&text, &|_| None).unwrap()
    };
    let own = of("url = c.example, interval = 5 minutes, method = GET, userProvidedId = shop");
    let config = config_of(&own).telemetry;
    assert!(!config.disable && own.dropped.is_empty());
    assert_eq!((config.url.as_deref(), config.port), (Some("c.example"), 443));
    assert_eq!(config.interval, Duration::from_mins(5));
    assert_eq!(config.user_provided_id.as_deref(), Some("shop"));
    assert!(config_of(&of("url = c.example, disable = true")).telemetry.disable);
    for makers in [
        "userProvidedId = shop",
        "disable = false, url = Telemetry-g.SnowplowAnalytics.com",
        "url = \"https://t.mine.example/x\"",
        "url = \"\"",
    ] {
        let imported = of(makers);
        assert!(config_of(&imported).telemetry.disable, "{makers}");
        assert!(imported.dropped.iter().all(|(_, why)| why == keys::NO_TELEMETRY), "{makers}");
    }
}

#[test]
fn a_sink_that_prints_is_told_of() {
    let text = "streams { good = g, bad = b, sink { enabled = stdout } }";
    let imported = import(text, &|_| None).unwrap();
    assert!(why(&imported, "streams.sink.enabled").contains("snowmelt run collector"));
}

#[test]
fn what_is_unknown_or_unfit_is_dropped_by_name() {
    let text =
        "collector { interface = c.example, colour = red, cookie.expiration = soon, paths = x,
                ssl.enable = true, cors.accessControlMaxAge = -1 }";
    let imported = import(text, &|_| None).unwrap();
    assert!(why(&imported, "collector.interface").contains("not an IP address"));
    assert_eq!(why(&imported, "collector.colour"), "no such key is known");
    assert!(why(&imported, "collector.cookie.expiration").contains("`soon`"));
    assert_eq!(why(&imported, "collector.paths"), "this is not a map");
    assert!(why(&imported, "collector.cors.accessControlMaxAge").contains("`-1`"));
    assert!(imported.toml().contains("collector.ssl.only = true"), "3.x serves nothing else");
    assert!(imported.notes.iter().any(|note| note.contains("collector.ssl.cert-file")));
    assert!(!imported.toml().contains("colour"));
    let wrong = import("a {", &|_| None).unwrap_err();
    assert_eq!(wrong.line, 1);
}

#[test]
fn the_environment_is_written_down() {
    let environment = |name: &str| (name == "COLLECTOR_PORT").then(|| "9999".to_owned());
    let imported = import("collector { port = 80, port = ${?COLLECTOR_PORT} }", &environment);
    assert_eq!(config_of(&imported.unwrap()).port, 9999);
}

#[test]
fn substitutions_that_double_again_and_again_end() {
    for join in ["${NEXT}${NEXT}", "[${NEXT}, ${NEXT}]", "{ a = ${NEXT}, b = ${NEXT} }"] {
        let mut text = String::new();
        for number in 0..60 {
            let value = join.replace("NEXT", &format!("v{}", number + 1));
            text.push_str(&format!("v{number} = {value}\n"));
        }
        text.push_str("v60 = word\n");
        let error = import(&text, &|_| None).unwrap_err();
        assert!(error.to_string().contains("substitutions come to more than"), "{error}");
    }
}

proptest::proptest! {
    /// What an operator has is not always what the format allows; the answer is an error with its line, or TOML.
    #[test]
    fn any_text_is_refused_or_becomes_toml(
        parts in proptest::collection::vec(
            proptest::sample::select(vec![
                "a", "collector", "streams", "good", "sink", "cookie", "=", ":", "+=", "{", "}", "[", "]", ",", "\n", " ",
                ".", "${a}", "${?b}", "${collector.a}", "\"", "\"\"\"", "\\", "\\u12", "#", "//", "include", "10 s", "true",
                "null", "\u{feff}", "ü",
            ]),
            0..60,
        ),
    ) {
        let text = parts.concat();
        match import(&text, &|_| None) {
            Ok(imported) => {
                toml::from_str::<toml::Table>(&imported.toml())
                    .unwrap_or_else(|error| panic!("{text}: {error}"));
            }
            Err(error) => assert!(error.line <= 1 + text.matches('\n').count(), "{text}: {error}"),
        }
    }
}
