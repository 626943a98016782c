//! Each type of our columns, as text and in binary, as a result and as a parameter, and nulls.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::types::Type;

use super::*;

/// All columns of the first event, in their types.
const COLUMNS: &str =
    "app_id, domain_sessionidx, se_value, tr_total, br_cookies, collector_tstamp, refr_medium";

#[test]
fn our_types_arrive_in_binary() {
    let site = Site::start();
    run(async {
        let client = connect(site.address()).await;
        let sql =
            format!("select {COLUMNS}, tr_total::text from atomic.events where event_id = $1");
        let statement = client.prepare(&sql).await.unwrap();
        assert_eq!(statement.params(), [Type::TEXT]);
        let types: Vec<Type> = statement.columns().iter().map(|it| it.type_().clone()).collect();
        assert_eq!(
            types,
            [
                Type::TEXT,
                Type::INT4,
                Type::FLOAT8,
                Type::NUMERIC,
                Type::BOOL,
                Type::TIMESTAMP,
                Type::TEXT,
                Type::TEXT
            ]
        );
        for (number, below_the_cut) in [(4, true), (8, false)] {
            let id = format!("00000000-0000-4000-8000-{number:012}");
            let row = client.query_one(&statement, &[&id]).await.unwrap();
            assert_eq!(row.get::<_, String>(0), format!("app{}", number % 3), "{below_the_cut}");
            assert_eq!(row.get::<_, i32>(1), number);
            assert_eq!(row.get::<_, f64>(2), f64::from(number) + 0.5);
            assert_eq!(row.get::<_, String>(7), format!("{number}.25"));
            assert!(row.get::<_, bool>(4));
            let at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_000 + number as u64 * 1000);
            assert_eq!(row.get::<_, SystemTime>(5), at);
            assert_eq!(row.get::<_, Option<String>>(6), None);
        }
    });
    site.stop();
}

#[test]
fn our_types_arrive_as_text() {
    let site = Site::start();
    run(async {
        let client = connect(site.address()).await;
        let sql = format!("select {COLUMNS} from atomic.events order by collector_tstamp limit 1");
        let answer = client.simple_query(&sql).await.unwrap();
        let row = answer.iter().find_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        });
        let row = row.unwrap();
        let values: Vec<Option<&str>> = (0..row.len()).map(|at| row.get(at)).collect();
        let expected = ["app0", "0", "0.5", "0.25", "t", "2023-11-14 22:13:20"].map(Some);
        assert_eq!(values[..6], expected);
        assert_eq!(values[6], None);
    });
    site.stop();
}

#[test]
fn parameters_take_the_types_of_their_places() {
    let site = Site::start();
    let expected = site.world.rows_of(
        "select count(*) from atomic.events where domain_sessionidx >= 0 and collector_tstamp < timestamp '2023-11-14 22:13:29' \
         and br_cookies and se_value > 0",
    );
    run(async {
        let client = connect(site.address()).await;
        let sql = "select count(*) from atomic.events where domain_sessionidx >= $1 and collector_tstamp < $2 \
                   and br_cookies = $3 and se_value > $4 and (page_urlhost = $5 or $5 is null)";
        let statement = client.prepare(sql).await.unwrap();
        assert_eq!(
            statement.params(),
            [Type::INT4, Type::TIMESTAMP, Type::BOOL, Type::FLOAT8, Type::TEXT]
        );
        let at = UNIX_EPOCH + Duration::from_secs(1_700_000_009);
        let none: Option<&str> = None;
        let row = client.query_one(&statement, &[&0i32, &at, &true, &0.0f64, &none]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), expected[0][0].as_i64().unwrap());
        assert!(row.get::<_, i64>(0) > 0);
        let limited = client.query("select event_id from atomic.events limit $1", &[&3i64]).await;
        assert_eq!(limited.unwrap().len(), 3);
        let apps = vec!["app0", "app2"];
        let any = "select count(*) from atomic.events where app_id = any($1)";
        let typed = client.prepare_typed(any, &[Type::TEXT_ARRAY]).await.unwrap();
        assert_eq!(client.query_one(&typed, &[&apps]).await.unwrap().get::<_, i64>(0), 11);
        let declared = client.prepare_typed("select $1 + 1, $2", &[Type::INT4, Type::TEXT]).await;
        let row = client.query_one(&declared.unwrap(), &[&41i32, &"x"]).await.unwrap();
        assert_eq!((row.get::<_, i64>(0), row.get::<_, &str>(1)), (42, "x"));
        let cast = client.query_one("select $1::bigint, $2::text", &[&7i64, &"y"]).await.unwrap();
        assert_eq!((cast.get::<_, i64>(0), cast.get::<_, &str>(1)), (7, "y"));
    });
    site.stop();
}

#[test]
fn columns_are_named_as_postgresql_names_them() {
    let site = Site::start();
    run(async {
        let client = connect(site.address()).await;
        let sql = "select count(*), sum(domain_sessionidx), 1, 1, max(app_id) as \"Max\", version() from atomic.events";
        let statement = client.prepare(sql).await.unwrap();
        let names: Vec<&str> = statement.columns().iter().map(|column| column.name()).collect();
        assert_eq!(names, ["count", "sum", "?column?", "?column?", "Max", "version"]);
        let row = client.query_one(&statement, &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>("count"), 16);
        assert!(row.get::<_, &str>("version").starts_with("PostgreSQL 15."));
        let row = client
            .query_one("select current_database(), current_schema(), current_user", &[])
            .await
            .unwrap();
        assert_eq!(
            (row.get::<_, &str>(0), row.get::<_, &str>(1), row.get::<_, &str>(2)),
            ("snowmelt", "atomic", "snowmelt")
        );
        let row = client.query_one("select row_number() over (order by event_id), array[1, 2], interval '90 minutes' from atomic.events limit 1", &[]).await.unwrap();
        assert_eq!(row.get::<_, i64>(0), 1);
        assert_eq!(row.get::<_, Vec<i64>>(1), [1, 2]);
    });
    site.stop();
}
