"""asyncpg, which prepares every statement and takes everything in binary."""

import asyncio
import datetime
import json
import sys

import asyncpg


def show(name, rows):
    print(json.dumps([name, rows], default=str))


async def main():
    host, port = sys.argv[1].rsplit(":", 1)
    pool = await asyncpg.create_pool(
        host=host, port=int(port), user="snowmelt", database="snowmelt", min_size=2, max_size=4
    )
    count = "SELECT count(*) FROM atomic.events"
    for _ in range(3):  # Given back to the pool, a connection is reset.
        async with pool.acquire() as c:
            show("count", [await c.fetchval(count)])
    async with pool.acquire() as c:
        row = await c.fetchrow(count)
        show("column", list(row.keys()))
        rows = await c.fetch(
            "SELECT event_id, domain_sessionidx, se_value, tr_total, br_cookies, collector_tstamp, refr_medium"
            " FROM atomic.events ORDER BY event_id LIMIT 3"
        )
        show("types-binary", [list(row) for row in rows])
        ids = [row["event_id"] for row in rows[:2]]
        show("bound", [await c.fetchval("SELECT count(*) FROM atomic.events WHERE event_id = $1", ids[0])])
        show("any", [await c.fetchval("SELECT count(*) FROM atomic.events WHERE event_id = any($1::text[])", ids)])
        show("number", [await c.fetchval("SELECT count(*) FROM atomic.events WHERE _index < $1", 1)])
        later = datetime.datetime(2100, 1, 1)
        show("time", [await c.fetchval("SELECT count(*) FROM atomic.events WHERE collector_tstamp < $1", later)])
        show("null", list(await c.fetchrow("SELECT $1::text, count(refr_medium) FROM atomic.events", None)))
        prepared = await c.prepare("SELECT count(*) FROM atomic.events WHERE _index >= $1")
        for _ in range(3):
            show("prepared", [await prepared.fetchval(0)])
        async with c.transaction():
            cursor = await c.cursor("SELECT event_id FROM atomic.events ORDER BY 1")
            parts = [len(await cursor.fetch(7)), len(await cursor.fetch(7))]
            show("cursor", parts)
        try:
            await c.fetch("SELECT count(*) FROM generate_series(1, 1000000000000) a(x) WHERE x % 7 = 8", timeout=0.5)
            raise SystemExit("an endless statement ended")
        except asyncio.TimeoutError:
            pass  # asyncpg cancels it by a cancel request.
        show("after", [await c.fetchval(count)])
        try:
            await c.execute("CREATE TABLE t (x int)")
            raise SystemExit("a CREATE was let through")
        except asyncpg.exceptions.InsufficientPrivilegeError as error:
            assert error.hint, error
    await pool.close()


asyncio.run(main())
