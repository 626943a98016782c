SET extra_float_digits = 3

SET application_name = 'a dashboard'

SHOW search_path

SHOW TRANSACTION ISOLATION LEVEL

SHOW server_version_num

SELECT version()

SELECT current_schema(), session_user, current_user, current_database(), pg_backend_pid()

SELECT 1 AS ok WHERE pg_is_in_recovery() = false

SELECT current_setting('server_version_num')::int / 100 AS version

SELECT table_name FROM information_schema.tables WHERE table_schema = 'atomic' AND table_type IN ('BASE TABLE', 'VIEW') ORDER BY table_name

SELECT quote_ident(column_name) AS "column", data_type AS "type" FROM information_schema.columns WHERE quote_ident(table_schema) = 'atomic' AND quote_ident(table_name) = 'events'

SELECT CASE WHEN quote_ident(table_schema) IN ('atomic') THEN quote_ident(table_name) ELSE quote_ident(table_schema) || '.' || quote_ident(table_name) END AS "table" FROM information_schema.tables WHERE quote_ident(table_schema) NOT IN ('information_schema', 'pg_catalog', 'timescaledb_information') ORDER BY 1

SELECT DISTINCT column_name FROM information_schema.columns WHERE table_name = 'events' AND data_type IN ('timestamp without time zone', 'timestamp with time zone', 'bigint', 'integer', 'double precision', 'real', 'numeric') ORDER BY column_name

SELECT nspname AS "TABLE_SCHEM", current_database() AS "TABLE_CATALOG" FROM pg_catalog.pg_namespace WHERE nspname <> 'pg_toast' AND (nspname !~ '^pg_temp_' OR nspname = (pg_catalog.current_schemas(true))[1]) ORDER BY 1

SELECT n.nspname AS schema, c.relname AS name, CASE c.relkind WHEN 'r' THEN 'TABLE' WHEN 'v' THEN 'VIEW' ELSE NULL END AS type, d.description FROM pg_catalog.pg_class AS c INNER JOIN pg_catalog.pg_namespace AS n ON c.relnamespace = n.oid LEFT JOIN pg_catalog.pg_description AS d ON c.oid = d.objoid AND d.objsubid = 0 AND d.classoid = 'pg_class'::regclass WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema' AND c.relkind IN ('r', 'p', 'v', 'f', 'm') ORDER BY type ASC, schema ASC, name ASC

SELECT t.schemaname, t.tablename, has_table_privilege(current_user, t.schemaname || '.' || t.tablename, 'select') AS can_read FROM pg_catalog.pg_tables t WHERE has_schema_privilege(current_user, t.schemaname, 'usage')

SELECT schemaname, viewname FROM pg_catalog.pg_views UNION SELECT schemaname, matviewname FROM pg_catalog.pg_matviews

SELECT c.column_name, c.data_type, c.is_nullable = 'YES' AS nullable, c.ordinal_position - 1 AS position, col_description(CAST(CAST(format('%I.%I', CAST(c.table_schema AS text), CAST(c.table_name AS text)) AS regclass) AS oid), CAST(c.ordinal_position AS int)) AS remarks FROM information_schema.columns c WHERE c.table_schema = 'atomic' LIMIT 3

SELECT tc.table_name, kcu.column_name FROM information_schema.table_constraints tc JOIN information_schema.key_column_usage kcu ON tc.constraint_name = kcu.constraint_name WHERE tc.constraint_type = 'PRIMARY KEY'

SELECT n.oid, n.*, d.description FROM pg_catalog.pg_namespace n LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = n.oid AND d.objsubid = 0 AND d.classoid = 'pg_namespace'::regclass ORDER BY nspname

SELECT db.oid, db.* FROM pg_catalog.pg_database db WHERE datallowconn AND NOT datistemplate AND datname = 'snowmelt'

SELECT * FROM pg_catalog.pg_settings WHERE name = 'standard_conforming_strings'

SELECT * FROM pg_catalog.pg_enum WHERE 1 <> 1 LIMIT 1

SELECT reltype FROM pg_catalog.pg_class WHERE 1 <> 1 LIMIT 1

SELECT c.oid, c.*, d.description FROM pg_catalog.pg_class c LEFT OUTER JOIN pg_catalog.pg_description d ON d.objoid = c.oid AND d.objsubid = 0 WHERE c.relkind NOT IN ('i', 'I', 'c') ORDER BY c.relname

SELECT c.relname, a.*, ad.oid AS attr_id, dsc.description FROM pg_catalog.pg_attribute a INNER JOIN pg_catalog.pg_class c ON a.attrelid = c.oid LEFT OUTER JOIN pg_catalog.pg_attrdef ad ON a.attrelid = ad.adrelid AND a.attnum = ad.adnum LEFT OUTER JOIN pg_catalog.pg_description dsc ON c.oid = dsc.objoid AND a.attnum = dsc.objsubid WHERE NOT a.attisdropped AND c.relkind NOT IN ('i', 'I', 'c') ORDER BY a.attnum LIMIT 5

SELECT t.oid, t.typname, t.typtype, t.typelem, format_type(nullif(t.typbasetype, 0), t.typtypmod) AS base_type_name FROM pg_catalog.pg_type t LEFT OUTER JOIN pg_catalog.pg_type et ON et.oid = t.typelem WHERE t.typname IS NOT NULL AND (et.typcategory IS NULL OR et.typcategory <> 'C')

SELECT oid, typname, typarray FROM pg_type WHERE typname IN ('json', 'uuid', 'hstore')

SELECT r.rolname, r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user

SELECT date_trunc('hour', collector_tstamp) AS "time", count(*) FROM atomic.events WHERE collector_tstamp BETWEEN '2023-11-14T22:00:00Z' AND '2023-11-14T23:00:00Z' GROUP BY 1 ORDER BY 1

SELECT floor(extract(epoch FROM collector_tstamp) / 60) * 60 AS "time", app_id AS metric, count(*) AS value FROM atomic.events GROUP BY 1, 2 ORDER BY 1, 2

SELECT "atomic"."events"."app_id" AS "app_id", COUNT(*) AS "count" FROM "atomic"."events" WHERE ("atomic"."events"."collector_tstamp" >= timestamp with time zone '2023-11-14 00:00:00.000Z') AND ("atomic"."events"."collector_tstamp" < timestamp with time zone '2023-11-15 00:00:00.000Z') GROUP BY "atomic"."events"."app_id" ORDER BY "count" DESC, "atomic"."events"."app_id" ASC

SELECT "source"."collector_tstamp" AS "collector_tstamp", "source"."sum" AS "sum" FROM (SELECT DATE_TRUNC('day', "atomic"."events"."collector_tstamp") AS "collector_tstamp", SUM("atomic"."events"."tr_total") AS "sum" FROM "atomic"."events" GROUP BY DATE_TRUNC('day', "atomic"."events"."collector_tstamp")) AS "source" LIMIT 1048575

SELECT * FROM "atomic"."events" LIMIT 10

SELECT substring("atomic"."events"."page_urlhost", 1, 1234) AS "substring1", "atomic"."events"."app_id" FROM "atomic"."events" LIMIT 10000
