# shellcheck shell=bash
# One database in another's place. Sourced after stack.sh and dump.sh, never run.

# shellcheck source=postgres/url.sh
source "$ROOT/postgres/url.sh"

# find_live: sets LIVE, the name of the database that the service uses.
find_live() {
    read_url "$ROOT/secrets/owner_url" 2>/dev/null || die "secrets/owner_url 无法读取或无效。secrets/owner_url cannot be read, or is no database's URL"
    LIVE=$URL_DATABASE
    [[ $LIVE =~ ^[A-Za-z0-9_]+$ ]] || die "数据库名只能含字母、数字和 _ a database's name is of letters, digits and _: $LIVE"
}

# prepare_database DATABASE: what stands outside a dump: who may connect, and the planner's statistics. What roles may do
# inside it is granted by the migrate step.
prepare_database() {
    owner_sql "$1" "REVOKE ALL ON DATABASE \"$1\" FROM PUBLIC" \
        && owner_sql "$1" "GRANT CONNECT ON DATABASE \"$1\" TO kadun_app, kadun_backup" \
        && owner_sql "$1" "SET client_min_messages = error; ANALYZE"
}

# exists DATABASE: fails where there is none, ends the script where that cannot be asked.
exists() {
    local found
    found=$(owner_sql postgres "SELECT count(*) FROM pg_database WHERE datname = '$1'") && [[ $found == [01] ]] \
        || die "数据库没有响应。The database does not answer"
    [[ $found == 1 ]]
}

# journal_end DATABASE: the number of its last entry.
journal_end() { owner_sql "$1" "SELECT coalesce(max(id), 0) FROM event"; }

# swap_back BACK ASIDE END: BACK takes LIVE's place, and what has served meanwhile is kept as ASIDE. Sets NEWER: how
# many entries its journal has beyond END.
# shellcheck disable=SC2034  # NEWER is the caller's
swap_back() {
    NEWER=''
    if [[ $3 =~ ^[0-9]+$ ]]; then NEWER=$(owner_sql "$LIVE" "SELECT count(*) FROM event WHERE id > $3" 2>/dev/null) || NEWER=''; fi
    NEWER=${NEWER:-?}
    swap_databases "$LIVE" "$2" "$1" >/dev/null 2>&1
}

# swap_databases LIVE ASIDE NEW: LIVE becomes ASIDE and NEW becomes LIVE, both or neither.
swap_databases() {
    owner_sql postgres "
        SELECT pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname IN ('$1', '$3') AND backend_type = 'client backend' AND pg_has_role(usesysid, 'MEMBER');
        ALTER DATABASE \"$1\" RENAME TO \"$2\";
        ALTER DATABASE \"$3\" RENAME TO \"$1\";"
}
