#!/usr/bin/env bash
# 验证备份：恢复到临时数据库，逐表核对行数与内容，随后删除临时数据库；不影响正在运行的服务。
# Proves that a backup can be restored: into a scratch database, whose schema, row counts and rows are compared with what
# the dump's own snapshot held. The scratch database always goes again; the service is not touched.
#
#   scripts/verify-backup.sh [--quiet] [--identity FILE] [FILE]
#
#   FILE              备份文件，默认最新一份 a backup; by default the newest in the backup folder
#   --identity FILE   age 私钥文件 the identity that opens an encrypted backup; without it only its checksum is compared
#   --quiet           成功时不输出 says nothing when all is well
#
# 退出码 Exit status: 0 可用 good; 1 不可用 no good, or it could not be tried; 2 用法 usage.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/common.sh
source "$ROOT/scripts/lib/common.sh"
# shellcheck source=scripts/lib/backup.sh
source "$ROOT/scripts/lib/backup.sh"

quiet=false DONE=false
SCRATCH='' FILE=''

parse_arguments() {
    while (($#)); do
        case $1 in
            -h | --help) print_help "$ROOT/scripts/verify-backup.sh"; exit ;;
            --quiet) quiet=true ;;
            --identity)
                [[ -n ${2:-} ]] || usage_error "缺少参数 a value is missing: $1"
                DUMP_IDENTITY=$(absolute "$2")
                shift
                ;;
            -*) usage_error "未知参数 unknown argument: $1" ;;
            *)
                [[ -z $FILE ]] || usage_error "只能验证一个文件 one file at a time: $1"
                FILE=$(absolute "$1")
                ;;
        esac
        shift
    done
}

# finish: the scratch database goes, whatever happened.
finish() {
    local status=$?
    trap - EXIT
    $DONE || ((status != 0)) || status=143 # a signal that ends bash leaves no status
    if [[ -n $SCRATCH ]]; then
        drop_database "$SCRATCH" >/dev/null 2>&1 || warn "未能删除临时数据库，下次验证时删除。Could not drop $SCRATCH: the next run does"
    fi
    ((status == 0)) || tell_failure verify "$status"
    exit "$status"
}

find_file() {
    local name
    [[ -z $FILE ]] || return 0
    name=$(newest_backup)
    [[ -n $name ]] || die "还没有备份：请先运行 scripts/backup.sh。There is no backup yet in $BACKUP_FOLDER: run scripts/backup.sh"
    FILE=$BACKUP_FOLDER/$name
}

# restore_scratch: into a database of this run's own.
restore_scratch() {
    local schema own
    drop_databases kadun_verify_
    require_database_space "$(database_bytes "$FILE")"
    SCRATCH=kadun_verify_$(date --utc +%Y%m%dt%H%M%Sz)
    restore_dump "$FILE" "$SCRATCH"
    schema=$(schema_of "$SCRATCH") || die "无法读取临时数据库 cannot read $SCRATCH"
    own=$(own_schema)
    require_known_schema "$schema" "$own"
    compare_contents "$FILE" "$SCRATCH"
}

# conclude WORDS [WORD]: to the log, the webhook, the screen and, of one of the nightly backups, doctor.
conclude() {
    if [[ ${FILE%/*} -ef $BACKUP_FOLDER && ${FILE##*/} =~ $BACKUP_NAME ]]; then note last-verified "${FILE##*/}${2:+ $2}"; fi
    log_run verify ok: "${FILE##*/}, $1"
    notify verify ok "${FILE##*/}, $1" "${FILE##*/}"
    $quiet || say "备份可用 good: $FILE ($1)"
    DONE=true
}

parse_arguments "$@"
umask 077
trap finish EXIT
require_stack
find_folder
lock_stack 900 # a backup may be under way
find_file
check_sum "$FILE"
if [[ $FILE == *.age && -z $DUMP_IDENTITY ]]; then
    conclude "已加密，仅核对 SHA-256；用 --identity 完整验证 encrypted: SHA-256 only, --identity verifies it whole" sha256
    exit
fi
require_identity "$FILE"
require_running database
check_dump "$FILE"
restore_scratch
conclude "$(contents_summary "$FILE")"
