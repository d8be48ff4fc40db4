-- What a database holds, a line each: its schema, the licensed files that it lists, and every table's number of rows with a
-- digest of their content. The digest is a sum over the rows, so that it does not depend on their order. What hosts report of
-- themselves all day is left out.
SET TimeZone = 'UTC';
SET DateStyle = 'ISO';
SET IntervalStyle = 'postgres';
SELECT 'schema ' || max(name) FROM schema_migration;
SELECT 'SELECT ''file '' || sha256 || '' '' || name FROM file' WHERE to_regclass('public.file') IS NOT NULL \gexec
SELECT format(
    $$SELECT 'table %1$s ' || count(*) || ' '
        || coalesce(sum(('x' || left(md5((a_row.*)::text), 15))::bit(60)::bigint), 0) FROM public.%2$I AS a_row$$,
    regexp_replace(relname, '[^A-Za-z0-9_]', '?', 'g'), relname -- a name could hold a quote or a line of its own
) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
    AND relname <> 'host' ORDER BY relname COLLATE "C"
\gexec
