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
#   -o, --output FILE 写到此文件 where to (kadun-bundle-TIME.tar.age in the current folder)
#   --passphrase      改用口令加密 encrypts to a passphrase that it asks for; an empty one is generated and shown
#   --quiet           成功时不输出 prints nothing on success, so that cron mails failures only
#
# 写入 data/backups/kadun-TIME.tar.age，以 secrets/backup_identity 解密：请在别处保存这个私钥文件。谁有一份备份与私钥，谁就拥有
# 全部密钥。
# Writes data/backups/kadun-TIME.tar.age, which secrets/backup_identity opens: keep a copy of that one file elsewhere. Who
# has a backup and the identity has all keys of the service. Settings, all optional, in .env: docs/reference.md.
#
# 退出码 Exit status: 0 完成 done; 1 失败，旧备份不受影响 failed, older backups are untouched; 2 用法 usage.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/archive.sh
source "$ROOT/scripts/lib/archive.sh"
# shellcheck source=scripts/lib/keys.sh
source "$ROOT/scripts/lib/keys.sh"

EVENT=backup DONE='' CLAIMED='' SCRATCH='' HOOK='' PARTIAL=''

# finish: after a failure no unfinished backup and no temporary database stays, and the failure is reported.
finish() {
    local status=$?
    trap - EXIT
    [[ -n $DONE ]] || ((status != 0)) || status=143 # a signal that ends bash leaves no status
    if [[ -n $HOOK ]]; then kill -- "-$HOOK" 2>/dev/null || true; fi
    if [[ -n $SCRATCH ]]; then
        drop_database "$SCRATCH" >/dev/null 2>&1 || warn "未能删除临时数据库，下次验证时删除。Could not drop $SCRATCH: the next run does"
    fi
    [[ -z $PARTIAL ]] || rm -f -- "$PARTIAL"
    [[ -z $CLAIMED ]] || remove_leftovers
    ((status == 0)) || report_failure "$EVENT" "$status"
    exit "$status"
}

# conclude MESSAGE FILE: reports success.
conclude() {
    log_run "$EVENT" ok: "$1"
    notify "$EVENT" ok "$1" "${2##*/}"
    DONE=yes
}

# require_room FOLDER: as much as the last backup took, else half the database, for the archive there and the dump in data/.
require_room() {
    local last bytes
    last=$(retention newest "$BACKUP_FOLDER")
    if [[ -n $last ]]; then
        bytes=$(($(stat --format=%s -- "$BACKUP_FOLDER/$last") * 6 / 5))
    else
        bytes=$(owner_sql "$LIVE" "SELECT pg_database_size('$LIVE') / 2") || die "数据库没有响应。The database does not answer"
        require_number "$bytes"
    fi
    if [[ $(stat --format=%d -- "$1") == $(stat --format=%d -- "$ROOT/data") ]]; then bytes=$((2 * bytes)); fi
    require_space "$ROOT/data" $((bytes + 1048576))
    require_space "$1" $((bytes + 1048576))
}

# run_hooks FILE SECONDS: calls each executable of the folder with the finished file, and ends it after that time. One that fails
# makes the run fail in the end; last-away tells doctor when all of them succeeded.
run_hooks() {
    local hook status output failed='' called=''
    output=$(mktemp "$ROOT/data/.backup.XXXXXX")
    for hook in "$(folder_setting KADUN_BACKUP_HOOKS ./data/backup-hooks.d)"/*; do
        [[ -f $hook && -x $hook ]] || continue
        called=yes status=0
        # Its output goes into a file: a process that it leaves running would hold a pipe open.
        (unlock_child; exec timeout --kill-after=10 "$2" "$hook" "$1") >"$output" 2>&1 </dev/null &
        HOOK=$! # and of its group, which timeout makes
        wait "$HOOK" || status=$?
        HOOK=''
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
    daily=$(number_setting KADUN_BACKUP_KEEP_DAILY 7 0 9999) || exit 1
    weekly=$(number_setting KADUN_BACKUP_KEEP_WEEKLY 5 0 9999) || exit 1
    monthly=$(number_setting KADUN_BACKUP_KEEP_MONTHLY 12 0 9999) || exit 1
    limit=$(number_setting KADUN_BACKUP_HOOK_SECONDS 3600 1 999999) || exit 1
    require_room "$BACKUP_FOLDER"
    until # a clock that was set back must not overwrite a backup
        file=$BACKUP_FOLDER/kadun-$(date --utc +%Y%m%dT%H%M%SZ).tar.age
        [[ ! -e $file ]]
    do sleep 0.2; done
    take_archive "$file" recipients ${OPTION[with-files]:+data/files}
    note last-good "${file##*/}"
    retention prune "$BACKUP_FOLDER" "$daily" "$weekly" "$monthly" "${file##*/}"
    run_hooks "$file" "$limit"
    size=$(megabytes "$(stat --format=%s -- "$file")")
    conclude "${file##*/}, $size, $((SECONDS - started)) s" "$file"
    [[ -z ${OPTION[quiet]:-} ]] || return 0
    say "已备份 backed up: $file ($size)"
    remind_to_copy
}

# verify FILE: proves that it can be restored.
verify() {
    local file=$1 folder mine rows
    EVENT=verify
    if [[ -z $file ]]; then
        file=$(retention newest "$BACKUP_FOLDER")
        [[ -n $file ]] || die "还没有备份：请先运行 scripts/backup.sh。There is no backup yet in $BACKUP_FOLDER: run scripts/backup.sh"
        file=$BACKUP_FOLDER/$file
    fi
    folder=$(mktemp -d "$ROOT/data/.backup.XXXXXX")
    open_archive "$file" "$folder" "$IDENTITY"
    [[ -n ${OPTION[quiet]:-} ]] || say_times "$folder"
    mine=$VERIFIED$(printf %s "$ROOT $(host_here)" | sha256sum | head -c 12)_ # another machine may share the database server
    drop_databases "$mine"
    SCRATCH=$mine$(date --utc +%Y%m%dt%H%M%Sz)
    load_database "$SCRATCH" "$folder"
    if [[ ${file%/*} -ef $BACKUP_FOLDER ]]; then note last-verified "${file##*/}"; fi # for doctor
    rows="card $(rows_in card "$folder"), client $(rows_in client "$folder")"
    conclude "${file##*/}, $rows" "$file"
    [[ -n ${OPTION[quiet]:-} ]] || say "备份可用 good: $file ($rows)"
}

# bundle FILE: an archive with all that another server needs.
bundle() {
    local file
    file=$(absolute "${1:-kadun-bundle-$(date --utc +%Y%m%dT%H%M%SZ).tar.age}")
    [[ ! -e $file ]] || die "文件已存在：请换名。The file exists already, choose another name: $file"
    [[ -w ${file%/*} ]] || die "无法写入 cannot write $file"
    require_room "${file%/*}"
    PARTIAL=$file.partial
    if [[ -n ${OPTION[passphrase]:-} ]]; then
        take_archive "$file" passphrase data/files
    else
        take_archive "$file" recipients data/files
    fi
    DONE=yes
    say "已打包 bundled: $file ($(megabytes "$(stat --format=%s -- "$file")"))"
    say "放到新服务器的卡盾目录，在那里执行 Put it into the checkout on the new server and run there: scripts/restore.sh --new-server FILE${OPTION[passphrase]:- --identity backup_identity}"
    say "它含所有密钥，用毕请删除。It holds every secret: delete it afterwards."
}

umask 077
for word; do
    shift
    [[ $word != -o ]] || word=--output
    set -- "$@" "$word"
done
parse_options "quiet with-files verify bundle passphrase output= identity=" "$@"
if [[ -n ${OPTION[verify]:-} ]]; then at_most 1; else at_most 0; fi
only_with identity verify
only_with passphrase bundle
only_with output bundle
FILE=${OPERANDS[0]:-}
[[ -z $FILE ]] || FILE=$(absolute "$FILE")
IDENTITY=$(absolute "${OPTION[identity]:-$OWN_IDENTITY}")
if [[ -n ${OPTION[output]:-} ]]; then OPTION[output]=$(absolute "${OPTION[output]}"); fi
[[ -z ${OPTION[verify]:-} ]] || EVENT=verify
trap finish EXIT
require_stack
find_folder
find_live
if [[ -n ${OPTION[verify]:-} ]]; then lock_stack 900; else lock_stack 2; fi # a backup may be under way
claim_folder
CLAIMED=yes
require_running database
if [[ -n ${OPTION[verify]:-} ]]; then
    verify "$FILE"
elif [[ -n ${OPTION[bundle]:-} ]]; then
    bundle "${OPTION[output]:-}"
else
    back_up
fi
