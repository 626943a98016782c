//! `lambda.*`: where the layers meet, and what became of every range.

use serde_json::{Value, json};

use crate::world::*;

fn text(number: u64) -> String {
    offset(number).to_string()
}

#[test]
fn cut_and_frontier_have_a_row_per_partition() {
    let world = World::new(small_log());
    let sql = "select * from lambda.cut order by partition";
    let row = |name: &str, cut: u64, frontier: u64| json!([name, text(cut), text(frontier)]);
    assert_eq!(world.rows_of(sql), [row("raw/0", 0, 0), row("raw/1", 0, 0)]);
    world.see(0, 9);
    world.commit(&cut(&[(0, 5), (1, 3)]));
    assert_eq!(world.rows_of(sql), [row("raw/0", 5, 9), row("raw/1", 3, 3)]);
}

#[test]
fn iterations_are_listed_up_to_the_pinned_one() {
    let world = World::new(small_log());
    world.commit(&cut(&[(0, 5)]));
    world.commit(&world.log.ends());
    world.commit_unserved(&world.log.ends());
    let rows = world.rows_of("select * from lambda.iterations order by 1");
    let (events, bad) =
        (world.log.events(&world.log.ends()).len(), world.log.bad_rows(&world.log.ends()).len());
    let at_5 = cut(&[(0, 5)]);
    assert_eq!(
        rows,
        [
            json!([0, 0, "2026-11-22T10:00:00.000Z", "{}", RECIPE, 0, 0]),
            json!([
                1,
                0,
                "2026-11-22T10:00:01.000Z",
                serde_json::to_string(&at_5).unwrap(),
                RECIPE,
                world.log.events(&at_5).len(),
                world.log.bad_rows(&at_5).len()
            ]),
            json!([
                2,
                0,
                "2026-11-22T10:00:02.000Z",
                serde_json::to_string(&world.log.ends()).unwrap(),
                RECIPE,
                events,
                bad
            ]),
        ]
    );
}

/// The ledger closes, its ranges chain from the beginning to the end of the log, and it counts what is shown.
fn check(world: &World) {
    let rows = world.rows_of("select * from lambda.ledger order by partition, from_offset");
    let mut next: Option<(String, String)> = None;
    for row in &rows {
        let (name, from) = (row[0].as_str().unwrap(), row[1].as_str().unwrap());
        let follows = match &next {
            Some((before, to)) if before == name => to.clone(),
            _ => text(0),
        };
        assert_eq!(from, follows, "{rows:?}");
        next = Some((name.to_owned(), row[2].as_str().unwrap().to_owned()));
        if row[11] == json!(true) {
            assert!(row.as_array().unwrap()[3..11].iter().all(Value::is_null), "{row}");
        } else {
            let kinds: u64 = (5..10).map(|at| row[at].as_u64().unwrap()).sum();
            assert_eq!(row[4].as_u64().unwrap(), kinds, "{row}");
        }
    }
    let ends =
        world.rows_of("select partition, max(to_offset) from lambda.ledger group by 1 order by 1");
    let expected: Vec<Value> = world
        .log
        .ends()
        .iter()
        .map(|(name, end)| json!([name.as_str(), end.to_string()]))
        .collect();
    assert_eq!(ends, expected);
    let frontier = world.frontier();
    let sums = world.rows_of("select coalesce(sum(enriched), 0), coalesce(sum(failed), 0), coalesce(sum(failed + bad), 0) from lambda.ledger where not pending");
    let (events, failed) = (world.log.events(&frontier), world.log.failed_events(&frontier));
    let bad_rows = world.log.bad_rows(&frontier);
    assert_eq!(sums, [json!([events.len(), failed.len(), bad_rows.len()])]);
    let records: usize = world
        .log
        .0
        .iter()
        .map(|(name, records)| {
            records.keys().filter(|at| **at < frontier.of(name).number()).count()
        })
        .sum();
    let counted =
        world.rows_of("select coalesce(sum(records), 0) from lambda.ledger where not pending");
    assert_eq!(counted, [json!([records])]);
}

#[test]
fn the_ledger_closes_wherever_cut_and_frontier_stand() {
    let world = World::new(small_log());
    check(&world);
    world.see(0, 7);
    check(&world);
    world.see(0, 14);
    world.see(1, 5);
    check(&world);
    for at in [3, 8, 13] {
        world.commit(&cut(&[(0, at), (1, at / 3)]));
        check(&world);
        world.lambda.forget();
        check(&world);
    }
    world.see_all();
    check(&world);
    world.commit(&world.log.ends());
    check(&world);
    assert_eq!(world.rows_of("select count(*) from lambda.ledger where pending"), [json!([0])]);
}

#[test]
fn the_columns_are_the_documented_ones() {
    let world = World::new(small_log());
    let columns = |sql: &str| {
        let answer = world.ask(sql).unwrap();
        let columns = answer["columns"].as_array().unwrap().iter();
        let named = columns.map(|column| {
            format!("{} {}", column["name"].as_str().unwrap(), column["type"].as_str().unwrap())
        });
        named.collect::<Vec<_>>().join(", ")
    };
    assert_eq!(
        columns("select * from lambda.cut"),
        "partition text, cut_offset text, frontier text"
    );
    assert_eq!(
        columns("select * from lambda.iterations"),
        "iteration bigint, generation bigint, committed_at timestamp, cut text, recipe text, events bigint, bad_rows bigint"
    );
    assert_eq!(
        columns("select * from lambda.ledger"),
        "partition text, from_offset text, to_offset text, records bigint, outcomes bigint, enriched bigint, \
         failed bigint, bad bigint, dropped bigint, erased bigint, duplicates bigint, pending boolean"
    );
    assert_eq!(
        columns("select * from atomic.bad_rows"),
        "schema text, type text, failure_tstamp timestamp, messages text, payload text, bad_row text, \
         _partition text, _offset text, _index integer, _layer text"
    );
    assert_eq!(
        columns(
            "select collector_tstamp, tr_total, br_cookies, se_value, domain_sessionidx, count(*) from atomic.events group by 1,2,3,4,5"
        ),
        "collector_tstamp timestamp, tr_total decimal(18,2), br_cookies boolean, se_value double precision, \
         domain_sessionidx integer, count bigint"
    );
}

#[test]
fn the_information_schema_names_every_table() {
    let world = World::new(Log::default());
    let rows = world.rows_of(
        "select table_schema || '.' || table_name from information_schema.tables \
         where table_schema <> 'information_schema' order by 1",
    );
    let names = [
        "atomic.bad_rows",
        "atomic.events",
        "atomic.failed_events",
        "lambda.cut",
        "lambda.iterations",
        "lambda.ledger",
    ];
    assert_eq!(rows, names.map(|name| json!([name])));
    assert_eq!(
        world.rows_of("describe atomic.failed_events"),
        world.rows_of("describe atomic.events")
    );
    let columns = world
        .rows_of("select count(*) from information_schema.columns where table_name = 'events'");
    assert_eq!(columns, [json!([135])]);
    assert!(!world.rows_of("show tables").is_empty());
    assert_eq!(world.rows_of("describe atomic.bad_rows").len(), 10);
}
