// npm pg: a pool, bound parameters, named prepared statements. Arguments: host:port and the folder with node_modules.
import { createRequire } from 'node:module';

const [address, folder] = process.argv.slice(2);
const { Pool } = createRequire(`${folder}/`)('pg');
const [host, port] = address.split(':');
const pool = new Pool({ host, port: Number(port), user: 'snowmelt', database: 'snowmelt' });
const show = (name, rows) => console.log(JSON.stringify([name, rows]));
const values = (row) => Object.values(row);

const count = 'SELECT count(*) FROM atomic.events';
let answer = await pool.query(count);
show('count', [Number(answer.rows[0].count)]);
show('column', answer.fields.map((field) => field.name));
answer = await pool.query({
  text:
    'SELECT event_id, domain_sessionidx, se_value, tr_total, br_cookies, refr_medium' +
    ' FROM atomic.events ORDER BY event_id LIMIT 3',
  rowMode: 'array',
});
show('types', answer.rows);
const ids = answer.rows.slice(0, 2).map((row) => row[0]);
const number = async (text, parameters) => Number(values((await pool.query(text, parameters)).rows[0])[0]);
show('bound', [await number('SELECT count(*) FROM atomic.events WHERE event_id = $1', [ids[0]])]);
show('any', [await number('SELECT count(*) FROM atomic.events WHERE event_id = any($1::text[])', [ids])]);
show('number', [await number('SELECT count(*) FROM atomic.events WHERE _index < $1', [1])]);
show('time', [
  await number('SELECT count(*) FROM atomic.events WHERE collector_tstamp < $1', [new Date('2100-01-01T00:00:00Z')]),
]);
for (let round = 0; round < 3; round += 1) {
  const prepared = { name: 'by-index', text: 'SELECT count(*) FROM atomic.events WHERE _index >= $1', values: [0] };
  show('prepared', [Number((await pool.query(prepared)).rows[0].count)]);
}
const client = await pool.connect();
await client.query('BEGIN');
show('transaction', [Number((await client.query(count)).rows[0].count)]);
await client.query('COMMIT');
client.release();
try {
  await pool.query('UPDATE atomic.events SET app_id = $1', ['x']);
  throw new Error('an UPDATE was let through');
} catch (error) {
  if (error.code !== '42501' || !error.hint) throw error;
}
await pool.end();
