//! What psql, JDBC drivers and dashboards ask the system catalogues, as their public sources send it. Each must have an
//! answer; where the answer is what a person sees, it is held against our tables.

use tokio_postgres::SimpleQueryMessage;

use super::*;

/// The rows of a simple query as texts.
async fn rows(client: &Client, sql: &str) -> Vec<Vec<Option<String>>> {
    let answer = client.simple_query(sql).await.unwrap_or_else(|error| panic!("{sql}\n{error:?}"));
    let rows = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => {
            Some((0..row.len()).map(|at| row.get(at).map(str::to_owned)).collect())
        }
        _ => None,
    });
    rows.collect()
}

fn column(rows: &[Vec<Option<String>>], at: usize) -> Vec<&str> {
    rows.iter().map(|row| row[at].as_deref().unwrap_or("null")).collect()
}

#[test]
fn every_recorded_question_has_an_answer() {
    let site = Site::start();
    run(async {
        let client = connect(site.address()).await;
        let folder =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/serving/pg/clients");
        let mut files: Vec<_> =
            std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let mut failed = Vec::new();
        let mut count = 0;
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let name = file.file_name().unwrap().to_string_lossy().into_owned();
            for sql in text.split("\n\n").filter(|sql| !sql.trim().is_empty()) {
                count += 1;
                if let Err(error) = client.simple_query(sql).await {
                    failed.push(format!("{name}: {sql}\n  {}", error.as_db_error().unwrap()));
                }
            }
        }
        assert!(count > 50, "only {count} questions");
        assert!(failed.is_empty(), "{} of {count}:\n{}", failed.len(), failed.join("\n\n"));
    });
    site.stop();
}

#[test]
fn the_catalogues_tell_our_tables() {
    let site = Site::start();
    run(async {
        let client = connect(site.address()).await;
        let tables = rows(
            &client,
            "select table_schema, table_name, table_type from information_schema.tables order by 1, 2",
        )
        .await;
        let names = ["bad_rows", "events", "failed_events", "cut", "iterations", "ledger"];
        assert_eq!(column(&tables, 1), names);
        let columns = rows(
            &client,
            "select column_name, data_type, udt_name from information_schema.columns \
             where table_schema = 'atomic' and table_name = 'events' and column_name in \
             ('app_id', 'collector_tstamp', 'tr_total', 'se_value', 'br_cookies', 'domain_sessionidx') order by ordinal_position",
        )
        .await;
        assert_eq!(
            column(&columns, 1),
            [
                "text",
                "timestamp without time zone",
                "integer",
                "double precision",
                "numeric",
                "boolean"
            ]
        );
        let attributes = rows(
            &client,
            "select a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod) from pg_catalog.pg_attribute a \
             join pg_catalog.pg_class c on c.oid = a.attrelid where c.relname = 'events' and a.attnum > 0 order by a.attnum",
        )
        .await;
        assert_eq!(attributes.len(), 135);
        assert_eq!(attributes[0], [Some("app_id".to_owned()), Some("text".to_owned())]);
        let classes = rows(
            &client,
            "select n.nspname, c.relname, c.relkind from pg_catalog.pg_class c \
             left join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
             where n.nspname in ('atomic', 'lambda') order by 1, 2",
        )
        .await;
        assert_eq!(column(&classes, 1), names);
        assert_eq!(column(&classes, 2), ["r", "r", "r", "v", "v", "v"]);
        let databases = rows(&client, "select datname from pg_catalog.pg_database").await;
        assert_eq!(column(&databases, 0), ["snowmelt"]);
    });
    site.stop();
}

#[test]
fn a_statement_over_events_is_not_changed_by_the_rules_for_catalogues() {
    let site = Site::start();
    let correlated = "select e.event_id, (select count(*) from atomic.bad_rows b where b._offset = e._offset and b._partition = e._partition) \
                      from atomic.events e order by 1";
    let expected = site.world.rows_of(correlated);
    run(async {
        let client = connect(site.address()).await;
        let answered = rows(&client, correlated).await;
        let numbers: Vec<String> = expected.iter().map(|row| row[1].to_string()).collect();
        assert_eq!(column(&answered, 1), numbers);
        assert!(numbers.contains(&"1".to_owned()));
    });
    site.stop();
}
