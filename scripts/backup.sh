#!/usr/bin/env bash
# 备份整套服务：数据库、密钥、设置、证书与核心功能，加密为一个文件；验证备份；或为搬到另一台服务器打包。
# Backs up the whole service while it serves, as one encrypted file: database, keys, settings, certificates and functions.
#
#   scripts/backup.sh [--with-files] [--quiet]
#   scripts/backup.sh --verify [FILE] [--identity FILE] [--quiet]
#   scripts/backup.sh --bundle [-o FILE] [--passphrase]
#
#   --with-files      也备份授权文件 licensed files (data/files), too
#   --verify [FILE]   恢复到临时数据库并逐表核对，默认最新一份；不影响服务 proves a backup, by default the newest: restores it
#                     into a temporary database and compares the rows. The service is not touched
#   --identity FILE   解密用的 age 私钥，默认 secrets/backup_identity the age identity that opens it (secrets/backup_identity)
#   --bundle          为 scripts/restore.sh --new-server 打包，含授权文件 for scripts/restore.sh --new-server on another server, with
#                     licensed files. What the service does afterwards is not in it: docker compose stop app first
#   -o FILE           写到此文件 where to (kadun-bundle-TIME.tar.age in the current folder)
#   --passphrase      改用口令加密 encrypts to a passphrase that it asks for; an empty one is generated and shown
#   --quiet           成功时不输出 prints nothing on success, so that cron mails failures only
#
# 写入 data/backups/kadun-TIME.tar.age，以 secrets/backup_identity 解密：请在别处保存这个私钥文件。谁有一份备份与私钥，谁就拥有
# 全部密钥。
# Writes data/backups/kadun-TIME.tar.age, which secrets/backup_identity opens: keep a copy of that one file elsewhere. Who
# has a backup and the identity has all keys of the service. Settings, all optional, in .env: docs/reference.md.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
source "$ROOT/scripts/lib/archive.sh"

# finish: after a failure no unfinished backup and no temporary database stays, and the failure is reported.
finish() {
    local status=$?
    trap - EXIT
    [[ -n $DONE ]] || ((status != 0)) || status=143 # a signal that ends bash leaves no status
    [[ -z $SCRATCH ]] || drop_database "$SCRATCH" >/dev/null 2>&1 || true # then the next verification does
    [[ -z $BACKUP_FOLDER ]] || { remove_leftovers && rm -f -- "$BUNDLE.partial"; }
    ((status == 0)) || report "$EVENT" failed "$(failure_reason "$status")"
    exit "$status"
}

# run_hooks FILE SECONDS: calls each executable of the folder with the finished file, and ends it after that time. One that fails
# makes the run fail in the end; last-away tells doctor when all of them succeeded.
run_hooks() {
    local hook status output failed='' called=''
    output=$(mktemp "$ROOT/data/.backup.XXXXXX")
    for hook in "$(folder_setting KADUN_BACKUP_HOOKS ./data/backup-hooks.d)"/*; do
        [[ -f $hook && -x $hook ]] || continue
        called=yes status=0
        # Its output goes into a file: a process that it leaves running would hold a pipe open. In the background: `wait` ends when
        # the script is interrupted.
        (unlock_child; exec timeout --kill-after=10 "$2" "$hook" "$1") >"$output" 2>&1 </dev/null &
        wait "$!" || status=$?
        case $status in
            0) ;;
            124 | 137) failed+=" ${hook##*/} ($2 秒内未结束 not done within $2 s)" ;;
            *) failed+=" ${hook##*/} ($(tr -d '\0' <"$output" | tail -n 1))" ;;
        esac
    done
    [[ -z $failed ]] || die "备份已完成，但异地副本失败。The backup ${1##*/} is good, but it was not copied elsewhere:$failed"
    [[ -z $called ]] || note last-away "${1##*/}"
}

back_up() {
    local file size daily weekly monthly limit started=$SECONDS
    daily=$(setting KADUN_BACKUP_KEEP_DAILY 7) weekly=$(setting KADUN_BACKUP_KEEP_WEEKLY 5)
    monthly=$(setting KADUN_BACKUP_KEEP_MONTHLY 12) limit=$(setting KADUN_BACKUP_HOOK_SECONDS 3600)
    [[ "$daily $weekly $monthly $limit" =~ ^([0-9]{1,6}( |$)){4}$ ]] \
        || die ".env: KADUN_BACKUP_KEEP_… 与 KADUN_BACKUP_HOOK_SECONDS 须为整数 must be whole numbers: $daily $weekly $monthly $limit"
    file=$BACKUP_FOLDER/kadun-$(date --utc +%Y%m%dT%H%M%SZ).tar.age
    take_archive "$file" '' ${OPTION[with-files]:+data/files}
    note last-good "${file##*/}"
    archives kadun- | library retention.py "$daily" "$weekly" "$monthly" | remove_archives "$file"
    run_hooks "$file" "$limit"
    size=$(readable "$(stat --format=%s -- "$file")")
    report backup ok "${file##*/}, $size, $((SECONDS - started)) s" "${file##*/}"
    [[ -z ${OPTION[quiet]:-} ]] || return 0
    say "已备份 backed up: $file ($size)"
    remind_to_copy
}

# verify FILE IDENTITY: proves that it can be restored.
verify() {
    local folder rows
    [[ -n $1 ]] || die "还没有备份：请先运行 scripts/backup.sh。There is no backup yet in $BACKUP_FOLDER: run scripts/backup.sh"
    folder=$(mktemp -d "$ROOT/data/.backup.XXXXXX")
    open_archive "$1" "$folder" "$2"
    [[ -n ${OPTION[quiet]:-} ]] || say_times "$folder"
    SCRATCH=$VERIFIED$(printf %s "$ROOT $(host_here)" | sha256sum | head -c 12) # another machine may share the database server
    drop_database "$SCRATCH"
    load_database "$SCRATCH" "$folder"
    if [[ ${1%/*} -ef $BACKUP_FOLDER ]]; then note last-verified "${1##*/}"; fi # for doctor
    rows=$(rows_in "$folder")
    report verify ok "${1##*/}, $rows" "${1##*/}"
    [[ -n ${OPTION[quiet]:-} ]] || say "备份可用 good: $1 ($rows)"
}

umask 077
parse_options "quiet with-files verify bundle passphrase -o= identity=" "$@"
if [[ -n ${OPTION[verify]:-} ]]; then at_most 1; else at_most 0; fi
only_with identity verify
only_with passphrase bundle
[[ -z ${OPTION[-o]:-} || -n ${OPTION[bundle]:-} ]] || usage_error "-o 只用于 -o is for --bundle"
EVENT=${OPTION[verify]:+verify} EVENT=${EVENT:-backup} DONE='' SCRATCH='' FILE=${OPERANDS[0]:+$(absolute "${OPERANDS[0]}")}
BUNDLE=$(absolute "${OPTION[-o]:-kadun-bundle-$(date --utc +%Y%m%dT%H%M%SZ).tar.age}")
IDENTITY=$(absolute "${OPTION[identity]:-$OWN_IDENTITY}")
trap finish EXIT
require_stack
find_live
if [[ $EVENT == verify ]]; then lock_stack 900; else lock_stack 2; fi # a backup may be under way
claim_folder
require_running database
if [[ $EVENT == verify ]]; then
    newest=$(archives kadun- | tail -n 1)
    verify "${FILE:-${newest:+$BACKUP_FOLDER/$newest}}" "$IDENTITY"
elif [[ -n ${OPTION[bundle]:-} ]]; then
    [[ ! -e $BUNDLE ]] || die "文件已存在：请换名。The file exists already, choose another name: $BUNDLE"
    take_archive "$BUNDLE" "${OPTION[passphrase]:+passphrase}" data/files
    say "已打包 bundled: $BUNDLE ($(readable "$(stat --format=%s -- "$BUNDLE")"))"
    say "放到新服务器的卡盾目录，在那里执行 Put it into the checkout on the new server and run there: scripts/restore.sh --new-server FILE (--identity FILE)"
    say "它含所有密钥，用毕请删除。It holds every secret: delete it afterwards."
else
    back_up
fi
DONE=yes
