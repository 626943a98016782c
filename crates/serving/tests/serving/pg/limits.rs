//! The limits are those of the API: each is an error with its SQLSTATE and a hint, and the connection goes on.

use std::time::Instant;

use serving::sql::Limits;
use tokio_postgres::error::SqlState;

use super::*;

/// Runs until it is stopped.
const ENDLESS: &str = "select count(*) from generate_series(1, 1000000000000) a(x) where x % 7 = 8";

async fn code(client: &Client, sql: &str) -> String {
    let error = client.query(sql, &[]).await.unwrap_err();
    let (code, has_hint) = state(&error);
    assert!(has_hint, "{sql}: {error}");
    code.to_owned()
}

#[test]
fn statements_that_do_more_than_read_are_refused() {
    let site = Site::start();
    run(async {
        let client = connect(site.address()).await;
        for sql in [
            "insert into atomic.events values (1)",
            "update atomic.events set app_id = 'x'",
            "delete from atomic.events",
            "create table t as select 1",
            "drop table atomic.events",
            "truncate atomic.events",
            "select 1 into t",
            "with a as (insert into atomic.events values (1) returning *) select * from a",
            "explain analyze insert into atomic.events values (1)",
        ] {
            assert_eq!(code(&client, sql).await, "42501", "{sql}");
        }
        for sql in [
            "copy atomic.events to stdout",
            "copy (select 1) to '/tmp/snowmelt-pg-copy.csv'",
            "declare c cursor for select 1",
            "listen x",
            "prepare p as select 1",
            "execute p",
            "lock table atomic.events",
        ] {
            assert_eq!(code(&client, sql).await, "0A000", "{sql}");
            let error = client.simple_query(sql).await.unwrap_err();
            assert_eq!(state(&error).0, "0A000", "{sql}");
        }
        for (sql, expected) in [
            ("select * from nowhere", "42P01"),
            ("select * from no.where", "42P01"),
            ("select nothing from atomic.events", "42703"),
            ("select nothing(1)", "42883"),
            ("selekt 1", "42601"),
            ("select", "42601"),
            ("select 1; select 2", "42601"),
            ("select * from '/etc/passwd'", "42P01"),
            ("set work_mem = '1GB'", "42704"),
            ("set timezone = 'Europe/Berlin'", "22023"),
        ] {
            let error = client.query(sql, &[]).await.unwrap_err();
            assert_eq!(state(&error).0, expected, "{sql}: {error:?}");
        }
        for (sql, expected) in [
            ("select 1 / (domain_sessionidx - domain_sessionidx) from atomic.events", "22012"),
            ("select cast(event_id as int) from atomic.events", "22P02"),
        ] {
            let error = client.query(sql, &[]).await.unwrap_err();
            assert_eq!(state(&error).0, expected, "{sql}: {error:?}");
        }
        assert_eq!(client.query_one("select 1", &[]).await.unwrap().len(), 1);
    });
    assert!(!std::path::Path::new("/tmp/snowmelt-pg-copy.csv").exists());
    site.stop();
}

#[test]
fn more_rows_than_the_limit_are_an_error() {
    let site = Site::with(&Config { row_limit: 5, ..config() });
    run(async {
        let client = connect(site.address()).await;
        assert_eq!(code(&client, "select event_id from atomic.events").await, "54000");
        let five = client.query("select event_id from atomic.events limit 5", &[]).await.unwrap();
        assert_eq!(five.len(), 5);
        let error = client.simple_query("select event_id from atomic.events").await.unwrap_err();
        assert_eq!(state(&error), ("54000", true));
    });
    site.stop();
}

/// Planning cannot be interrupted, but nobody has to wait for it.
#[test]
fn a_plan_that_takes_longer_than_the_time_is_answered_in_time() {
    let joins: String = (1..24)
        .map(|n| format!(" join atomic.events a{n} on a0.event_id = a{n}.event_id"))
        .collect();
    let sql = format!("select count(*) from atomic.events a0{joins}");
    let site = Site::with(&Config { statement_timeout: Duration::from_secs(600), ..config() });
    run(async {
        let client = connect(site.address()).await;
        let started = Instant::now();
        client.prepare(&sql).await.unwrap();
        let whole = started.elapsed();
        client.batch_execute("set statement_timeout = '1ms'").await.unwrap();
        let started = Instant::now();
        assert_eq!(state(&client.prepare(&sql).await.unwrap_err()).0, "57014");
        assert_eq!(code(&client, &sql).await, "57014");
        assert!(started.elapsed() < whole, "{:?} of {whole:?}", started.elapsed());
    });
    site.stop();
}

#[test]
fn a_statement_beyond_its_time_is_cancelled() {
    let site = Site::with(&Config { statement_timeout: Duration::from_secs(2), ..config() });
    run(async {
        let client = connect(site.address()).await;
        assert_eq!(code(&client, ENDLESS).await, "57014");
        let error = client.simple_query("set statement_timeout = '3s'").await.unwrap_err();
        assert_eq!(state(&error), ("22023", true));
    });
    site.stop();
    let site = Site::with(&Config { statement_timeout: Duration::from_secs(600), ..config() });
    run(async {
        let client = connect(site.address()).await;
        client.batch_execute("set statement_timeout = '50ms'").await.unwrap();
        let started = Instant::now();
        assert_eq!(code(&client, ENDLESS).await, "57014");
        assert!(started.elapsed() < Duration::from_secs(300), "the shorter limit holds");
        client.batch_execute("reset all").await.unwrap();
        assert_eq!(client.query("select 1", &[]).await.unwrap().len(), 1);
    });
    site.stop();
}

#[test]
fn more_memory_than_the_limit_is_an_error() {
    let limits = Config { memory_limit: 16 << 20, spill_limit: 0, ..config() };
    let site = Site::with(&limits);
    run(async {
        let client = connect(site.address()).await;
        let sql = "select array_length(array_agg(x), 1) from generate_series(1, 6000000) a(x)";
        assert_eq!(code(&client, sql).await, "53200");
        assert_eq!(code(&client, "select repeat('x', 1000000000)").await, "53200");
        assert_eq!(client.query("select 1", &[]).await.unwrap().len(), 1);
    });
    site.stop();
}

#[test]
fn an_answer_larger_than_the_memory_is_streamed() {
    let site = Site::with(&Config { memory_limit: 16 << 20, spill_limit: 0, ..config() });
    run(async {
        let client = connect(site.address()).await;
        // 90 MB in all; the API, which sends an answer whole, refuses it.
        let sql = "select repeat(x::text, 200) from generate_series(10000, 99999) a(x)";
        let rows = client.query_raw(sql, Vec::<String>::new()).await.unwrap();
        let mut rows = std::pin::pin!(rows);
        let mut bytes = 0;
        while let Some(row) = futures::StreamExt::next(&mut rows).await {
            bytes += row.unwrap().get::<_, &str>(0).len();
        }
        assert_eq!(bytes, 90_000 * 1000);
    });
    site.stop();
}

#[test]
fn a_cancel_ends_the_statement_that_runs() {
    let site = Site::start();
    run(async {
        let client = connect(site.address()).await;
        let cancel = client.cancel_token();
        let (ended, ()) = tokio::join!(client.query(ENDLESS, &[]), async {
            // Again and again: the first may come before the statement runs.
            for _ in 0..100 {
                cancel.cancel_query(NoTls).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
                if running(&site) == 0 {
                    break;
                }
            }
        });
        let error = ended.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::QUERY_CANCELED), "{error:?}");
    });
    site.stop();
}

/// Statements that the server runs, by its metrics.
fn running(site: &Site) -> usize {
    let text = crate::api::metrics(site.server.http);
    let line = text.lines().find_map(|line| line.strip_prefix("snowmelt_sql_running "));
    line.unwrap().parse().unwrap()
}

#[test]
fn a_client_that_goes_away_ends_its_statement() {
    let site = Site::start();
    run(async {
        let (client, connection) = options(site.address()).connect(NoTls).await.unwrap();
        let connection = tokio::spawn(connection);
        let query = tokio::spawn(async move { client.query(ENDLESS, &[]).await.map(|_| ()) });
        while running(&site) == 0 {
            tokio::task::yield_now().await;
        }
        query.abort();
        // The library would keep the connection until the answer is there.
        connection.abort();
        let patience = Instant::now() + Duration::from_secs(60);
        while running(&site) > 0 {
            assert!(Instant::now() < patience, "the statement goes on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    site.stop();
}

#[test]
fn a_client_that_does_not_read_does_not_keep_its_statement() {
    let site = Site::with(&Config { statement_timeout: Duration::from_secs(1), ..config() });
    run(async {
        let client = connect(site.address()).await;
        let sql = "select repeat(x::text, 200) from generate_series(10000, 999999) a(x)";
        let rows = client.query_raw(sql, Vec::<String>::new()).await.unwrap();
        let patience = Instant::now() + Duration::from_secs(60);
        while running(&site) > 0 {
            assert!(Instant::now() < patience, "the statement goes on");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // Read at last, it is an error and no shorter answer.
        let mut rows = std::pin::pin!(rows);
        let error = loop {
            match futures::StreamExt::next(&mut rows).await {
                Some(Ok(_)) => {}
                Some(Err(error)) => break error,
                None => panic!("a shorter answer"),
            }
        };
        assert_eq!(state(&error).0, "57014");
    });
    site.stop();
}

#[test]
fn both_doors_share_the_turns() {
    let world = World::with(small_log(), Limits { ..limits() }, 1 << 30);
    let one = Config { statements: 1, statements_waiting: 0, ..config() };
    let site = Site::over(world, &one);
    run(async {
        let client = connect(site.address()).await;
        let other = connect(site.address()).await;
        let cancel = client.cancel_token();
        let endless = client.prepare(ENDLESS).await.unwrap();
        let (ended, ()) = tokio::join!(client.query(&endless, &[]), async {
            while running(&site) == 0 {
                tokio::task::yield_now().await;
            }
            let error = other.simple_query("select 1").await.unwrap_err();
            assert_eq!(state(&error), ("53000", true));
            assert_eq!(crate::api::sql_status(site.server.http, "select 1"), 503);
            cancel.cancel_query(NoTls).await.unwrap();
        });
        assert_eq!(state(&ended.unwrap_err()).0, "57014");
    });
    site.stop();
}
