//! Law 1 through SQL: wherever the cut and the frontier stand, the answer is that of the log below the frontier.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};

use model::cut::Frontier;
use model::position::Position;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::world::*;

const EVENTS: &str =
    "select _partition, _offset, _index, event_id from atomic.events order by 1, 2, 3";

/// What [`EVENTS`] has to answer.
fn events(log: &Log, frontier: &Frontier) -> Vec<Value> {
    let events = log.events(frontier).into_iter();
    events
        .map(|(position, event)| {
            json!([
                position.partition.as_str(),
                position.offset.to_string(),
                position.index,
                event.event_id
            ])
        })
        .collect()
}

fn check(world: &World) {
    let frontier = world.frontier();
    let expected = world.log.events(&frontier);
    assert_eq!(world.rows_of(EVENTS), events(&world.log, &frontier));
    assert_eq!(world.rows_of("select count(*) from atomic.events"), [json!([expected.len()])]);

    let bad: Vec<Value> = world
        .log
        .bad_rows(&frontier)
        .iter()
        .map(|position| json!([position.offset.to_string()]))
        .collect();
    assert_eq!(
        world.rows_of("select _offset from atomic.bad_rows order by _partition, _offset, _index"),
        bad
    );

    let failed = world.log.failed_events(&frontier);
    let rows = failed.iter().map(|(position, event_id)| {
        let Position { partition, offset, index } = position;
        json!([partition.as_str(), offset.to_string(), index, event_id])
    });
    let sql =
        "select _partition, _offset, _index, event_id from atomic.failed_events order by 1, 2, 3";
    assert_eq!(world.rows_of(sql), rows.collect::<Vec<_>>());
    let sql = "select count(*) from atomic.failed_events f join atomic.bad_rows b \
               on f._partition = b._partition and f._offset = b._offset and f._index = b._index";
    assert_eq!(world.rows_of(sql), [json!([failed.len()])]);

    let mut groups: BTreeMap<Option<String>, (u64, BTreeSet<String>, i64)> = BTreeMap::new();
    for (_, event) in &expected {
        let group = groups.entry(event.page_urlhost.clone()).or_default();
        group.0 += 1;
        group.1.extend(event.domain_userid.clone());
        group.2 += i64::from(event.domain_sessionidx.unwrap());
    }
    let grouped =
        groups.iter().map(|(host, (count, users, sum))| json!([host, count, users.len(), sum]));
    let sql = "select page_urlhost, count(*), count(distinct domain_userid), sum(domain_sessionidx) \
               from atomic.events group by 1 order by 1 nulls first";
    assert_eq!(world.rows_of(sql), grouped.collect::<Vec<_>>());

    // A filter on one column, a projection of another.
    let pings = expected
        .iter()
        .filter(|(_, event)| event.event_name.as_deref() == Some("page_ping"))
        .count();
    let sql = "select count(domain_userid) from atomic.events where event_name = 'page_ping'";
    assert_eq!(world.rows_of(sql), [json!([pings])]);

    // The sides join to the whole, and `_layer` tells them apart.
    let cut = world.lambda.served().cut.clone();
    let below = expected.iter().filter(|(at, _)| cut.covers(&at.partition, at.offset)).count();
    let layers = world.rows_of(
        "select count(*) filter (where _layer = 'batch'), count(*) filter (where _layer = 'speed') from atomic.events",
    );
    assert_eq!(layers, [json!([below, expected.len() - below])]);
    let batch = world.rows_of("select count(*) from atomic.events where _layer = 'batch'");
    assert_eq!(batch, [json!([below])]);
    let limited = world.rows_of("select event_id from atomic.events limit 3");
    assert_eq!(limited.len(), expected.len().min(3));
}

#[test]
fn the_answer_is_the_same_below_on_and_beyond_a_cut() {
    let world = World::new(small_log());
    check(&world);
    world.see(0, 7);
    check(&world);
    world.see_all();
    check(&world);
    // In a chunk of both partitions, between two outcomes' records, on a hole.
    for at in [1, 6, 9, 14] {
        world.commit(&cut(&[(0, at), (1, at / 2)]));
        check(&world);
        world.lambda.forget();
        check(&world);
    }
    world.commit(&world.log.ends());
    check(&world);
    world.lambda.forget();
    check(&world);
}

#[test]
fn a_cut_beyond_what_the_speed_layer_has_seen_is_the_frontier() {
    let world = World::new(small_log());
    world.see(0, 3);
    world.commit(&cut(&[(0, 11), (1, 2)]));
    assert_eq!(world.frontier(), cut(&[(0, 11), (1, 2)]));
    check(&world);
    world.see(0, 15);
    check(&world);
}

#[test]
fn spilled_chunks_are_read_at_the_scan() {
    let world = World::with(small_log(), limits(), 1);
    world.see(0, 5);
    world.see_all();
    assert!(world.lambda.realtime().metrics().spilled_chunks > 0);
    check(&world);
    world.commit(&cut(&[(0, 6), (1, 3)]));
    check(&world);
}

#[test]
fn an_empty_installation_answers_with_no_rows() {
    let world = World::new(Log::default());
    check(&world);
    let answer = world.ask("select * from atomic.events").unwrap();
    assert_eq!(answer["rows"], json!([]));
    assert_eq!(answer["columns"].as_array().unwrap().len(), 135);
    assert_eq!(answer["iteration"], 0);
    assert_eq!(answer["cut"], json!({}));
}

#[test]
fn one_statement_sees_one_moment_in_all_its_scans() {
    let world = World::new(small_log());
    world.see_all();
    world.commit(&cut(&[(0, 9), (1, 4)]));
    let sql = "select a._offset, b._layer from atomic.events a join atomic.events b \
               on a._partition = b._partition and a._offset = b._offset and a._index = b._index \
               where a._layer <> b._layer";
    assert_eq!(world.rows_of(sql), Vec::<Value>::new());
}

#[test]
fn answers_stay_whole_while_cuts_move_and_chunks_are_forgotten() {
    let records = (0..120).map(|n| if n % 5 == 0 { vec![bad(n)] } else { vec![event(n)] });
    let world = World::new(Log::of(&[records.clone().collect(), records.collect()]));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut last = 0;
                while !done.load(Ordering::Acquire) {
                    let answer = world.ask(EVENTS).unwrap();
                    let frontier: Frontier =
                        serde_json::from_value(answer["frontier"].clone()).unwrap();
                    assert_eq!(answer["rows"], Value::from(events(&world.log, &frontier)));
                    // Neither the iteration nor the frontier goes back.
                    assert!(answer["iteration"].as_u64().unwrap() >= last);
                    last = answer["iteration"].as_u64().unwrap();
                }
            });
        }
        for step in 1..=24 {
            world.see(0, step * 10);
            world.see(1, step * 7);
            if step % 2 == 0 {
                world.commit(&cut(&[(0, step * 8), (1, step * 7 - 3)]));
            }
            world.lambda.forget();
            let answer = world.ask("select count(*) from atomic.events").unwrap();
            let frontier: Frontier = serde_json::from_value(answer["frontier"].clone()).unwrap();
            assert_eq!(answer["rows"], json!([[world.log.events(&frontier).len()]]));
        }
        done.store(true, Ordering::Release);
    });
}

/// The physical plan of a statement, as text.
fn plan(world: &World, sql: &str) -> String {
    let rows = world.rows_of(&format!("explain {sql}"));
    let physical =
        rows.iter().find(|row| row[0] == "physical_plan").unwrap_or_else(|| panic!("{rows:?}"));
    physical[1].as_str().unwrap().to_owned()
}

#[test]
fn a_count_is_answered_from_statistics_in_both_layers() {
    let world = World::new(small_log());
    world.see(0, 9);
    world.commit(&cut(&[(0, 6), (1, 5)]));
    let plan = plan(&world, "select count(*) from atomic.events");
    assert!(!plan.contains("DataSourceExec"), "{plan}");
}

#[test]
fn filters_and_projections_reach_the_files() {
    let world = World::new(small_log());
    world.see(0, 9);
    world.commit(&cut(&[(0, 6), (1, 5)]));
    let plan = plan(
        &world,
        "select event_id from atomic.events where collector_tstamp > timestamp '2023-11-14 22:15:00'",
    );
    assert!(plan.contains("predicate=collector_tstamp"), "{plan}");
    assert!(plan.contains("projection=[collector_tstamp, event_id]"), "{plan}");
    assert!(!plan.contains("page_url"), "{plan}");
}

/// What happens to a world between two questions.
#[derive(Clone, Debug)]
enum Step {
    See(u32, u64),
    Commit(u64, u64),
    Forget,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (0u32..2, 0u64..50).prop_map(|(index, to)| Step::See(index, to)),
        2 => (0u64..50, 0u64..50).prop_map(|(a, b)| Step::Commit(a, b)),
        1 => Just(Step::Forget),
    ];
    proptest::collection::vec(step, 1..8)
}

fn logs() -> impl Strategy<Value = Log> {
    let outcome = prop_oneof![4 => (0u64..200).prop_map(event), 1 => (0u64..200).prop_map(bad)];
    let record = proptest::collection::vec(outcome, 1..4);
    let partition = proptest::collection::vec(record, 0..24);
    proptest::collection::vec(partition, 2..3).prop_map(|partitions| Log::of(&partitions))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn every_answer_is_that_of_the_log_below_the_frontier(log in logs(), steps in steps(), spill: bool) {
        let ends = log.ends();
        let world = World::with(log, limits(), if spill { 1 } else { 1 << 30 });
        for step in steps {
            match step {
                Step::See(index, to) => world.see(index, to.min(ends.of(&partition(index)).number())),
                Step::Commit(a, b) => {
                    world.commit(&cut(&[(0, a), (1, b)]).meet(&ends));
                }
                Step::Forget => world.lambda.forget(),
            }
        }
        check(&world);
    }
}
