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
    let world = World::with(
        small_log(),
        Limits { timeout: Duration::from_millis(300), ..limits() },
        1 << 30,
    );
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
    let limits = Limits { running: 1, waiting: 0, timeout: Duration::from_secs(3), ..limits() };
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
