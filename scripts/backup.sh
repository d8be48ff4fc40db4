#!/usr/bin/env bash
# 备份数据库：导出、整份检查、校验和、按天/周/月保留；供 cron 使用（见 scripts/install-cron.sh）。
# Backs the database up while it serves: dumped, read whole, given a checksum; old backups go by day, week and month.
#
#   scripts/backup.sh [--quiet]
#
#   --quiet    成功时不输出 says nothing when all went well, so that cron mails failures only
#
# 写入 data/backups（.env 中 KADUN_BACKUP_DIR 可改）。密钥不在其中：请另存 secrets/ 与 data/keys/，或用 scripts/export.sh。
# Into data/backups, or KADUN_BACKUP_DIR: kadun-TIME.dump, its .sha256 and .manifest. The keys are not in it: keep secrets/
# and data/keys/ elsewhere as well, or use scripts/export.sh. Settings, all optional, in .env:
#
#   KADUN_BACKUP_DIR            目录 the folder (./data/backups)
#   KADUN_BACKUP_KEEP_DAILY     保留多少天、周、月 for how many days (7),
#   KADUN_BACKUP_KEEP_WEEKLY    weeks (5)
#   KADUN_BACKUP_KEEP_MONTHLY   and months (12) the newest backup of each stays; the newest three of all always do
#   KADUN_BACKUP_RECIPIENT      age 公钥，设置后加密 an age recipient (age1…): backups are then encrypted to it
#   KADUN_BACKUP_HOOKS          异地备份程序目录 a folder of programs (./data/backup-hooks.d), each called with the finished
#                               file's path: rclone, rsync, anything that carries it and its .sha256 and .manifest away
#   KADUN_BACKUP_HOOK_SECONDS   每个程序的时限（秒）for how long each of them may run (3600) before it is killed
#   KADUN_BACKUP_WEBHOOK        通知地址 a URL that is told of success and failure, in JSON; one that is secret belongs into
#                               the file secrets/backup_webhook instead
#
# 退出码 Exit status: 0 已备份 backed up; 1 失败，旧备份不受影响 failed, the older backups are untouched; 2 用法 usage.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/common.sh
source "$ROOT/scripts/lib/common.sh"
# shellcheck source=scripts/lib/backup.sh
source "$ROOT/scripts/lib/backup.sh"

quiet=false DONE=false daily=0 weekly=0 monthly=0 limit=0
NAME='' SAID='' HOOK=''

parse_arguments() {
    while (($#)); do
        case $1 in
            -h | --help) print_help "$ROOT/scripts/backup.sh"; exit ;;
            --quiet) quiet=true ;;
            *) usage_error "未知参数 unknown argument: $1" ;;
        esac
        shift
    done
}

# finish: whatever happened, no half a backup stays, and a failure is told.
finish() {
    local status=$?
    trap - EXIT
    $DONE || ((status != 0)) || status=143 # a signal that ends bash leaves no status
    if [[ -n $HOOK ]]; then kill -- "-$HOOK" 2>/dev/null || true; fi
    if [[ -n $SAID ]]; then rm -f -- "$SAID"; fi
    if [[ -n $NAME ]]; then remove_leftovers; fi
    ((status == 0)) || tell_failure backup "$status"
    exit "$status"
}

# require_room: as much as the last backup took, else half the database; twice that where an encrypted copy is made.
require_room() {
    local last bytes
    last=$(newest_backup)
    if [[ -n $last ]]; then
        bytes=$(($(stat --format=%s -- "$BACKUP_FOLDER/$last") * 6 / 5))
    else
        bytes=$(in_database as-role backup psql --no-psqlrc --quiet --tuples-only --no-align \
            --command 'SELECT pg_database_size(current_database()) / 2' </dev/null 2>&1) \
            || die "数据库没有响应。The database does not answer: $(error_line "$bytes")"
    fi
    if [[ -n $recipient ]]; then bytes=$((bytes * 2)); fi
    require_space "$BACKUP_FOLDER" $((bytes + 1048576))
}

# take_backup: under a partial name until it is whole, checked and on the disk.
take_backup() {
    local plain
    until # a second has one name, and a clock that was set back has old ones: none is written over
        plain=kadun-$(date --utc +%Y%m%dT%H%M%SZ).dump
        [[ ! -e $BACKUP_FOLDER/$plain && ! -e $BACKUP_FOLDER/$plain.age ]]
    do sleep 0.2; done
    NAME=$plain
    make_dump "$BACKUP_FOLDER/$plain.partial" "$BACKUP_FOLDER/${plain%.dump}.manifest.partial"
    check_dump "$BACKUP_FOLDER/$plain.partial"
    if [[ -n $recipient ]]; then
        NAME=$plain.age
        encrypt "$BACKUP_FOLDER/$plain.partial" "$recipient" "$BACKUP_FOLDER/$NAME.partial"
        encrypt "$BACKUP_FOLDER/${plain%.dump}.manifest.partial" "$recipient" "$BACKUP_FOLDER/$(manifest_of "$NAME").partial"
    fi
    finish_files "$BACKUP_FOLDER" "$NAME"
    note last-good "$NAME"
}

remove_surplus() {
    local name
    while read -r name; do
        [[ $name == "$NAME" ]] || remove_backup "$name" # a clock that was set back makes names older than they are
    done < <(backups | surplus "$daily" "$weekly" "$monthly")
}

# run_hooks: each executable of the folder, with the finished file. One that fails, or does not end, is said and makes the
# run fail in the end; last-away tells doctor when all of them were done.
run_hooks() {
    local folder hook failed='' status ran=false
    folder=$(setting KADUN_BACKUP_HOOKS ./data/backup-hooks.d)
    [[ $folder == /* ]] || folder=$ROOT/${folder#./}
    for hook in "$folder"/*; do
        [[ -f $hook && -x $hook ]] || continue
        ran=true status=0
        run_hook "$hook" || status=$?
        case $status in
            0) ;;
            124 | 137) failed+=" ${hook##*/} ($limit 秒内未结束 not done within $limit s)" ;;
            *) failed+=" ${hook##*/} ($(tr -d '\0' <"$SAID" | tail -n 1))" ;;
        esac
    done
    [[ -z $failed ]] || die "备份已完成，但异地副本失败。The backup $NAME is good, but it was not carried away:$failed"
    if $ran; then note last-away "$NAME"; fi
}

# run_hook PROGRAM: what it says goes into a file: a pipe would be held open by what it leaves running.
run_hook() {
    (unlock_child; exec timeout --kill-after=10 "$limit" "$1" "$BACKUP_FOLDER/$NAME") >"$SAID" 2>&1 </dev/null &
    HOOK=$! # and of its group, which timeout makes
    local status=0
    wait "$HOOK" || status=$?
    HOOK=''
    return "$status"
}

parse_arguments "$@"
umask 077
trap finish EXIT
started=$SECONDS
require_stack
find_folder
lock_stack 2
claim_folder
remove_leftovers
read_number daily KADUN_BACKUP_KEEP_DAILY 7 0 9999
read_number weekly KADUN_BACKUP_KEEP_WEEKLY 5 0 9999
read_number monthly KADUN_BACKUP_KEEP_MONTHLY 12 0 9999
read_number limit KADUN_BACKUP_HOOK_SECONDS 3600 1 999999
recipient=$(setting KADUN_BACKUP_RECIPIENT)
[[ -z $recipient ]] || need age age
[[ -z $(webhook_url) ]] || need curl curl
require_running database
require_room
take_backup
remove_surplus
SAID=$(mktemp)
run_hooks
size=$(megabytes "$(stat --format=%s -- "$BACKUP_FOLDER/$NAME")")
log_run backup ok: "$NAME, $size, $((SECONDS - started)) s"
notify backup ok "$NAME, $size, $((SECONDS - started)) s" "$NAME"
$quiet || say "已备份 backed up: $BACKUP_FOLDER/$NAME ($size)"
DONE=true
