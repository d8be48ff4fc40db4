# shellcheck shell=bash
# Databases in service `database`: dumped, restored, exchanged; and the other machines that serve the same one. Sourced, never run.

source "$ROOT/scripts/lib/stack.sh"
source "$ROOT/deploy/postgres/url.sh"

VERIFIED=kadun_verify_ # how the names of databases begin in which backups are tried
# A host that has reported itself of late, by PRESENT_SECONDS in app/domain/hosts.py.
PRESENT="seen_at > clock_timestamp() - interval '60 seconds'"

# role_in DATABASE: who owns and reads it. Restoring and reading run what SQL is in a backup: a database in which one is only
# tried is the backup role's, which can drop and change nothing that is live.
role_in() { if [[ $1 == "$VERIFIED"* ]]; then printf backup; else printf owner; fi; }

# owner_sql DATABASE SQL: runs SQL as its owner; columns are separated by |.
owner_sql() {
    in_database as-role "$(role_in "$1")" --database "$1" psql --no-psqlrc --quiet --tuples-only --no-align \
        --set=ON_ERROR_STOP=1 --command "$2" </dev/null
}

# find_live: sets LIVE, the name of the database that the service uses.
find_live() {
    { read_url "$ROOT/secrets/owner_url" && [[ $URL_DATABASE =~ ^[A-Za-z0-9_]+$ ]]; } 2>/dev/null \
        || die "secrets/owner_url 无法读取或无效，请从备份放回。secrets/owner_url cannot be read, or is not a database's URL: put it back from a backup"
    LIVE=$URL_DATABASE
}

# list_databases PREFIX: the names that begin with it, on one line.
list_databases() {
    owner_sql postgres "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE starts_with(datname, '$1')"
}

# drop_database DATABASE: where it exists. An automatic vacuum there is ended by DROP alone, but refused to WITH (FORCE) (only
# superusers may end it), which ends sessions.
drop_database() {
    owner_sql postgres "DROP DATABASE IF EXISTS \"$1\"" 2>/dev/null \
        || owner_sql postgres "DROP DATABASE IF EXISTS \"$1\" WITH (FORCE)"
}

# make_dump FOLDER: dumps database kadun into FOLDER/database.dump, with what it holds in FOLDER/contents.
make_dump() {
    local said sum
    said=$({ in_database bash /usr/local/lib/kadun/dump-snapshot "$(<"$ROOT/scripts/lib/contents.sql")" \
        </dev/null >"$1/database.dump"; } 2>&1) \
        || die "备份失败，未留下任何文件。The dump failed and nothing was kept: $(error_line "$(grep -v '^kadun: ' <<<"$said")")"
    sum=$(sha256sum <"$1/database.dump")
    grep -qxF "kadun: sha256 ${sum%% *}" <<<"$said" \
        || die "收到的备份与数据库写出的不一致，未保留（磁盘满？）。What arrived is not what pg_dump wrote, and was not kept: is the disk full, or faulty?"
    sed -n '/^kadun: sha256/d; s/^kadun: //p' <<<"$said" >"$1/contents"
}

# load_database DATABASE FOLDER: restores the dump of an unpacked archive into a new database, and compares it with the archive's
# contents, row for row. After a failure the caller drops the database.
load_database() {
    local said owner=''
    if [[ $(role_in "$1") == backup ]]; then owner='OWNER kadun_backup '; fi
    require_number "$(fact bytes "$2")"
    require_database_space "$(fact bytes "$2")"
    said=$({
        owner_sql postgres "CREATE DATABASE \"$1\" ${owner}TEMPLATE template0" \
            && in_database as-role "$(role_in "$1")" --database "$1" \
                pg_restore --exit-on-error --single-transaction --no-owner --no-privileges <"$2/database.dump" \
            && contents_of "$1" >"$2/contents.loaded"
    } 2>&1) || die "恢复失败，未改动任何数据。The dump cannot be restored; nothing was changed: $(error_line "$said")"
    said=$(comm -3 <(compared "$2/contents") <(compared "$2/contents.loaded") | tr -d '\t' | cut -d ' ' -f 1,2 | sort -u)
    [[ -z $said ]] || die "恢复后的内容与备份时不一致。What was restored differs from what was dumped: ${said//$'\n'/, }"
}

# compared FILE: the lines of contents.sql that must be the same in a dump and in what was restored from it.
compared() { grep --extended-regexp '^(schema|table|file) ' "$1" | grep --invert-match '^table host ' | LC_ALL=C sort; }

# contents_of DATABASE: its schema, tables and licensed files, as contents.sql prints them.
contents_of() {
    in_database as-role "$(role_in "$1")" --database "$1" psql --no-psqlrc --quiet --tuples-only --no-align \
        --set=ON_ERROR_STOP=1 <"$ROOT/scripts/lib/contents.sql"
}

# schema_of DATABASE: its last migration; nothing in an empty database. Fails where the database does not answer.
schema_of() {
    local found
    found=$(owner_sql "$1" "SELECT to_regclass('public.schema_migration') IS NOT NULL") || return 1
    [[ $found == t ]] || return 0
    owner_sql "$1" "SELECT max(name) FROM schema_migration"
}

# has_tables DATABASE: it has any, or cannot be read.
has_tables() { [[ $(owner_sql "$1" "SELECT EXISTS (SELECT FROM pg_tables WHERE schemaname = 'public')") != f ]]; }

# own_schema: the last migration in this checkout.
own_schema() {
    local -a known=("$ROOT"/app/storage/migrations/[0-9]*.sql)
    basename -- "${known[-1]}" .sql
}

# swap_databases LIVE ASIDE NEW: renames LIVE to ASIDE and NEW to LIVE, both or neither.
swap_databases() {
    owner_sql postgres "
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname IN ('$1', '$3') AND backend_type = 'client backend' AND pg_has_role(usesysid, 'MEMBER');
        ALTER DATABASE \"$1\" RENAME TO \"$2\";
        ALTER DATABASE \"$3\" RENAME TO \"$1\";"
}

# host_here: this machine's name among those that serve the same database; without one the service calls itself `unnamed`.
host_here() { setting KADUN_HOST unnamed; }

# other_hosts: the names of the others that have reported themselves in the database LIVE in the last minute, one a line. Fails
# where the database does not answer.
other_hosts() {
    local found
    found=$(owner_sql "$LIVE" "SELECT to_regclass('public.host') IS NOT NULL") || return 1
    [[ $found == t ]] || return 0 # a database of an older version
    # `unnamed` may be this machine, before it had a name.
    owner_sql "$LIVE" "SELECT name FROM host WHERE name NOT IN ('$(host_here)', 'unnamed') AND $PRESENT ORDER BY name"
}

# require_alone [ADVICE]: no other machine serves the database LIVE, which would go on writing to it.
require_alone() {
    local names advice=${1:-请先在那里执行 docker compose stop app nginx，一分钟后再试，完成后再启动。Stop them first, there: docker compose stop app nginx; try again a minute later, and start them again afterwards}
    names=$(other_hosts)
    [[ -z $names ]] \
        || die "其他主机正在使用同一数据库，未作改动。Other machines serve the same database, and nothing was changed: ${names//$'\n'/, }. $advice"
}
