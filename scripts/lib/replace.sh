# shellcheck shell=bash
# One database takes the live one's place. Sourced after archive.sh, never run. The note says how far an exchange has come: the
# name that the old database gets, whether the service ran, and the last journal entry of the new one.

# shellcheck source=scripts/lib/keys.sh
source "$ROOT/scripts/lib/keys.sh"

REPLACING=$ROOT/data/.replacing
NEW='' # the database that replace_database has made

# replace_database FOLDER [CHECK]: loads an unpacked archive into a new database, compares it, and exchanges it for the live one,
# which is kept under another name; then the service starts. CHECK is called with the new database's name before anything changes.
# A script that calls this undoes it after a failure, by undo_replacement in its EXIT trap.
replace_database() {
    local time old ran said
    time=$(date --utc +%Y%m%dt%H%M%Sz)
    NEW=${LIVE}_restoring_$time old=${LIVE}_before_restore_$time
    drop_databases "${LIVE}_restoring_"
    load_database "$NEW" "$1"
    "${2:-true}" "$NEW"
    prepare_database "$NEW" || die "无法设置数据库 cannot set up $NEW"
    ran=$(compose ps --quiet --status running app 2>/dev/null </dev/null) || ran=''
    printf '%s %s %s\n' "$old" "$([[ -z $ran ]] && echo no || echo yes)" "$(journal_end "$NEW" 2>/dev/null)" >"$REPLACING"
    sync -- "$REPLACING"
    stop_app
    said=$(swap_databases "$LIVE" "$old" "$NEW" 2>&1) \
        || die "无法切换数据库 the databases cannot change places: $(error_line "$said")"
    start_replaced "$old"
}

# start_replaced OLD: starts the service on the database that has taken the place of OLD.
start_replaced() {
    local said
    migrate_and_carry_keys "$1"
    say "正在启动…  Starting …"
    said=$(serve) || die "恢复后的服务未就绪。The service is not ready on what was restored: $said"
    rm -f -- "$REPLACING"
}

# undo_replacement: puts the old database back if an exchange was left half done. Keeps the restored one under another name, since
# customers may have activated cards in it. Fails if the old database cannot be put back.
undo_replacement() {
    local old ran end found failed newer said
    [[ -z $NEW ]] || drop_database "$NEW" >/dev/null 2>&1 || true
    [[ -s $REPLACING ]] || return 0
    read -r old ran end <"$REPLACING"
    if ! found=$(owner_sql postgres "SELECT count(*) FROM pg_database WHERE datname = '$old'" 2>/dev/null) || [[ $found != [01] ]]; then
        warn "数据库没有响应，未完成的恢复没有撤销；数据库可用后请再次执行本命令。The database does not answer, so the unfinished restore was not undone: run this again when it does"
        return 1
    fi
    if [[ $found == 1 ]]; then
        failed=${old/_before_/_failed_}
        compose stop app >/dev/null 2>&1 </dev/null
        newer=$(owner_sql "$LIVE" "SELECT count(*) FROM event WHERE id > ${end:-0}" 2>/dev/null) || newer='?'
        if ! swap_databases "$LIVE" "$failed" "$old" >/dev/null 2>&1; then
            warn "无法换回原数据库：它仍在，名为 $old；数据库可用后请再次执行本命令。The old database could not be put back: it is there as $old; run this again when the database answers"
            return 1
        fi
        warn "恢复出的数据库保留为 $failed（其中多 $newer 条日志），scripts/restore.sh --drop-old 可删除。What was restored is kept as $failed, with $newer journal entries more; scripts/restore.sh --drop-old drops it"
    fi
    rm -f -- "$REPLACING"
    if [[ $ran == yes ]] && ! said=$(serve); then
        warn "原数据库已就位，但服务未就绪。The old database is in place, but the service is not ready: $said"
    fi
    warn "未恢复，原数据库照旧。Nothing was restored: the old database is in its place"
}

# settle_replacement: where an exchange was killed, it is finished, or undone, and that is all for this run.
settle_replacement() {
    [[ -s $REPLACING ]] || return 0
    if ! (finish_replacement); then
        undo_replacement || true
        exit 1
    fi
    say "要继续，请再次执行。To go on run this again."
    # shellcheck disable=SC2034 # of restore.sh
    DONE=yes
    exit
}

finish_replacement() {
    local old
    read -r old _ <"$REPLACING"
    if exists "$old"; then
        say "上次恢复在切换数据库后中断，现在完成它。An earlier restore was interrupted after the databases changed places: finishing it"
        start_replaced "$old"
        say "已完成；原数据库保留为 $old。Finished; the old database is kept as $old"
    else
        say "上次恢复在切换数据库前中断。An earlier restore was interrupted before the databases changed places"
        undo_replacement
    fi
}
