"""psycopg 3: prints one line of JSON per check, which the test holds against the API."""

import datetime
import json
import sys

import psycopg

host, port = sys.argv[1].rsplit(":", 1)
dsn = f"host={host} port={port} user=snowmelt dbname=snowmelt"


def show(name, rows):
    print(json.dumps([name, rows], default=str))


with psycopg.connect(dsn, autocommit=True) as c:
    show("version", c.execute("SELECT version()").fetchone())
    assert c.info.server_version == 150000, c.info.server_version
    count = "SELECT count(*) FROM atomic.events"
    show("count", c.execute(count).fetchone())
    show("column", [c.execute(count).description[0].name])
    for binary in (False, True):
        cursor = c.cursor(binary=binary)
        cursor.execute(
            "SELECT event_id, domain_sessionidx, se_value, tr_total, br_cookies, collector_tstamp, refr_medium"
            " FROM atomic.events ORDER BY event_id LIMIT 3"
        )
        show("types" + ("-binary" if binary else ""), cursor.fetchall())
    ids = [row[0] for row in c.execute("SELECT event_id FROM atomic.events ORDER BY 1 LIMIT 2")]
    show("bound", c.execute("SELECT count(*) FROM atomic.events WHERE event_id = %s", (ids[0],)).fetchone())
    show("any", c.execute("SELECT count(*) FROM atomic.events WHERE event_id = any(%s)", (ids,)).fetchone())
    show("number", c.execute("SELECT count(*) FROM atomic.events WHERE _index < %s", (1,)).fetchone())
    later = datetime.datetime(2100, 1, 1)
    show("time", c.execute("SELECT count(*) FROM atomic.events WHERE collector_tstamp < %s", (later,)).fetchone())
    aware = later.replace(tzinfo=datetime.timezone.utc)
    show("aware", c.execute("SELECT count(*) FROM atomic.events WHERE collector_tstamp < %s", (aware,)).fetchone())
    show("null", c.execute("SELECT %s::text, count(refr_medium) FROM atomic.events", (None,)).fetchone())
    for _ in range(7):  # From the fifth time on, psycopg prepares a statement by name.
        show("prepared", c.execute("SELECT count(*) FROM atomic.events WHERE _index >= %s", (0,)).fetchone())
    try:
        c.execute("DELETE FROM atomic.events")
        raise SystemExit("a DELETE was let through")
    except psycopg.errors.InsufficientPrivilege as error:
        assert error.diag.message_hint, error
    with c.pipeline():
        one, two = c.execute("SELECT 1"), c.execute("SELECT 2")
    show("pipeline", [one.fetchone()[0], two.fetchone()[0]])

with psycopg.connect(dsn) as c:  # In transactions, as it is by default.
    with c.transaction():
        show("transaction", c.execute(count).fetchone())
    try:
        c.execute("SELECT nothing FROM atomic.events")
        raise SystemExit("a column that does not exist was answered")
    except psycopg.errors.UndefinedColumn:
        c.rollback()
    show("after", c.execute(count).fetchone())
