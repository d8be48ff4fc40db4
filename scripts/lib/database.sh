# shellcheck shell=bash
# Databases in service `database`: dumped, restored, exchanged. Sourced, never run.

# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"
# shellcheck source=deploy/postgres/url.sh
source "$ROOT/deploy/postgres/url.sh"
# shellcheck source=scripts/lib/hosts.sh
source "$ROOT/scripts/lib/hosts.sh"

VERIFIED=kadun_verify_ # how the names of databases begin in which backups are tried

# role_in DATABASE: who owns and reads it. Restoring and reading run what SQL is in a backup: a database in which one is only
# tried is the backup role's, which can drop and change nothing that is live.
role_in() { if [[ $1 == "$VERIFIED"* ]]; then printf backup; else printf owner; fi; }

# owner_sql DATABASE SQL: runs SQL as its owner; columns are separated by |.
owner_sql() {
    in_database as-role "$(role_in "$1")" --database "$1" psql --no-psqlrc --quiet --tuples-only --no-align \
        --set=ON_ERROR_STOP=1 --command "$2" </dev/null
}

# find_live [FOLDER]: sets LIVE, the name of the database that the service uses, by the URL in the folder, by default secrets/.
find_live() {
    read_url "${1:-$ROOT/secrets}/owner_url" 2>/dev/null || die "secrets/owner_url 无法读取或无效。secrets/owner_url cannot be read, or is not a database's URL"
    LIVE=$URL_DATABASE
    [[ $LIVE =~ ^[A-Za-z0-9_]+$ ]] || die "数据库名只能含字母、数字和 _ a database's name consists of letters, digits and _: $LIVE"
}

# exists DATABASE: ends the script where the database server does not answer.
exists() {
    local found
    found=$(owner_sql postgres "SELECT count(*) FROM pg_database WHERE datname = '$1'") && [[ $found == [01] ]] \
        || die "数据库没有响应。The database does not answer"
    [[ $found == 1 ]]
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

# drop_databases PREFIX: drops those whose names begin with it.
drop_databases() {
    local name names
    names=$(list_databases "$1") || die "数据库没有响应。The database does not answer"
    for name in $names; do
        drop_database "$name" || die "无法删除 cannot drop database $name"
    done
}

# make_dump FOLDER: dumps database kadun into FOLDER/database.dump, with what it holds in FOLDER/contents.
make_dump() {
    local file=$1/database.dump said sum
    if ! said=$({ in_database bash -c "$(<"$ROOT/scripts/lib/dump-snapshot.sh")" snapshot \
        "$(<"$ROOT/scripts/lib/contents.sql")" </dev/null >"$file"; } 2>&1); then
        rm -f -- "$file"
        die "备份失败，未留下任何文件。The dump failed and nothing was kept: $(error_line "$(grep -v '^kadun: ' <<<"$said")")"
    fi
    sum=$(sed -n 's/^kadun: sha256 //p' <<<"$said")
    if [[ -z $sum || $(sha256_of "$file") != "$sum" ]]; then
        rm -f -- "$file"
        die "收到的备份与数据库写出的不一致，未保留（磁盘满？）。What arrived is not what pg_dump wrote, and was not kept: is the disk full, or faulty?"
    fi
    sed -n '/^kadun: sha256/d; s/^kadun: //p' <<<"$said" >"$1/contents" || die "无法写入 cannot write $1/contents"
}

sha256_of() {
    local sum
    sum=$(sha256sum <"$1") && printf '%s' "${sum%% *}"
}

# load_database DATABASE FOLDER: restores the dump of an unpacked archive into a new database, and compares it with the archive's
# contents, row for row. Drops the database after an error.
load_database() {
    local said owner=''
    if [[ $(role_in "$1") == backup ]]; then owner='OWNER kadun_backup '; fi
    require_number "$(fact bytes "$2")"
    require_database_space "$(fact bytes "$2")"
    said=$(owner_sql postgres "CREATE DATABASE \"$1\" ${owner}TEMPLATE template0" 2>&1) \
        || die "无法创建数据库 cannot create database $1: $(error_line "$said")"
    if ! said=$(in_database as-role "$(role_in "$1")" --database "$1" \
        pg_restore --exit-on-error --single-transaction --no-owner --no-privileges <"$2/database.dump" 2>&1); then
        drop_database "$1" >/dev/null 2>&1 || true
        die "恢复失败，未改动任何数据。The dump cannot be restored; nothing was changed: $(error_line "$said")"
    fi
    contents_of "$1" >"$2/contents.loaded" || die "无法读取数据库 cannot read database $1"
    said=$(comm -3 <(compared "$2/contents") <(compared "$2/contents.loaded") | tr -d '\t' | cut -d ' ' -f 1,2 | sort -u)
    if [[ -n $said ]]; then
        drop_database "$1" >/dev/null 2>&1 || true
        die "恢复后的内容与备份时不一致。What was restored differs from what was dumped: ${said//$'\n'/, }"
    fi
}

# compared FILE: the lines of contents.sql that must be the same in a dump and in what was restored from it.
compared() { grep --extended-regexp '^(schema|table|file) ' "$1" | grep --invert-match '^table host ' | LC_ALL=C sort; }

# prepare_database DATABASE: sets what a dump lacks: who may connect, and the planner's statistics. The migrate step
# grants rights inside the database.
prepare_database() {
    owner_sql "$1" "REVOKE ALL ON DATABASE \"$1\" FROM PUBLIC" \
        && owner_sql "$1" "GRANT CONNECT ON DATABASE \"$1\" TO kadun_app, kadun_backup" \
        && owner_sql "$1" "SET client_min_messages = error; ANALYZE"
}

# schema_of DATABASE: its last migration; nothing in an empty database. Fails where the database does not answer.
schema_of() {
    local found
    found=$(owner_sql "$1" "SELECT to_regclass('public.schema_migration') IS NOT NULL") || return 1
    [[ $found == t ]] || return 0
    owner_sql "$1" "SELECT max(name) FROM schema_migration"
}

# own_schema: the last migration in this checkout.
own_schema() {
    local -a known=("$ROOT"/app/storage/migrations/[0-9]*.sql)
    basename -- "${known[-1]}" .sql
}

# require_known_schema SCHEMA: this checkout's, or an older one.
require_known_schema() {
    local own
    own=$(own_schema)
    [[ $1 =~ ^[0-9]{4}_[a-z0-9_]+$ ]] || die "这不是卡盾的备份。Not a backup of Kadun's: it holds no schema"
    [[ ! $1 > $own ]] || die "备份的结构 $1 比本程序（$own）新：请先升级程序。The backup's schema $1 is newer than this program's ($own): upgrade the program first"
}

# contents_of DATABASE: its schema, tables and licensed files, as contents.sql prints them.
contents_of() {
    in_database as-role "$(role_in "$1")" --database "$1" psql --no-psqlrc --quiet --tuples-only --no-align \
        --set=ON_ERROR_STOP=1 <"$ROOT/scripts/lib/contents.sql"
}

# journal_end DATABASE: the number of its last journal entry.
journal_end() { owner_sql "$1" "SELECT coalesce(max(id), 0) FROM event"; }

# swap_databases LIVE ASIDE NEW: renames LIVE to ASIDE and NEW to LIVE, both or neither.
swap_databases() {
    owner_sql postgres "
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname IN ('$1', '$3') AND backend_type = 'client backend' AND pg_has_role(usesysid, 'MEMBER');
        ALTER DATABASE \"$1\" RENAME TO \"$2\";
        ALTER DATABASE \"$3\" RENAME TO \"$1\";"
}
