# shellcheck shell=bash
# One database takes the live one's place. Sourced after archive.sh, never run. The note says how far an exchange has come: the
# name that the old database gets, whether the service ran, and the last journal entry of the new one.

REPLACING=$ROOT/data/.replacing
NEW='' # the database that replace_database makes

# replace_database FOLDER [CHECK]: loads an unpacked archive into a new database, compares it, and exchanges it for the live one,
# which is kept under another name; then the service starts. CHECK is called with the new database's name before anything changes.
# A script that calls this undoes it after a failure, by undo_replacement in its EXIT trap.
replace_database() {
    local old said end ran=no
    NEW=${LIVE}_restoring
    old=${LIVE}_before_restore_$(date --utc +%Y%m%dt%H%M%Sz)
    drop_database "$NEW" # of a run that was killed
    load_database "$NEW" "$1"
    "${2:-true}" "$NEW"
    # What a dump lacks: who may connect, and the planner's statistics. The migrate step grants rights inside the database.
    end=$(owner_sql "$NEW" "SET client_min_messages = error; ANALYZE; REVOKE ALL ON DATABASE \"$NEW\" FROM PUBLIC;
        GRANT CONNECT ON DATABASE \"$NEW\" TO kadun_app, kadun_backup; SELECT coalesce(max(id), 0) FROM event") \
        || die "无法设置数据库 cannot set up $NEW"
    if [[ -n $(compose ps --quiet --status running app 2>/dev/null </dev/null) ]]; then ran=yes; fi
    printf '%s %s %s\n' "$old" "$ran" "$end" >"$REPLACING"
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
    # A server that has never served has an empty one.
    if ! has_tables "$1"; then drop_database "$1" >/dev/null && return 0; fi
    say "原数据库保留为 $1；确认无误后 scripts/restore.sh --drop-old 可删除。The old database is kept as $1; scripts/restore.sh --drop-old drops it"
}

# undo_replacement: puts the old database back if an exchange was left half done. Keeps the restored one under another name, since
# customers may have activated cards in it. Fails if the old database cannot be put back.
undo_replacement() {
    local old ran end found failed newer said
    [[ -z $NEW ]] || drop_database "$NEW" >/dev/null 2>&1 || true
    [[ -s $REPLACING ]] || return 0
    read -r old ran end <"$REPLACING"
    failed=${old/_before_/_failed_}
    found=$(list_databases "$old" 2>/dev/null) || found='?'
    if [[ -n $found ]]; then
        compose stop app >/dev/null 2>&1 </dev/null || true
        newer=$(owner_sql "$LIVE" "SELECT count(*) FROM event WHERE id > $end" 2>/dev/null) || newer='?'
        said=$(swap_databases "$LIVE" "$failed" "$old" 2>&1) || {
            warn "无法换回原数据库 $old；数据库可用后请再次执行本命令。The old database, $old, could not be put back; run this again when the database answers: $(error_line "$said")"
            return 1
        }
        warn "恢复出的数据库保留为 $failed（其中多 $newer 条日志），scripts/restore.sh --drop-old 可删除。What was restored is kept as $failed, with $newer journal entries more; scripts/restore.sh --drop-old drops it"
    fi
    rm -f -- "$REPLACING"
    said=''
    [[ $ran != yes ]] || said=$(serve) || true
    warn "未恢复，原数据库照旧。Nothing was restored: the old database is in its place${said:+, but the service is not ready: $said}"
}

# settle_replacement: where an exchange was killed, it is finished, or undone, and that is all for this run.
settle_replacement() {
    local old found
    [[ -s $REPLACING ]] || return 0
    read -r old _ <"$REPLACING"
    found=$(list_databases "$old")
    if [[ -n $found ]]; then
        say "上次恢复在切换数据库后中断，现在完成它。An earlier restore was interrupted after the databases changed places: finishing it"
        (start_replaced "$old") || { undo_replacement; exit 1; }
    else
        undo_replacement
    fi
    say "上次中断的恢复已处理；要继续，请再次执行。The interrupted restore is settled. To go on run this again."
    # shellcheck disable=SC2034 # of restore.sh
    DONE=yes
    exit
}
