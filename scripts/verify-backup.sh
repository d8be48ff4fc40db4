#!/usr/bin/env bash
# 验证备份：恢复到临时数据库，逐表核对行数与内容，随后删除临时数据库；不影响正在运行的服务。
# Proves that a backup can be restored: restores it into a temporary database and compares its schema, row counts and rows
# with what the database held when it was dumped. The service is not touched.
#
#   scripts/verify-backup.sh [--quiet] [--identity FILE] [--fingerprint KEY] [--accept-unsigned] [FILE]
#
#   FILE              备份文件，默认最新一份 a backup; by default the newest in the backup folder
#   --identity FILE   age 私钥文件，默认 secrets/backup_identity the identity that opens an encrypted backup, by default
#                     secrets/backup_identity; with a KADUN_BACKUP_RECIPIENT of your own and without it, only the checksum
#                     is compared
#   --fingerprint KEY 签名密钥的指纹，本机 data/keys/ 不认识时用 the ID of a signing key of your service, where
#                     data/keys/ here does not know the key that signed
#   --accept-unsigned 接受无签名的备份（旧版本制作的、.dump）：内容由谁制作，无从确认 accepts a backup without a
#                     signature, as older versions made, and a .dump: nothing shows who made it
#   --quiet           成功时不输出 prints nothing on success
#
# 退出码 Exit status: 0 可用 good; 1 不可用或无法验证 damaged, or it could not be tried; 2 用法 usage.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/archive.sh
source "$ROOT/scripts/lib/archive.sh"
# shellcheck source=scripts/lib/backups.sh
source "$ROOT/scripts/lib/backups.sh"

DONE='' SCRATCH=''

# finish: drops the temporary database, whatever happened.
finish() {
    local status=$?
    trap - EXIT
    [[ -n $DONE ]] || ((status != 0)) || status=143 # a signal that ends bash leaves no status
    if [[ -n $SCRATCH ]]; then
        drop_database "$SCRATCH" >/dev/null 2>&1 || warn "未能删除临时数据库，下次验证时删除。Could not drop $SCRATCH: the next run does"
    fi
    ((status == 0)) || report_failure verify "$status"
    exit "$status"
}

find_file() {
    local name
    if ((${#OPERANDS[@]})); then
        FILE=$(absolute "${OPERANDS[0]}")
        return
    fi
    name=$(retention newest "$BACKUP_FOLDER")
    [[ -n $name ]] || die "还没有备份：请先运行 scripts/backup.sh。There is no backup yet in $BACKUP_FOLDER: run scripts/backup.sh"
    FILE=$BACKUP_FOLDER/$name
}

# require_checksum: a backup in the backup folder, and an encrypted one without its identity, need their checksum.
require_checksum() {
    if [[ ! -e $FILE.sha256 ]] && { [[ $FILE == *.age && -z $IDENTITY ]] || is_ours; }; then
        die "缺少校验文件 $FILE.sha256。The checksum $FILE.sha256 is missing: copy it along, or verify a copy of the backup elsewhere (with --identity if it is encrypted)"
    fi
}

# is_ours: a backup that scripts/backup.sh has put into the backup folder.
is_ours() { [[ ${FILE%/*} -ef $BACKUP_FOLDER && ${FILE##*/} =~ ^kadun-2[^/]*\.tar(\.age)?$ ]]; }

# require_tables SCHEMA: every table of this checkout's schema is there. An older schema may have had fewer.
require_tables() {
    local found missing
    [[ $1 == "$(own_schema)" ]] || return 0
    found=$(owner_sql "$SCRATCH" "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace") \
        || die "无法读取 cannot read $SCRATCH"
    missing=$(sed -n 's/^table \([a-z_]*\).*/\1/p' "$ROOT/app/storage/catalog.txt" | grep -vxFf <(printf '%s\n' "$found")) || true
    [[ -z $missing ]] || die "$FILE 缺少数据表，备份时数据库已被改动。It lacks tables, since the database had been changed when it was made: ${missing//$'\n'/ }"
}

verify_content() {
    local schema mine
    mine=$VERIFIED$(printf %s "$ROOT $(host_here)" | sha256sum | head -c 12)_ # another machine may share the database server
    drop_databases "$mine"
    require_database_space "$(database_bytes "$FILE")"
    SCRATCH=$mine$(date --utc +%Y%m%dt%H%M%Sz)
    restore_dump "$SCRATCH" open_dump "$FILE"
    schema=$(schema_of "$SCRATCH") || die "无法读取 cannot read $SCRATCH"
    require_known_schema "$schema"
    require_tables "$schema"
    require_same_contents "$SCRATCH"
}

# conclude TEXT [WORD]: reports success. Of our backups it leaves a note for doctor; a bare dump proves nothing to it.
conclude() {
    if is_ours; then note last-verified "${FILE##*/}${2:+ $2}"; fi
    log_run verify ok: "${FILE##*/}, $1"
    notify verify ok "${FILE##*/}, $1" "${FILE##*/}"
    [[ -n ${OPTION[quiet]:-} ]] || say "备份可用 good: $FILE ($1)"
    DONE=yes
}

parse_options "$TRUST_OPTIONS quiet identity=" "$@"
take_trust
at_most 1
[[ -z ${OPTION[identity]:-} ]] || IDENTITY=$(absolute "${OPTION[identity]}")
umask 077
trap finish EXIT
require_stack
find_folder
lock_stack 900 # a backup may be under way
find_file
require_backup "$FILE" checksum
require_checksum
if [[ $FILE == *.age && -z $IDENTITY ]]; then
    conclude "已加密，仅核对 SHA-256；用 --identity 完整验证 encrypted: SHA-256 only, --identity verifies it whole" sha256
    exit
fi
require_running database
read_archive "$FILE"
verify_content
if [[ -n $MANIFEST ]]; then
    conclude "$(archive summary card client <<<"$MANIFEST")"
else
    conclude "没有清单，未逐表核对 no manifest: the rows were not compared"
fi
