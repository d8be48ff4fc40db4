#!/usr/bin/env bash
# 备份数据库：导出、整份检查、校验和、按天/周/月保留；供 cron 使用（见 scripts/install-cron.sh）。
# Backs up the database while it serves: dumps it, reads the dump back whole, packs it with checksums. Old backups are
# removed by day, week and month.
#
#   scripts/backup.sh [--quiet]
#   scripts/backup.sh --copied SHA256
#
#   --quiet            成功时不输出 prints nothing on success, so that cron mails failures only
#   --copied SHA256    不备份，只确认 secrets/backup_identity 在别的机器上已有副本，SHA256 为副本的校验和 makes no backup, but
#                      confirms that a copy of secrets/backup_identity is on another machine: the copy's SHA-256
#
# 写入 data/backups（.env 中 KADUN_BACKUP_DIR 可改），以 secrets/backup_identity 可解密。密钥不在其中：请另存 secrets/ 与
# data/keys/，或用 scripts/export.sh。
# Writes kadun-TIME.tar.age and its .sha256 into data/backups, or KADUN_BACKUP_DIR. secrets/backup_identity decrypts it. A
# backup does not hold the keys: keep secrets/ and data/keys/ elsewhere, too, or use scripts/export.sh. Settings, all
# optional, in .env:
#
#   KADUN_BACKUP_DIR            目录 the folder (./data/backups)
#   KADUN_BACKUP_KEEP_DAILY     保留多少天、周、月 the newest backup of each of so many days (7),
#   KADUN_BACKUP_KEEP_WEEKLY    weeks (5)
#   KADUN_BACKUP_KEEP_MONTHLY   and months (12) is kept; so are the newest three of all
#   KADUN_BACKUP_RECIPIENT      改用此 age 公钥加密；none 为不加密 another age recipient (age1…) that backups are encrypted to;
#                               none: backups are in clear
#   KADUN_BACKUP_HOOKS          异地备份程序目录 a folder of programs (./data/backup-hooks.d); each is called with the path of the
#                               finished backup, under its name, and copies it elsewhere: rclone, rsync, …
#   KADUN_BACKUP_HOOK_SECONDS   每个程序的时限（秒）the time limit of each program (3600)
#   KADUN_BACKUP_WEBHOOK        通知地址 a URL that is told of success and failure, in JSON; put a secret one into the file
#                               secrets/backup_webhook instead
#
# 退出码 Exit status: 0 已备份 backed up; 1 失败，旧备份不受影响 failed, older backups are untouched; 2 用法 usage.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/archive.sh
source "$ROOT/scripts/lib/archive.sh"
# shellcheck source=scripts/lib/backups.sh
source "$ROOT/scripts/lib/backups.sh"

DONE='' CLAIMED='' NAME='' OUTPUT='' HOOK='' COPY=''
daily=0 weekly=0 monthly=0 limit=0

# finish: after a failure no unfinished backup stays, and the failure is reported.
finish() {
    local status=$?
    trap - EXIT
    [[ -n $DONE ]] || ((status != 0)) || status=143 # a signal that ends bash leaves no status
    if [[ -n $HOOK ]]; then kill -- "-$HOOK" 2>/dev/null || true; fi
    if [[ -n $OUTPUT ]]; then rm -f -- "$OUTPUT"; fi
    if [[ -n $CLAIMED ]]; then remove_leftovers; fi
    ((status == 0)) || report_failure backup "$status"
    exit "$status"
}

# require_room: as much as the last backup took, else half the database, for the archive here and for the dump in data/.
require_room() {
    local last bytes said
    last=$(retention newest "$BACKUP_FOLDER")
    if [[ -n $last ]]; then
        bytes=$(($(stat --format=%s -- "$BACKUP_FOLDER/$last") * 6 / 5))
    else
        said=$(in_database as-role backup psql --no-psqlrc --quiet --tuples-only --no-align \
            --command 'SELECT pg_database_size(current_database()) / 2' </dev/null 2>&1) \
            || die "数据库没有响应。The database does not answer: $(error_line "$said")"
        bytes=$(grep --extended-regexp --line-regexp '[0-9]+' <<<"$said") || bytes=$said # among warnings
        require_number "$bytes"
    fi
    if [[ $(stat --format=%d -- "$BACKUP_FOLDER") == $(stat --format=%d -- "$ROOT/data") ]]; then bytes=$((2 * bytes)); fi
    require_space "$ROOT/data" $((bytes + 1048576))
    require_space "$BACKUP_FOLDER" $((bytes + 1048576))
}

take_backup() {
    local name
    until # a clock that was set back must not overwrite a backup
        name=kadun-$(date --utc +%Y%m%dT%H%M%SZ).tar
        [[ ! -e $BACKUP_FOLDER/$name && ! -e $BACKUP_FOLDER/$name.age ]]
    do sleep 0.2; done
    take_archive "$BACKUP_FOLDER/$name" "$RECIPIENT"
    NAME=${TAKEN##*/}
    note last-good "$NAME"
}

# run_hooks: calls each executable of the folder with the finished file. One that fails or exceeds the time limit makes the
# run fail in the end; last-away tells doctor when all of them succeeded.
run_hooks() {
    local folder hook failed='' status
    folder=$(folder_setting KADUN_BACKUP_HOOKS ./data/backup-hooks.d)
    for hook in "$folder"/*; do
        [[ -f $hook && -x $hook ]] || continue
        [[ -n $COPY ]] || copy_for_hooks
        status=0
        run_hook "$hook" || status=$?
        case $status in
            0) ;;
            124 | 137) failed+=" ${hook##*/} ($limit 秒内未结束 not done within $limit s)" ;;
            *) failed+=" ${hook##*/} ($(tr -d '\0' <"$OUTPUT" | tail -n 1))" ;;
        esac
    done
    [[ -z $failed ]] || die "备份已完成，但异地副本失败。The backup $NAME is good, but it was not copied elsewhere:$failed"
    [[ -z $COPY ]] || note last-away "$NAME"
}

# copy_for_hooks: sets COPY, the backup in a folder that only root can change. Whoever can write to the backup folder could
# exchange it there for a link to a secret, which a hook would carry away.
copy_for_hooks() {
    local copy
    copy=$(mktemp -d "$ROOT/data/.backup.XXXXXX")/$NAME
    ln --physical -- "$BACKUP_FOLDER/$NAME" "$copy" 2>/dev/null || read_file "$BACKUP_FOLDER/$NAME" >"$copy" 2>/dev/null || true
    [[ -f $copy && ! -L $copy && $(sha256_of "$copy") == "$TAKEN_SHA256" ]] \
        || die "备份在异地复制之前被改动，请查看谁能写入此目录。The backup was changed before it could be copied elsewhere: see who can write to its folder: $BACKUP_FOLDER/$NAME"
    printf '%s  %s\n' "$TAKEN_SHA256" "$NAME" >"$copy.sha256"
    COPY=$copy
}

# run_hook PROGRAM: its output goes into a file: a process that it leaves running would hold a pipe open.
run_hook() {
    (unlock_child; exec timeout --kill-after=10 "$limit" "$1" "$COPY") >"$OUTPUT" 2>&1 </dev/null &
    HOOK=$! # and of its group, which timeout makes
    local status=0
    wait "$HOOK" || status=$?
    HOOK=''
    return "$status"
}

parse_options "quiet copied=" "$@"
at_most 0
umask 077
if [[ -n ${OPTION[copied]:-} ]]; then
    find_folder
    confirm_copy "${OPTION[copied]}"
    exit
fi
trap finish EXIT
started=$SECONDS
require_stack
find_folder
lock_stack 2
claim_folder
CLAIMED=yes
read_number daily KADUN_BACKUP_KEEP_DAILY 7 0 9999
read_number weekly KADUN_BACKUP_KEEP_WEEKLY 5 0 9999
read_number monthly KADUN_BACKUP_KEEP_MONTHLY 12 0 9999
read_number limit KADUN_BACKUP_HOOK_SECONDS 3600 1 999999
find_recipient
require_running database
require_room
take_backup
retention prune "$BACKUP_FOLDER" "$daily" "$weekly" "$monthly" "$NAME"
OUTPUT=$(mktemp)
run_hooks
size=$(megabytes "$(stat --format=%s -- "$BACKUP_FOLDER/$NAME")")
log_run backup ok: "$NAME, $size, $((SECONDS - started)) s"
notify backup ok "$NAME, $size, $((SECONDS - started)) s" "$NAME"
[[ -n ${OPTION[quiet]:-} ]] || say "已备份 backed up: $BACKUP_FOLDER/$NAME ($size)"
DONE=yes
