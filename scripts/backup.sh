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

quiet=false DONE=false daily=0 weekly=0 monthly=0
NAME=''

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
    if ! { printf '%s %s\n' "$(date --utc +%Y-%m-%dT%H:%M:%SZ)" "$NAME" >"$BACKUP_FOLDER/.last-good" \
        && mv -f -- "$BACKUP_FOLDER/.last-good" "$BACKUP_FOLDER/last-good"; } 2>/dev/null; then
        die "无法写入 cannot write $BACKUP_FOLDER/last-good"
    fi
}

remove_surplus() {
    local name
    while read -r name; do
        [[ $name == "$NAME" ]] || remove_backup "$name" # a clock that was set back makes names older than they are
    done < <(backups | surplus "$daily" "$weekly" "$monthly")
}

# run_hooks: each executable of the folder, with the finished file. One that fails is said and makes the run fail in the end.
run_hooks() {
    local folder hook said failed=''
    folder=$(setting KADUN_BACKUP_HOOKS ./data/backup-hooks.d)
    [[ $folder == /* ]] || folder=$ROOT/${folder#./}
    for hook in "$folder"/*; do
        [[ -f $hook && -x $hook ]] || continue
        said=$(exec {KADUN_LOCK}>&-; "$hook" "$BACKUP_FOLDER/$NAME" 2>&1 </dev/null) && continue
        failed+=" ${hook##*/} ($(last_line "$said"))"
    done
    [[ -z $failed ]] || die "备份已完成，但异地副本失败。The backup $NAME is good, but it was not carried away:$failed"
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
read_kept daily KADUN_BACKUP_KEEP_DAILY 7
read_kept weekly KADUN_BACKUP_KEEP_WEEKLY 5
read_kept monthly KADUN_BACKUP_KEEP_MONTHLY 12
recipient=$(setting KADUN_BACKUP_RECIPIENT)
[[ -z $recipient ]] || need age age
[[ -z $(webhook_url) ]] || need curl curl
require_running database
require_room
take_backup
remove_surplus
run_hooks
size=$(megabytes "$(stat --format=%s -- "$BACKUP_FOLDER/$NAME")")
log_run backup ok: "$NAME, $size, $((SECONDS - started)) s"
notify backup ok "$NAME, $size, $((SECONDS - started)) s" "$NAME"
$quiet || say "已备份 backed up: $BACKUP_FOLDER/$NAME ($size)"
DONE=true
