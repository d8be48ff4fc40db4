"""The objects of a database, as `app/storage/catalog.txt` lists those that the migrations make.

Definitions are printed by PostgreSQL; versions 17 and 18 print these ones alike, others were not tried. NOT NULL is
part of a column's line, since only version 18 lists it as a constraint.
"""

from app.storage.database import Database

# Objects that belong to an extension, which a database's administrator may add, are not ours.
_CATALOG = """
WITH relation AS (
    SELECT c.oid, c.relname, c.relkind, c.reloptions FROM pg_class c
    WHERE c.relnamespace = 'public'::regnamespace AND NOT EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
)
SELECT 'table ' || relname || coalesce(' ' || array_to_string(reloptions, ','), '')
FROM relation WHERE relkind IN ('r', 'p', 'f', 'v', 'm')
UNION ALL
SELECT format('column %s.%s %s%s%s%s', relname, attname, format_type(atttypid, atttypmod),
    CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END,
    CASE WHEN attidentity <> '' THEN ' IDENTITY' ELSE '' END,
    coalesce(' DEFAULT ' || pg_get_expr(adbin, adrelid), ''))
FROM relation JOIN pg_attribute ON attrelid = relation.oid AND attnum > 0 AND NOT attisdropped
    LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
WHERE relkind IN ('r', 'p', 'f')
UNION ALL
SELECT format('constraint %s.%s %s', relname, conname, pg_get_constraintdef(pg_constraint.oid))
FROM relation JOIN pg_constraint ON conrelid = relation.oid AND contype <> 'n'
UNION ALL
SELECT format('index %s.%s %s%s', indrelid::regclass, relname, pg_get_indexdef(indexrelid),
    CASE WHEN indisvalid AND indisready THEN '' ELSE ' INVALID' END)
FROM relation JOIN pg_index ON indexrelid = relation.oid
UNION ALL
SELECT format('trigger %s.%s %s %s', relname, tgname, tgenabled, pg_get_triggerdef(pg_trigger.oid))
FROM relation JOIN pg_trigger ON tgrelid = relation.oid AND NOT tgisinternal
UNION ALL
SELECT format('statistics %s %s', stxname, pg_get_statisticsobjdef(oid))
FROM pg_statistic_ext WHERE stxnamespace = 'public'::regnamespace
UNION ALL
SELECT format('function %s(%s) %s', proname, pg_get_function_identity_arguments(p.oid), md5(prosrc))
FROM pg_proc p WHERE pronamespace = 'public'::regnamespace AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
"""


def lines(database: Database) -> list[str]:
    """Return a line for each object of schema public, sorted."""
    return sorted(" ".join(line.split()) for (line,) in database.execute_sql(_CATALOG.replace("%", "%%")).fetchall())
