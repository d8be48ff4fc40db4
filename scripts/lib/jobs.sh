# shellcheck shell=bash
# Backups and verifications where several machines share a database: one at a time, and from cron once for all. Sourced after
# archive.sh, never run.

JOB_LOCKS=27489 # the class of the advisory locks
declare -A JOB_NUMBERS=([backup]=1 [verify]=2)

# begin_job NAME: takes the job's lock in the database, which is held until this script ends. With --once, from cron, the script
# ends well where another machine is at it, or has done it within 12 hours; a backup by hand is always made.
begin_job() {
    local here other
    here=$(host_here) || exit 1
    need_live
    if ! lock_job "$1"; then
        [[ -z ${OPTION[once]:-} ]] || skip_job "$1" "另一台主机正在进行 another machine is at it"
        [[ $1 != verify ]] || die "另一台主机正在验证备份，请稍候再试。Another machine verifies a backup: try again when it is done"
        return 0
    fi
    [[ -n ${OPTION[once]:-} ]] || return 0
    # A database of an older version lacks the table.
    other=$(owner_sql "$LIVE" "SELECT host || ' ' || to_char(done_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') FROM host_job
        WHERE name = '$1' AND host <> '$here' AND done_at > now() - interval '12 hours'" 2>/dev/null) || other=''
    [[ -z $other ]] || skip_job "$1" "其他主机已完成 done by another machine: $other"
}

# lock_job NAME: fails where another session has the lock. A session of its own holds it; that ends with its standard input,
# which nothing but this script holds open, so that the lock ends with the script even after kill -9.
lock_job() {
    local answer='' line said='' turn deadline=$((SECONDS + 60))
    coproc TURN { unlock_child; in_database as-role backup psql --no-psqlrc --quiet --tuples-only --no-align 2>&1; }
    turn=("${TURN[@]}")
    trap '' PIPE
    printf '%s\n' "SET idle_session_timeout = 0; SELECT pg_try_advisory_lock($JOB_LOCKS, ${JOB_NUMBERS[$1]});" >&"${turn[1]}" || true
    trap - PIPE
    # Warnings of PostgreSQL or Compose may come first.
    while ((SECONDS < deadline)) && IFS= read -r -t $((deadline - SECONDS)) line; do
        if [[ $line == [tf] ]]; then answer=$line && break; fi
        said=$line
    done <&"${turn[0]}"
    [[ -n $answer ]] || die "数据库没有响应。The database does not answer: $said"
    [[ $answer == t ]]
}

# note_job NAME: it is done, as far as other machines are concerned. The service's role cannot write there.
note_job() {
    local here
    here=$(host_here) || exit 1
    need_live
    owner_sql "$LIVE" "INSERT INTO host_job (name, host, done_at) VALUES ('$1', '$here', now())
        ON CONFLICT (name) DO UPDATE SET host = EXCLUDED.host, done_at = EXCLUDED.done_at" >/dev/null 2>&1 || true
}

# skip_job NAME REASON: ends the script.
# shellcheck disable=SC2034  # DONE is the script's
skip_job() {
    log_run "$1" skipped: "$2"
    [[ -n ${OPTION[quiet]:-} ]] || say "未执行 skipped: $2"
    DONE=yes
    exit 0
}
