# shellcheck shell=bash
# Dumps the database. lib/database.sh passes this script to bash in service `database`: dump-snapshot.sh CONTENTS_SQL
# stdout: a dump in pg_dump's custom format. stderr: errors and, in lines that begin with `kadun: `, the SHA-256 of the dump
# and the output of contents.sql, both from one snapshot, whatever is committed meanwhile.
set -euo pipefail

coproc SESSION { as-role backup psql --no-psqlrc --quiet --tuples-only --no-align --set=ON_ERROR_STOP=1; }
session=$SESSION_PID questions=${SESSION[1]}
exec {answers}<&"${SESSION[0]}" # bash closes its own as soon as the session has ended, and the last answers would be lost

# ask LINE…: sends lines to the session that holds the snapshot.
ask() { printf '%s\n' "$@" >&"$questions"; }

ask "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;" \
    "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0;" \
    "SELECT CASE WHEN to_regclass('public.schema_migration') IS NULL THEN 'empty' ELSE pg_export_snapshot() END;"
IFS= read -r -t 60 snapshot <&"$answers" || { wait "$session"; exit 1; }
[[ $snapshot != empty ]] || { echo "the database is empty: it has no schema yet" >&2; exit 1; }

# -B: Kadun has no large objects. The app's role can make one that the backup's may not read, and pg_dump would end there.
as-role backup pg_dump --format=custom -B --snapshot="$snapshot" --lock-wait-timeout=60s \
    | { tee >(sha256sum | sed 's/^/kadun: sha256 /; s/ *-$//' >&2) && wait $!; }

ask "SELECT 'taken ' || to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"');" \
    "SELECT 'postgresql ' || current_setting('server_version_num');" \
    "SELECT 'bytes ' || pg_database_size(current_database());" "$1"
exec {questions}>&-
sed 's/^/kadun: /' <&"$answers" >&2
wait "$session"
