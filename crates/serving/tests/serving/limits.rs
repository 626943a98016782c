//! Statements that are refused, and limits: passing one is an error with a code, never a shorter answer.

use std::time::{Duration, Instant};

use serving::Error;
use serving::sql::Limits;

use crate::world::*;

/// Runs until it is stopped.
const ENDLESS: &str = "select count(*) from generate_series(1, 1000000000000) a(x) where x % 7 = 8";

#[test]
fn nothing_but_reading_is_answered() {
    let world = World::new(small_log());
    world.see_all();
    world.commit(&cut(&[(0, 5)]));
    for sql in [
        "insert into atomic.events select * from atomic.events",
        "update atomic.events set app_id = 'x'",
        "delete from atomic.events",
        "drop table atomic.events",
        "drop schema lambda cascade",
        "create table t as select 1",
        "create view atomic.v as select 1",
        "create external table t stored as parquet location '/tmp'",
        "create external table t(a text) stored as csv location '/etc/passwd'",
        "copy atomic.events to '/tmp/snowmelt-copy.parquet'",
        "copy (select 1) to '/tmp/snowmelt-copy.csv' stored as csv",
        "set datafusion.execution.batch_size = 1",
        "set search_path = lambda",
        "explain analyze insert into atomic.events select * from atomic.events",
        "select 1 into t",
        "prepare p as select 1",
    ] {
        assert_eq!(world.code(sql), "read_only", "{sql}");
    }
    assert!(!std::path::Path::new("/tmp/snowmelt-copy.csv").exists());
    let file = world.lambda.served().files[0].path_in(world.dir.path());
    for sql in [
        "select * from '/etc/passwd'".to_owned(),
        "select * from \"/etc/passwd\"".to_owned(),
        "select * from 'file:///etc/passwd'".to_owned(),
        format!("select * from '{}'", file.display()),
        "select * from read_csv('/etc/passwd')".to_owned(),
        "select * from read_parquet('x')".to_owned(),
        "select * from read_json('x')".to_owned(),
        "select * from parquet_metadata('x')".to_owned(),
        "select pg_read_file('/etc/passwd')".to_owned(),
        "select * from nowhere".to_owned(),
        "select nothing from atomic.events".to_owned(),
        "select * from atomic.events limit $1".to_owned(),
    ] {
        let code = world.code(&sql);
        assert!(["invalid_statement", "syntax_error"].contains(&code), "{sql}: {code}");
    }
    assert_eq!(world.code("select"), "syntax_error");
    assert_eq!(world.code("selekt 1"), "syntax_error");
    assert_eq!(world.code("select 1; select 2"), "syntax_error");
    // A fault of the data is not a fault of the server.
    let error = world.ask("select cast(event_id as int) from atomic.events").unwrap_err();
    assert_eq!((error.code(), error.status()), ("execution_failed", 422));
}

#[test]
fn a_statement_of_many_terms_does_no_harm() {
    let world = World::new(Log::default());
    let sum = |terms: usize| format!("select {}", vec!["1"; terms].join("+"));
    assert_eq!(world.rows_of(&sum(200)), [serde_json::json!([200])]);
    assert_eq!(world.code(&sum(15_000)), "statement_too_large");
    let any = vec!["app_id > 'x'"; 500].join(" or ");
    assert_eq!(world.code(&format!("select 1 from atomic.events where {any}")), "ok");
    let casts = "::text::int".repeat(500);
    assert_eq!(world.rows_of(&format!("select 1{casts}")), [serde_json::json!([1])]);
    let union = vec!["select 1"; 100].join(" union all ");
    assert_eq!(world.rows_of(&union).len(), 100);
    let calls = |depth: usize| format!("select {}-1{}", "abs(".repeat(depth), ")".repeat(depth));
    assert_eq!(world.rows_of(&calls(12)), [serde_json::json!([1])]);
    assert_eq!(world.code(&calls(50)), "statement_too_large");
    assert_eq!(
        world.code(&format!("select {}1{}", "(".repeat(20_000), ")".repeat(20_000))),
        "syntax_error"
    );
    assert_eq!(world.code("select 1"), "ok");
}

#[test]
fn more_rows_than_the_limit_are_an_error() {
    let world = World::with(small_log(), Limits { rows: 5, ..limits() }, 1 << 30);
    world.see_all();
    match world.ask("select event_id from atomic.events") {
        Err(Error::RowLimit(5)) => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(world.rows_of("select event_id from atomic.events limit 5").len(), 5);
    assert_eq!(world.code("select count(*) from atomic.events"), "ok");
}

#[test]
fn a_statement_beyond_its_time_is_an_error_and_ends() {
    let world =
        World::with(small_log(), Limits { timeout: Duration::from_secs(2), ..limits() }, 1 << 30);
    match world.ask(ENDLESS) {
        Err(Error::Timeout(_)) => {}
        other => panic!("{other:?}"),
    }
    let patience = Instant::now() + Duration::from_secs(30);
    while world.engine().running() > 0 {
        assert!(Instant::now() < patience, "the statement goes on");
        std::thread::yield_now();
    }
    assert_eq!(world.code("select 1"), "ok");
}

#[test]
fn more_memory_than_the_limit_is_an_error() {
    let limits = Limits { memory_bytes: 1 << 20, spill_bytes: 0, ..limits() };
    let world = World::with(Log::default(), limits, 1 << 30);
    // The answer itself, and a group by.
    assert_eq!(
        world.code("select repeat('x', 1000), x from generate_series(1, 100000) a(x)"),
        "memory_limit"
    );
    let sql = "select count(*) from (select x, count(*) from generate_series(1, 1000000) a(x) group by x) g";
    assert_eq!(world.code(sql), "memory_limit");
    assert_eq!(world.code("select 1"), "ok");
}

#[test]
fn statements_beyond_the_queue_are_answered_busy() {
    let limits = Limits { running: 1, waiting: 0, timeout: Duration::from_secs(6), ..limits() };
    let world = World::with(Log::default(), limits, 1 << 30);
    std::thread::scope(|scope| {
        scope.spawn(|| assert_eq!(world.code(ENDLESS), "statement_timeout"));
        while world.engine().running() == 0 {
            std::thread::yield_now();
        }
        let error = world.ask("select 1").unwrap_err();
        assert_eq!((error.code(), error.status()), ("busy", 503));
        assert!(!error.hint().is_empty());
    });
}

#[test]
fn a_statement_waits_for_its_turn() {
    let limits = Limits { running: 1, waiting: 8, ..limits() };
    let world = World::with(small_log(), limits, 1 << 30);
    world.see_all();
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                assert_eq!(world.code("select count(distinct event_id) from atomic.events"), "ok")
            });
        }
    });
}

/// Bytes of this process that are in memory; 0 where there is no `/proc`.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm.split(' ').nth(1).map_or(0, |pages| pages.parse::<u64>().unwrap() * 4096)
}

#[test]
fn a_function_that_would_make_too_much_is_refused_before_it_does() {
    let world = World::new(small_log());
    world.see_all();
    let before = resident();
    for sql in [
        "select lpad('x', 2147483647, 'y')",
        "select rpad('x', 2147483647, 'y')",
        "select length(lpad('x', 1500000000, 'y'))",
        "select 1 where length(lpad('x', 1500000000)) > 3",
        "select repeat('x', 1000000000)",
        "select length(repeat(repeat('x', 10000), 100000))",
        "select length(repeat(app_id, 100000000)) from atomic.events",
        "select array_length(array_repeat(1, 300000000))",
        "select array_length(list_repeat(repeat('x', 1000000), 1000))",
        "select array_length(array_resize([1], 300000000, 0))",
        "select array_length(list_resize([1], 300000000))",
        "select array_length(range(1, 500000000))",
        "select array_length(range(500000000))",
        "select array_length(range(500000000, 1, -1))",
        "select array_length(generate_series(1, 500000000))",
        "select array_length(generate_series(1, x * 100000000)) from generate_series(1, 5) a(x)",
        "select array_length(range(timestamp '1970-01-01', timestamp '2020-01-01', interval '1 second'))",
        "select array_length(range(timestamp '1970-01-01', timestamp '2020-01-01', interval '1 day -24 hours'))",
        "select length(replace(repeat('a', 60000), 'a', repeat('a', 60000)))",
        "select length(replace(repeat('a', 60000), '', repeat('a', 60000)))",
        "select length(regexp_replace(repeat('a', 60000), 'a', repeat('a', 60000), 'g'))",
        "select length(array_to_string(array_repeat(1, 100000), repeat('a', 60000)))",
        "with a as (select repeat(x::text, 16000000) r from generate_series(1, 1) s(x)) select length(concat(r, r, r)) from a",
        "select length(repeat('x', 70000))",
        "select array_length(range(1, 200000))",
        "with a as (select replace(repeat(x::text, 1000000), '1', repeat('y', 60000)) r from generate_series(1, 1) s(x)) select length(r) from a",
        "with a as (select repeat(x::text, 16000000) r from generate_series(1, 1) s(x)) select length(concat_ws('', r, r, r)) from a",
    ] {
        let from = Instant::now();
        let error = world.ask(sql).unwrap_err();
        let took = from.elapsed();
        assert_eq!((error.code(), error.status()), ("memory_limit", 422), "{sql}: {error}");
        assert!(took < Duration::from_secs(30), "{sql}: {took:?}");
        assert!(error.to_string().contains("one call of `"), "{error}");
        assert!(!error.hint().is_empty());
        let more = resident().saturating_sub(before) >> 20;
        assert!(more < 200, "{sql}: {more} MiB");
    }
    let gone = "select arrow_cast(null, 'FixedSizeBinary(2147483647)')";
    assert_eq!(world.code(gone), "invalid_statement");
}

#[test]
fn functions_within_their_bound_answer() {
    let world = World::new(small_log());
    world.see_all();
    let row = |sql: &str| world.rows_of(sql).remove(0);
    for (sql, answer) in [
        ("select lpad('x', 4, 'ab'), rpad('x', 3)", serde_json::json!(["abax", "x  "])),
        (
            "select repeat('ab', 3), repeat('ab', -1), repeat(null, 3)",
            serde_json::json!(["ababab", "", null]),
        ),
        (
            "select array_length(range(1, 10)), array_length(generate_series(1, 10))",
            serde_json::json!([9, 10]),
        ),
        ("select array_length(range(10, 1000000000, 100000000))", serde_json::json!([10])),
        (
            "select array_length(range(date '2024-01-01', date '2025-01-01', interval '1 month'))",
            serde_json::json!([12]),
        ),
        (
            "select array_length(array_repeat('a', 5)), array_length(list_resize([1], 4))",
            serde_json::json!([5, 4]),
        ),
        (
            "select replace('a.b.c', '.', '--'), regexp_replace('a1b2', '[0-9]', '#', 'g')",
            serde_json::json!(["a--b--c", "a#b#"]),
        ),
        (
            "select concat('a', null, 1), concat_ws('-', 'a', 'b'), array_to_string([1, 2], ',')",
            serde_json::json!(["a1", "a-b", "1,2"]),
        ),
        (
            "select sum(length(lpad(x::text, 1000))) from generate_series(1, 20000) a(x)",
            serde_json::json!([20_000_000]),
        ),
        (
            "select sum(length(replace(x, 'q', 'long'))) from (select repeat('a', 1000) x from generate_series(1, 9000)) t",
            serde_json::json!([9_000_000]),
        ),
    ] {
        assert_eq!(row(sql), answer, "{sql}");
    }
    assert_eq!(world.code("select concat(app_id, '/', event_id), lpad(app_id, 10) from atomic.events group by 1, 2"), "ok");
}

#[test]
fn a_syntax_error_reads_as_a_sentence() {
    let world = World::new(Log::default());
    for sql in ["selekt 1", "select 'x", "select (1"] {
        let error = world.ask(sql).unwrap_err();
        assert_eq!(error.code(), "syntax_error");
        let message = error.to_string();
        assert!(!message.contains("Error(") && !message.contains('"'), "{message}");
        assert!(!error.hint().is_empty());
    }
}
