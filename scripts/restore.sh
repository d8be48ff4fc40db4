#!/usr/bin/env bash
# 从备份恢复：解密、恢复到新数据库、核对、切换、启动；原数据库保留，直到 --drop-old。失败或中断则换回。
# Restores a backup: opens it, restores into a new database, compares the rows, exchanges the databases, starts. The old database is
# kept under another name. After a failure it serves on; run again after a kill, this finishes or undoes what was begun.
#
#   scripts/restore.sh [--identity FILE] [--no-safety-dump] [--yes] FILE
#   scripts/restore.sh --new-server FILE [--identity FILE] [--yes] [--http-port N] [--https-port N] [--project NAME]
#   scripts/restore.sh --drop-old
#
#   FILE                备份 a backup of scripts/backup.sh. Only the database is restored: keys and settings here stay
#   --new-server FILE   在没有数据的服务器上恢复整套服务：数据库、密钥、设置、证书、核心功能 on a server without data: the whole service
#                       from a backup or from backup.sh --bundle, with keys, settings, certificates and functions
#   --identity FILE     解密用的 age 私钥，默认 secrets/backup_identity the age identity that opens it (secrets/backup_identity)
#   --no-safety-dump    不先备份现有数据库（已损坏、无法导出时） skips the backup of a database that is too damaged to be dumped; the
#                       database itself is kept
#   --yes               不询问 does not ask: not about a backup with far fewer activated cards, nor about where it comes from
#   --http-port, --https-port, --project
#                       本机的端口与项目名，默认与备份中相同 ports and project name here: by default those in the backup
#   --drop-old          删除以往恢复时保留的数据库 drops the databases that earlier restores kept
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
source "$ROOT/scripts/lib/archive.sh"
source "$ROOT/scripts/lib/replace.sh"
source "$ROOT/scripts/lib/new-server.sh"

# finish: undoes what a failure, or Ctrl-C, left half done.
finish() {
    local status=$?
    trap - EXIT
    trap '' INT TERM
    set +e
    [[ -n $DONE ]] || ((status != 0)) || status=143 # a signal that ends bash leaves no status
    if ((status != 0)) && [[ -n ${LIVE:-} ]]; then undo_replacement; fi
    remove_leftovers
    exit "$status"
}

# confirm QUESTION: a person at the terminal answers yes, or --yes does.
confirm() {
    local answer=''
    [[ -z ${OPTION[yes]:-} ]] || return 0
    if [[ -t 0 ]]; then IFS= read -r -p "$1 [yes/no] " answer; fi
    [[ $answer == yes ]] || die "未恢复；确要继续，加 --yes。Nothing was restored. To go on all the same: --yes. $1"
}

# start_database: on an empty server this creates the cluster and its roles. An interrupted exchange is settled first.
start_database() {
    mkdir -p -- "$ROOT/data/postgres" # a damaged one was moved away
    require_database
    settle_replacement
}

# require_similar DATABASE: it does not have far fewer activated cards than the present one: an older or another service's backup.
require_similar() {
    local activated='SELECT count(*) FROM card WHERE is_activated' here there
    { here=$(owner_sql "$LIVE" "$activated") && there=$(owner_sql "$1" "$activated"); } 2>/dev/null || return 0 # damaged, or empty
    ((2 * there >= here)) \
        || confirm "备份只有 $there 张已激活的卡密，现有 $here 张。The backup has only $there activated cards; the present database has $here."
}

# require_own_keys FOLDER: the unpacked archive is of this service: one of its signing keys is, or was, this server's. Clients trust
# no other.
require_own_keys() {
    local ours
    ours=$(own_key_ids) && [[ -n $ours ]] \
        || die "此处没有签名密钥，客户端不会信任：请用 scripts/restore.sh --new-server 恢复整套服务，或先放回 data/keys/ 与 secrets/。There are no signing keys here, which customers' programs would trust: restore the whole service with --new-server, or put data/keys/ and secrets/ back first"
    [[ -s $1/key-ids ]] \
        || { say "此备份不含签名密钥（1.0 版）。This backup holds no signing keys (version 1.0): whether it is this service's cannot be checked." && return; }
    grep -qxFf <(printf '%s\n' "$ours") "$1/key-ids" \
        || die "这是另一套服务的备份：其中没有本服务的签名密钥，未作改动。This is another service's backup: none of its signing keys is this server's. Nothing was changed"
}

# restore FILE FOLDER IDENTITY: the database alone.
restore() {
    local safety
    require_alone
    open_archive "$1" "$2" "$3"
    require_own_keys "$2"
    say_times "$2"
    if [[ -z ${OPTION[no-safety-dump]:-} ]] && has_tables "$LIVE"; then
        safety=$BACKUP_FOLDER/kadun-before-restore-$(date --utc +%Y%m%dT%H%M%SZ).tar.age
        take_archive "$safety" '' # the present database stays, too, but on the same disk
        keep_newest kadun-before-restore- "$safety"
        say "现有数据已备份 the present database is backed up in: $safety"
    fi
    replace_database "$2" require_similar
    say "已恢复 restored: $1 ($(rows_in "$2"), $(fact taken "$2"))"
}

drop_old() {
    local name names
    names="$(list_databases "${LIVE}_before_restore_") $(list_databases "${LIVE}_failed_restore_")"
    for name in $names; do drop_database "$name"; done
    say "已删除 dropped: $names"
}

umask 077
parse_options "new-server yes no-safety-dump drop-old identity= http-port= https-port= project=" "$@"
if [[ -n ${OPTION[drop-old]:-} ]]; then at_most 0; else at_most 1; fi
[[ -n ${OPTION[drop-old]:-} || -n ${OPERANDS[0]:-} ]] || usage_error "请指定备份文件 name the backup to restore"
DONE='' FILE=$(absolute "${OPERANDS[0]:-}") IDENTITY=$(absolute "${OPTION[identity]:-$OWN_IDENTITY}")
if [[ -n ${OPTION[new-server]:-} ]]; then require_docker; else require_stack; fi
lock_stack 5
trap finish EXIT
[[ -n ${OPTION[new-server]:-} ]] || claim_folder
STAGED=$(mktemp -d "$ROOT/data/.backup.XXXXXX")
if [[ -n ${OPTION[new-server]:-} ]]; then
    new_server "$FILE" "$STAGED" "$IDENTITY"
else
    find_live
    start_database
    if [[ -n ${OPTION[drop-old]:-} ]]; then drop_old; else restore "$FILE" "$STAGED" "$IDENTITY"; fi
fi
DONE=yes
