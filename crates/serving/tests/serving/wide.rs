//! Wide columns through SQL: their names, types and values are the same wherever the cut is, and who does not ask for
//! them does not pay for them.

use std::time::Duration;

use model::event::EnrichedEvent;
use proptest::prelude::*;
use serde_json::{Value, json};
use serving::sql::Limits;
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::Type;

use crate::api::{config, serve};
use crate::pg::{Site, connect, run, state};
use crate::world::*;

const CART: &str = "unstruct_event_com_acme_cart_1";
const USER: &str = "contexts_com_acme_user_1";

fn entity(name: &str, version: &str, data: Value) -> Value {
    json!({"schema": format!("iglu:com.acme/{name}/jsonschema/{version}"), "data": data})
}

fn envelope(name: &str, version: &str, data: Value) -> Option<String> {
    let schema = format!("iglu:com.snowplowanalytics.snowplow/{name}/jsonschema/{version}");
    Some(json!({"schema": schema, "data": data}).to_string())
}

/// An event of a shop; a later version of its cart comes after the fifth.
pub(crate) fn wide_event(number: u64) -> Outcome {
    let Outcome::Event(event) = event(number) else { unreachable!("it makes events") };
    let cart = match number {
        0..5 => entity(
            "cart",
            "1-0-0",
            json!({"total": number, "items": [{"sku": "s1"}, {"sku": null}]}),
        ),
        _ => entity(
            "cart",
            "1-0-1",
            json!({"total": number as f64 + 0.5, "couponCode": "c\"", "at": "2026-11-22T10:00:00+01:00"}),
        ),
    };
    let user = entity(
        "user",
        "1-0-0",
        json!({"userId": format!("u{number}"), "since": "2026-11-22", "price": 1.5}),
    );
    let free = entity("free", "1-0-0", json!({"anything": [number]}));
    Outcome::Event(Box::new(EnrichedEvent {
        unstruct_event: number
            .is_multiple_of(2)
            .then(|| envelope("unstruct_event", "1-0-0", cart))
            .flatten(),
        contexts: envelope("contexts", "1-0-0", json!([user])),
        derived_contexts: number
            .is_multiple_of(3)
            .then(|| envelope("contexts", "1-0-1", json!([free, user])))
            .flatten(),
        ..*event
    }))
}

/// One partition of shop events; one failed event with the cart it had.
fn shop() -> Log {
    let Outcome::Event(event) = wide_event(4) else { unreachable!("it makes events") };
    let mut records: Vec<Vec<Outcome>> = (0..10).map(|number| vec![wide_event(number)]).collect();
    records.push(vec![Outcome::Failed(event, "{}".to_owned())]);
    Log::of(&[records])
}

/// What is below the cut, and how far the speed layer is: offsets are twice the number.
fn world(cut_at: u64) -> World {
    let world = World::new(shop());
    world.see_all();
    world.commit(&cut(&[(0, cut_at)]));
    world
}

#[test]
fn columns_and_values_are_the_same_wherever_the_cut_is() {
    let sql = format!(
        "select event_id, {CART}, {USER}, contexts_com_acme_free_1 from atomic.events order by 1"
    );
    let columns = "select column_name, data_type, udt_name, ordinal_position from information_schema.columns \
                   where table_name in ('events', 'failed_events') order by table_name, ordinal_position";
    let answers: Vec<[Value; 2]> = [0, 1, 7, 12, 21]
        .into_iter()
        .map(|at| {
            let world = world(at);
            [world.rows_of(&sql).into(), world.rows_of(columns).into()]
        })
        .collect();
    let [rows, columns] = &answers[0];
    assert_eq!(
        rows[0],
        json!([
            "00000000-0000-4000-8000-000000000000",
            {"items": [{"sku": "s1"}, {"sku": null}], "total": 0.0, "at": null, "coupon_code": null},
            [
                {"_schema_version": "1-0-0", "price": "1.50", "since": "2026-11-22", "user_id": "u0"},
                {"_schema_version": "1-0-0", "price": "1.50", "since": "2026-11-22", "user_id": "u0"},
            ],
            r#"[{"anything":[0],"_schema_version":"1-0-0"}]"#,
        ])
    );
    assert_eq!(
        rows[6][1],
        json!({"items": null, "total": 6.5, "at": "2026-11-22T09:00:00.000Z", "coupon_code": "c\""})
    );
    assert_eq!(rows[7][1], Value::Null);
    let wide: Vec<&Value> = columns.as_array().unwrap()[131..134].iter().collect();
    assert_eq!(
        wide,
        [
            &json!(["contexts_com_acme_free_1", "text", "text", 132]),
            &json!([USER, "json", "json", 133]),
            &json!([CART, "json", "json", 134]),
        ]
    );
    for other in &answers[1..] {
        assert_eq!(other, &answers[0]);
    }
}

#[test]
fn fields_and_items_can_be_named() {
    let world = world(9);
    for (sql, expected) in [
        (format!("select sum({CART}['total']) from events"), json!([[0.0 + 2.0 + 4.0 + 6.5 + 8.5]])),
        (format!("select ({CART}).total from events where ({CART}).total > 8"), json!([[8.5]])),
        (
            format!("select {USER}[1]['user_id'], {USER}[1]['price'] * 2 from events where {USER}[1]['user_id'] = 'u3'"),
            json!([["u3", "3.00"]]),
        ),
        (
            format!("select count(*) from (select unnest({USER}) as entity from events) where entity['since'] = date '2026-11-22'"),
            json!([[14]]),
        ),
        (format!("select {CART}['items'][1]['sku'] as sku from events group by 1 order by 1 nulls first"), json!([[null], ["s1"]])),
        (format!("select count({CART}['coupon_code']), max({CART}['at']) from events"), json!([[2, "2026-11-22T09:00:00.000Z"]])),
        (format!("select {CART}['total'] from failed_events"), json!([[4]])),
        ("select contexts_com_acme_free_1::json->0->>'anything' from events where domain_sessionidx = 6".to_owned(), json!([["[6]"]])),
    ] {
        assert_eq!(Value::from(world.rows_of(&sql)), expected, "{sql}");
    }
    for (sql, expected) in [
        (
            format!("select ({CART}->>'total')::float from events where event_id like '%06'"),
            json!([[6.5]]),
        ),
        (
            format!("select {USER}->0->>'user_id' from events where event_id like '%06'"),
            json!([["u6"]]),
        ),
        (
            format!("select to_json({CART}) from events where event_id like '%00'"),
            json!([[
                r#"{"items":[{"sku":"s1"},{"sku":null}],"total":0.0,"at":null,"coupon_code":null}"#
            ]]),
        ),
    ] {
        assert_eq!(Value::from(world.rows_of(&sql)), expected, "{sql}");
    }
    let answer =
        world.ask(&format!("select {CART}, {USER}, {CART}['total'] from events limit 0")).unwrap();
    let types: Vec<&Value> =
        answer["columns"].as_array().unwrap().iter().map(|it| &it["type"]).collect();
    assert_eq!(types, ["json", "json", "double precision"]);
    let all = world.ask("select * from atomic.events").unwrap();
    assert_eq!(all["columns"].as_array().unwrap().len(), 131 + 3 + 4);
    assert_eq!(all["rows"].as_array().unwrap().len(), 10);
    assert_eq!(all["columns"][134]["name"], "_partition");
}

#[test]
fn the_postgres_wire_tells_records_as_json() {
    let site = Site::over(World::new(shop()), &config());
    run(async {
        let client = connect(site.address()).await;
        let sql = format!(
            "select {CART}, {USER}, {CART}['total'] from atomic.events order by event_id limit 1"
        );
        let statement = client.prepare(&sql).await.unwrap();
        let types: Vec<Type> = statement.columns().iter().map(|it| it.type_().clone()).collect();
        assert_eq!(types, [Type::JSON, Type::JSON, Type::FLOAT8]);
        let answer = client.simple_query(&sql).await.unwrap();
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let cart: Value = serde_json::from_str(row.unwrap().get(0).unwrap()).unwrap();
        assert_eq!(cart["items"], json!([{"sku": "s1"}, {"sku": null}]));
        let users: Value = serde_json::from_str(row.unwrap().get(1).unwrap()).unwrap();
        assert_eq!(users[0]["user_id"], "u0");
        let all = client.query("select * from atomic.events", &[]).await.unwrap();
        assert_eq!((all.len(), all[0].len()), (10, 138));
        // As `\\d atomic.events` does.
        let sql = "select a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod) \
                   from pg_catalog.pg_attribute a join pg_catalog.pg_class c on a.attrelid = c.oid \
                   where c.relname = 'events' and a.attnum > 130 order by a.attnum";
        let described = client.query(sql, &[]).await.unwrap();
        let described: Vec<(String, String)> =
            described.iter().map(|row| (row.get(0), row.get(1))).collect();
        let told = |name: &str, of: &str| (name.to_owned(), of.to_owned());
        assert_eq!(
            described[1..5],
            [
                told("contexts_com_acme_free_1", "text"),
                told(USER, "json"),
                told(CART, "json"),
                told("_partition", "text"),
            ]
        );
    });
    site.stop();
}

#[test]
fn a_prepared_star_says_that_there_are_other_columns_now() {
    // The second event is the first that has a cart.
    let world = World::new(Log::of(&[(1..6).map(|number| vec![wide_event(number)]).collect()]));
    world.see(0, 2);
    let server = serve(&world, &config()).unwrap();
    run(async {
        let client = connect(server.pg).await;
        let star = client.prepare("select * from events").await.unwrap();
        let one = client.prepare("select app_id from events").await.unwrap();
        assert_eq!(client.query(&star, &[]).await.unwrap().len(), 1);
        world.see_all();
        let error = client.query(&star, &[]).await.err().unwrap();
        assert_eq!(state(&error), ("0A000", true));
        assert_eq!(client.query(&one, &[]).await.unwrap().len(), 5);
        assert_eq!(client.query("select * from events", &[]).await.unwrap().len(), 5);
    });
    assert!(server.shutdown(Duration::from_secs(60)), "something had to be cancelled");
}

#[test]
fn a_prepared_field_whose_type_has_widened_is_no_longer_answered() {
    // Whole totals first; the sixth event is the first of the version in which they are not.
    let world = World::new(shop());
    world.see(0, 10);
    let server = serve(&world, &config()).unwrap();
    run(async {
        let client = connect(server.pg).await;
        let total = format!("select {CART}['total'] as total from events where {CART} is not null");
        let sum = format!("select sum({CART}['total']) as total from events");
        for (sql, whole) in [(&total, true), (&sum, true)] {
            let prepared = client.prepare(sql).await.unwrap();
            assert_eq!(prepared.columns()[0].type_() == &Type::INT8, whole, "{sql}");
        }
        let before = [client.prepare(&total).await.unwrap(), client.prepare(&sum).await.unwrap()];
        assert_eq!(client.query(&before[0], &[]).await.unwrap().len(), 3);
        world.see_all();
        for prepared in &before {
            let error = client.query(prepared, &[]).await.err().unwrap();
            assert_eq!(state(&error), ("0A000", true));
        }
        let now = client.query(&sum, &[]).await.unwrap();
        assert_eq!(now[0].get::<_, f64>(0), 0.0 + 2.0 + 4.0 + 6.5 + 8.5);
    });
    assert!(server.shutdown(Duration::from_secs(60)), "something had to be cancelled");
}

#[test]
fn what_a_wide_column_takes_of_memory_counts() {
    let Outcome::Event(event) = wide_event(0) else { unreachable!("it makes events") };
    let items = vec![json!({}); 100_000];
    let cart = entity("cart", "1-0-0", json!({"items": items}));
    let many = Outcome::Event(Box::new(EnrichedEvent {
        unstruct_event: envelope("unstruct_event", "1-0-0", cart),
        ..*event
    }));
    let few = limits();
    let sql = format!("select count({CART}) from events");
    for (memory_bytes, expect) in [(1 << 20, "memory_limit"), (64 << 20, "ok")] {
        let log = Log::of(&[vec![vec![many.clone()], vec![wide_event(2)]]]);
        let world =
            World::with(log, Limits { memory_bytes, spill_bytes: 0, ..few.clone() }, 1 << 30);
        world.see_all();
        assert_eq!(world.code(&sql), expect);
        assert_eq!(world.code("select count(*) from events"), "ok");
    }
}

#[test]
fn a_field_is_named_with_its_table_as_well() {
    let world = world(9);
    let plain = world.rows_of(&format!("select {CART}['total'] from events order by _offset"));
    for sql in [
        "select e.cart['total'] from events e order by e._offset",
        "select events.cart['total'] from events order by _offset",
        "select atomic.events.cart['total'] from atomic.events order by _offset",
        "select (e.cart)['total'] from events e order by e._offset",
        "select (e.cart).total from events e order by e._offset",
    ] {
        let sql = sql.replace("cart", CART);
        assert_eq!(world.rows_of(&sql), plain, "{sql}");
    }
    let sql = "select count(*) from events a join events b on a.cart['total'] = b.cart['total'] \
               where a.cart['items'][1]['sku'] = 's1'"
        .replace("cart", CART);
    assert_eq!(world.rows_of(&sql), [json!([3])]);
}

/// The plan of a statement as one text.
fn plan(world: &World, sql: &str) -> String {
    let rows = world.rows_of(&format!("explain {sql}"));
    rows.iter().map(|row| row[1].as_str().unwrap().to_owned()).collect::<Vec<_>>().join("\n")
}

#[test]
fn who_names_no_wide_column_does_not_pay_for_one() {
    let world = world(9);
    for sql in [
        "select count(*) from events",
        "select app_id, count(*) from events where collector_tstamp > timestamp '2023-01-01' group by 1",
        "select contexts, _offset from events order by _offset limit 3",
    ] {
        let plan = plan(&world, sql);
        assert!(!plan.contains("WideExec"), "{plan}");
    }
    let plan = plan(
        &world,
        &format!(
            "select {CART}['total'] from events where event_name = 'page_view' and app_id = 'app1'"
        ),
    );
    assert!(plan.contains(&format!("WideExec: columns=[{CART}]")), "{plan}");
    // Only what the column is made from is read, and the filter is below.
    let (_, below) = plan.split_once("WideExec").unwrap();
    assert!(below.contains("projection=[app_id, unstruct_event, event_name]"), "{plan}");
    assert!(!below.contains("derived_contexts"), "{plan}");
    assert!(below.contains("predicate=event_name@"), "{plan}");
}

#[test]
fn a_new_version_changes_the_columns_with_the_next_statement() {
    let world = World::new(shop());
    let columns = "select column_name from information_schema.columns where table_name = 'events' and data_type = 'json'";
    assert_eq!(world.rows_of(columns), Vec::<Value>::new());
    assert_eq!(world.code(&format!("select {CART} from events")), "invalid_statement");
    world.see(0, 2);
    assert_eq!(world.rows_of(columns), [json!([USER]), json!([CART])]);
    assert_eq!(
        world.rows_of(&format!("select {CART} from events")),
        [json!([{"items": [{"sku": "s1"}, {"sku": null}], "total": 0}])]
    );
    world.see_all();
    assert_eq!(
        world.rows_of(&format!("select count({CART}['coupon_code']) from events")),
        [json!([2])]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Law 1 for the wide columns: a frontier, answered with any cut below it.
    #[test]
    fn wide_columns_do_not_depend_on_the_cut(seen in 1u64..22, cuts in proptest::collection::vec(0u64..22, 1..3)) {
        let sql = "select * from atomic.events order by _offset";
        let answer = |cuts: &[u64]| {
            let world = World::new(shop());
            world.see(0, seen);
            for at in cuts {
                world.commit(&cut(&[(0, (*at).min(seen))]));
            }
            let answer = world.ask(sql).unwrap();
            let rows = answer["rows"].as_array().unwrap().iter().map(|row| {
                // All but the layer.
                let row = row.as_array().unwrap();
                row[..row.len() - 1].to_vec()
            });
            (answer["columns"].clone(), rows.collect::<Vec<_>>())
        };
        prop_assert_eq!(answer(&[]), answer(&cuts));
    }
}
