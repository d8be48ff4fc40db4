#!/usr/bin/env bash
# 从备份恢复：校验、先备份现有数据、恢复到新数据库、核对、切换、启动；原数据库保留，直到 --drop-old。
# Restores a backup: checksum, a safety dump of what is there, into a new database, compared, swapped in, started. The old
# database is kept under another name; where anything fails, it goes on serving. Works on an empty server too.
#
#   scripts/restore.sh [--identity FILE] [--no-safety-dump] FILE
#   scripts/restore.sh --drop-old
#
#   FILE                backups/kadun-TIME.dump[.age]，旁边须有 .sha256 with its .sha256 beside it
#   --identity FILE     age 私钥文件 the identity that opens an encrypted backup
#   --no-safety-dump    现有数据库已损坏、无法导出时 where what is there cannot be dumped any more; it is kept all the same
#   --drop-old          删除以往恢复时保留的数据库 drops the databases that earlier restores kept
#
# 密钥不在备份中：换了机器时，先放回 secrets/ 与 data/keys/。No keys are in a backup: on a new machine put secrets/ and
# data/keys/ back first (scripts/import.sh does both), or programs in the field will not believe this server.
# 退出码 Exit status: 0 已恢复 restored; 1 失败，原数据仍在服务 failed, what was there serves on; 2 用法 usage.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/common.sh
source "$ROOT/scripts/lib/common.sh"
# shellcheck source=scripts/lib/backup.sh
source "$ROOT/scripts/lib/backup.sh"
# shellcheck source=scripts/lib/swap.sh
source "$ROOT/scripts/lib/swap.sh"

FILE='' ACTION=restore
safety=true
SAFETY='' # the safety dump
STEP=''   # how far it came: made, stopped, swapped; what `finish` has to undo
JOURNAL='' # the last journal entry of what is restored

parse_arguments() {
    while (($#)); do
        case $1 in
            -h | --help) print_help "$ROOT/scripts/restore.sh"; exit ;;
            --drop-old) ACTION=drop_old ;;
            --no-safety-dump) safety=false ;;
            --identity)
                [[ -n ${2:-} ]] || usage_error "缺少参数 a value is missing: $1"
                DUMP_IDENTITY=$(absolute "$2")
                shift
                ;;
            -*) usage_error "未知参数 unknown argument: $1" ;;
            *)
                [[ -z $FILE ]] || usage_error "只能恢复一个文件 one file at a time: $1"
                FILE=$(absolute "$1")
                ;;
        esac
        shift
    done
    case $ACTION in
        restore) [[ -n $FILE ]] || usage_error "请指定备份文件 name the backup to restore" ;;
        drop_old) [[ -z $FILE ]] || usage_error "--drop-old 不带文件 takes no file" ;;
    esac
}

# finish: undoes what a failure, or Ctrl-C, left half done.
finish() {
    local status=$?
    trap - EXIT
    $DONE || ((status != 0)) || status=143 # a signal that ends bash leaves no status
    trap '' INT TERM
    set +e
    if ((status != 0)); then
        remove_safety_leftovers
        undo_restore
    fi
    exit "$status"
}

# undo_restore: the old database serves again. What was restored is kept where it has served: somebody may have been
# told of what is in it.
undo_restore() {
    [[ -n $STEP ]] || return 0
    # Ctrl-C ends our side of an exchange that goes on in the container: without NEW there is none any more.
    [[ $STEP == swapped ]] || drop_database "$NEW" >/dev/null 2>&1
    if [[ $STEP == stopped ]] && (exists "$OLD"); then STEP=swapped; fi
    if [[ $STEP == swapped ]]; then
        compose stop app >/dev/null 2>&1 </dev/null
        if ! swap_back "$OLD" "$FAILED" "$JOURNAL"; then
            warn "无法换回原数据库：它仍在，名为 $OLD。The old database could not be put back: it is there as $OLD"
            return
        fi
        warn "恢复出的数据库保留为 $FAILED（其中多 $NEWER 条日志），--drop-old 可删除。What was restored is kept as $FAILED, with $NEWER journal entries more; --drop-old drops it"
    fi
    case $STEP in
        stopped | swapped)
            if $was_running; then
                come_up >/dev/null \
                    || warn "原数据库已就位，但服务未能启动：docker compose logs。The old database is in place, but the service does not start: see docker compose logs"
            fi
            warn "未恢复，原数据库照旧。Nothing was restored: the old database is in its place"
            ;;
    esac
}

# start_database: on an empty server this makes the cluster and its roles.
start_database() {
    local said folder=$ROOT/data/postgres
    if [[ ! -d $folder && $(setting COMPOSE_FILE) != *external* ]]; then # a broken one was moved away
        mkdir -m 700 "$folder" || die "无法创建 cannot make $folder"
    fi
    said=$(come_up database) \
        || die "数据库无法启动。The database does not start (docker compose logs database; a cluster beyond repair: move data/postgres away and run this again): $(last_line "$said")"
}

# dump_safely: what is there now, where there is anything.
dump_safely() {
    local name bytes
    find_folder
    name=kadun-before-restore-$TIME.dump
    bytes=$(owner_sql "$LIVE" "SELECT pg_database_size('$LIVE') / 2 + 1048576") || die "无法读取现有数据库。Cannot read the database that is there (--no-safety-dump goes on without)"
    require_space "$BACKUP_FOLDER" "$bytes"
    SAFETY=$name
    make_dump "$BACKUP_FOLDER/$name.partial" "$BACKUP_FOLDER/$(manifest_of "$name").partial"
    check_dump "$BACKUP_FOLDER/$name.partial"
    finish_files "$BACKUP_FOLDER" "$name"
    say "现有数据已备份 what is there is safe in: $BACKUP_FOLDER/$name"
}

# settle_safety: the dump of what was there is from now on encrypted where backups are; the newest three stay.
settle_safety() {
    [[ -n $SAFETY ]] || return 0
    local sealed
    sealed=$(seal_dump "$BACKUP_FOLDER/$SAFETY")
    if [[ $sealed == *.age ]]; then say "已加密 encrypted: $sealed"; fi
    keep_newest kadun-before-restore- 3
}

# warn_of_lost_files: a backup lists files, and has no bytes.
warn_of_lost_files() {
    local lost
    lost=$(missing_files "$FILE" "$ROOT/data/files" 2>/dev/null) || lost='?'
    [[ -z $lost ]] || warn "这些文件的内容不在 data/files：请放回，或重新添加（cardctl file add）。The bytes of these files are not in data/files: put them back, or add them again (cardctl file add): ${lost//$'\n'/, }"
}

remove_safety_leftovers() {
    [[ -z $SAFETY ]] || rm -f -- "$BACKUP_FOLDER/$SAFETY.partial" "$BACKUP_FOLDER/$SAFETY.sha256.partial" \
        "$BACKUP_FOLDER/$(manifest_of "$SAFETY").partial"
}

# make_new: the dump in a new database, compared, and open to the roles that serve.
make_new() {
    local schema own
    drop_databases "${LIVE}_restoring_"
    require_database_space "$(database_bytes "$FILE")"
    STEP=made
    restore_dump "$FILE" "$NEW"
    schema=$(schema_of "$NEW") || die "无法读取恢复后的数据库 cannot read $NEW"
    own=$(own_schema)
    require_known_schema "$schema" "$own"
    if [[ $schema != "$own" ]]; then
        say "备份的结构较旧（$schema），启动时自动升级到 $own。The backup's schema is older ($schema): it is migrated to $own at the start"
    fi
    compare_contents "$FILE" "$NEW"
    require_keys
    prepare_database "$NEW" || die "无法设置 cannot set up $NEW"
    JOURNAL=$(journal_end "$NEW" 2>/dev/null) || JOURNAL='' # an old schema may have none
}

# last_words: what migrate and app said last.
last_words() {
    compose logs --no-color --no-log-prefix --tail 1 migrate app 2>/dev/null </dev/null | tr '\n' ' ' || true
}

# require_keys: clients of activated cards believe the old signing keys only; without them the service does not start.
require_keys() {
    local in_use
    [[ ! -e $ROOT/data/keys/keyring.json ]] || return 0
    in_use=$(owner_sql "$NEW" "SELECT EXISTS (SELECT FROM card WHERE is_activated)") || die "无法读取 cannot read $NEW"
    [[ $in_use == f ]] || die "备份中有已激活的卡密，而 data/keys/ 中没有签名密钥：请先放回 data/keys/ 与 secrets/kernal_data_key。Cards of this backup are in use, but data/keys/ holds no signing keys: put data/keys/ and secrets/kernal_data_key back first (if they are lost for good: docker compose up -d --wait makes new ones; restore then, and give every customer a new release)"
}

restore() {
    local has_schema said
    [[ $(own_schema) == *_* ]] || die "此目录不完整 this checkout is incomplete: app/storage/migrations"
    check_sum "$FILE"
    require_identity "$FILE"
    start_database
    check_dump "$FILE"
    has_schema=$(schema_of "$LIVE") || die "无法读取现有数据库 cannot read database $LIVE"
    if $safety && [[ -n $has_schema ]]; then dump_safely; fi
    make_new
    said=$(compose ps --quiet --status running app 2>/dev/null </dev/null) || said=''
    [[ -z $said ]] || was_running=true
    STEP=stopped
    said=$(compose stop app 2>&1 </dev/null) || die "无法停止服务 cannot stop the service: $(last_line "$said")"
    said=$(swap_databases "$LIVE" "$OLD" "$NEW" 2>&1) \
        || die "无法切换数据库 the databases cannot change places: $(error_line "$said")"
    STEP=swapped
    say "正在启动…  Starting …"
    said=$(come_up) \
        || die "恢复后的服务无法启动。The service does not start on what was restored: $(last_line "$said"): $(last_words)"
    STEP=''
    if [[ -n $has_schema ]]; then
        say "原数据库保留为 $OLD；确认无误后 scripts/restore.sh --drop-old 可删除。The old database is kept as $OLD; scripts/restore.sh --drop-old drops it"
    else
        drop_database "$OLD" >/dev/null 2>&1 || true # it was empty
    fi
    settle_safety
    warn_of_lost_files
    say "已恢复 restored: $FILE ($(contents_summary "$FILE"))"
}

drop_old() {
    local found
    require_running database
    local prefix names=''
    for prefix in before failed; do
        found=$(list_databases "${LIVE}_${prefix}_restore_") || die "数据库没有响应。The database does not answer"
        drop_databases "${LIVE}_${prefix}_restore_"
        names+=${found:+ $found}
    done
    say "已删除 dropped:${names:- 无 nothing}"
}

parse_arguments "$@"
umask 077
require_stack
lock_stack 5
was_running=false DONE=false
TIME=$(date --utc +%Y%m%dT%H%M%SZ)
find_live
OLD=${LIVE}_before_restore_${TIME,,} NEW=${LIVE}_restoring_${TIME,,} FAILED=${LIVE}_failed_restore_${TIME,,}
trap finish EXIT
"$ACTION"
DONE=true
