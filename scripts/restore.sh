#!/usr/bin/env bash
# 从备份恢复：校验、先备份现有数据、恢复到新数据库、核对、切换、启动；原数据库保留，直到 --drop-old。
# Restores a backup: checks it, backs up the present database, restores into a new database, compares, switches, starts. The
# old database is kept under another name; after any failure it serves on. Works on an empty server, too.
#
#   scripts/restore.sh [--identity FILE] [--fingerprint KEY] [--accept-unsigned] [--no-safety-dump] [--other-cards] FILE
#   scripts/restore.sh --drop-old
#
#   FILE                kadun-TIME.tar[.age]，或 pg_dump -Fc 的 .dump or a .dump that pg_dump -Fc made
#   --identity FILE     age 私钥文件，默认 secrets/backup_identity the identity that opens an encrypted backup, by default
#                       secrets/backup_identity
#   --fingerprint KEY   签名密钥的指纹，本机 data/keys/ 不认识时用 the ID of a signing key of your service, where
#                       data/keys/ here does not know the key that signed
#   --accept-unsigned   接受无签名的备份（旧版本制作的、.dump）：内容由谁制作，无从确认 accepts a backup without a
#                       signature, as older versions made, and a .dump: nothing shows who made it
#   --no-safety-dump    现有数据库已损坏、无法导出时 skips the backup of a database that is too damaged to be dumped; the
#                       database itself is kept
#   --other-cards       备份与现有数据没有共同的已激活卡密时仍然恢复 restores a backup that has no activated card in common
#                       with the present database: another installation's, as a rule
#   --drop-old          删除以往恢复时保留的数据库 drops the databases that earlier restores kept
#
# 密钥不在备份中：换了机器时，先放回 secrets/ 与 data/keys/。A backup does not hold the keys: on a new machine put secrets/
# and data/keys/ back first (scripts/import.sh does both), or customers' programs will not trust this server.
# 退出码 Exit status: 0 已恢复 restored; 1 失败，原数据仍在服务 failed, the old database serves on; 2 用法 usage.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/archive.sh
source "$ROOT/scripts/lib/archive.sh"
# shellcheck source=scripts/lib/backups.sh
source "$ROOT/scripts/lib/backups.sh"

STEP=''    # how far the restore has come: made, stopped, swapped; `finish` undoes it
JOURNAL='' # the last journal entry of what is restored
SAFETY=''  # the backup of the database that was there
DONE='' RUNNING=''

# finish: undoes what a failure, or Ctrl-C, left half done.
finish() {
    local status=$?
    trap - EXIT
    [[ -n $DONE ]] || ((status != 0)) || status=143 # a signal that ends bash leaves no status
    trap '' INT TERM
    set +e
    if ((status != 0)); then
        remove_leftovers
        if undo_restore && [[ -n $SAFETY ]]; then settle_backup; fi
    fi
    exit "$status"
}

# undo_restore: the old database serves again; fails where it could not be put back. What was restored is kept if it has served:
# customers may have been told of what is in it.
undo_restore() {
    local said
    [[ -n $STEP ]] || return 0
    # Ctrl-C ends our side of an exchange that goes on in the container: once NEW is dropped, there is none.
    [[ $STEP == swapped ]] || drop_database "$NEW" >/dev/null 2>&1
    if [[ $STEP == stopped ]] && (exists "$OLD"); then STEP=swapped; fi
    if [[ $STEP == swapped ]]; then
        compose stop app >/dev/null 2>&1 </dev/null
        if ! swap_back "$OLD" "$FAILED" "$JOURNAL"; then
            warn "无法换回原数据库：它仍在，名为 $OLD。The old database could not be put back: it is there as $OLD"
            return 1
        fi
        warn "恢复出的数据库保留为 $FAILED（其中多 $NEWER 条日志），--drop-old 可删除。What was restored is kept as $FAILED, with $NEWER journal entries more; --drop-old drops it"
    fi
    [[ $STEP != made ]] || return 0
    if [[ -n $RUNNING ]]; then
        said=$(serve) \
            || warn "原数据库已就位，但服务未就绪。The old database is in place, but the service is not ready: $said"
    fi
    warn "未恢复，原数据库照旧。Nothing was restored: the old database is in its place"
    return 0
}

# start_database: on an empty server this creates the cluster and its roles.
start_database() {
    local said folder=$ROOT/data/postgres
    if [[ ! -d $folder && $(setting COMPOSE_FILE) != *external* ]]; then # a damaged one was moved away
        mkdir -m 700 "$folder" || die "无法创建 cannot make $folder"
    fi
    said=$(come_up database && await database_ready database) \
        || die "数据库无法启动。The database does not start (docker compose logs database; a cluster beyond repair: move data/postgres away and run this again): $(last_line "$said")"
}

# back_up_present: in a form that can be restored here without asking for an identity.
back_up_present() {
    local bytes
    find_folder
    bytes=$(owner_sql "$LIVE" "SELECT pg_database_size('$LIVE') + 1048576") || die "无法读取现有数据库。Cannot read the present database (--no-safety-dump goes on without)"
    require_space "$BACKUP_FOLDER" "$bytes"
    find_safety_recipient
    take_archive "$BACKUP_FOLDER/kadun-before-restore-$TIME.tar" "$RECIPIENT"
    SAFETY=$TAKEN
    say "现有数据已备份 the present database is backed up in: $SAFETY"
}

# settle_backup: once the way back is not needed, the backup is encrypted, if backups are and it is not yet; the newest three
# are kept.
settle_backup() {
    [[ -n $SAFETY ]] || return 0
    local settled
    settled=$(encrypt_archive "$SAFETY")
    if [[ $settled == *.age ]]; then say "已加密 encrypted: $settled"; fi
    retention keep-newest "$BACKUP_FOLDER" kadun-before-restore- 3
}

# require_common_card: activated cards are never deleted, so that two states of one installation share the oldest one of at
# least one of them. With another installation's backup every customer would hear that their card does not exist.
require_common_card() {
    local oldest='SELECT id FROM card WHERE is_activated ORDER BY activated_at, id LIMIT 1' here there
    # Too damaged to tell, or older than cards.
    { here=$(owner_sql "$LIVE" "$oldest") && there=$(owner_sql "$NEW" "$oldest"); } 2>/dev/null || return 0
    [[ -n $here && -n $there ]] || return 0
    if ! is_activated "$NEW" "$here" && ! is_activated "$LIVE" "$there"; then
        die "这像是另一套服务的备份：与现有数据没有共同的已激活卡密；确要以它取代，加 --other-cards。This looks like another installation's backup: it has no activated card in common with the present database. To put it in place all the same: --other-cards"
    fi
}

# is_activated DATABASE CARD
is_activated() {
    [[ $2 =~ ^[0-9A-Z]{32}$ ]] && [[ $(owner_sql "$1" "SELECT count(*) FROM card WHERE is_activated AND id = '$2'") == 1 ]]
}

# make_new: restores into database NEW, compared and open to the roles that serve.
make_new() {
    local schema
    drop_databases "${LIVE}_restoring_"
    require_database_space "$(database_bytes "$FILE")"
    STEP=made
    restore_dump "$NEW" open_dump "$FILE"
    schema=$(schema_of "$NEW") || die "无法读取恢复后的数据库 cannot read $NEW"
    require_known_schema "$schema"
    if [[ $schema != "$(own_schema)" ]]; then
        say "备份的结构较旧（$schema），启动时自动升级到 $(own_schema)。The backup's schema is older ($schema): it is migrated to $(own_schema) at the start"
    fi
    require_same_contents "$NEW"
    [[ -n ${OPTION[other-cards]:-} ]] || require_common_card
    require_keys
    prepare_database "$NEW" || die "无法设置 cannot set up $NEW"
    JOURNAL=$(journal_end "$NEW" 2>/dev/null) || JOURNAL='' # an old schema may have none
}

# require_keys: clients of activated cards trust the old signing keys only; without them the service does not start.
require_keys() {
    local in_use found
    if [[ $(keys_are_in) == database ]]; then
        found=$(sealed_keys "$NEW" && sealed_keys "$LIVE") || die "无法读取 cannot read $NEW"
        [[ -z $found ]] || return 0
    else
        [[ ! -e $ROOT/data/keys/keyring.json ]] || return 0
    fi
    in_use=$(owner_sql "$NEW" "SELECT EXISTS (SELECT FROM card WHERE is_activated)") || die "无法读取 cannot read $NEW"
    [[ $in_use == f ]] || die "备份中有已激活的卡密，而此处没有签名密钥：请先放回 data/keys/ 与 secrets/kernal_data_key，并设置 KADUN_KEYS=folder。Cards of this backup are in use, but there are no signing keys here: set KADUN_KEYS=folder, and put data/keys/ and secrets/kernal_data_key back first (if they are lost for good: docker compose up -d --wait makes new ones; restore then, and give every customer a new release)"
}

# switch: NEW takes the live database's place, and the service starts on it.
switch() {
    local said
    said=$(compose ps --quiet --status running app 2>/dev/null </dev/null) || said=''
    RUNNING=${said:+yes}
    STEP=stopped
    said=$(compose stop app 2>&1 </dev/null) || die "无法停止服务 could not stop the service: $(last_line "$said")"
    said=$(swap_databases "$LIVE" "$OLD" "$NEW" 2>&1) \
        || die "无法切换数据库 the databases cannot change places: $(error_line "$said")"
    STEP=swapped
    migrate_and_carry_keys "$OLD"
    say "正在启动…  Starting …"
    said=$(serve) \
        || die "恢复后的服务未就绪。The service is not ready on what was restored: $said"
    STEP=''
}

restore() {
    local has_schema made there here=0
    [[ $(own_schema) == *_* ]] || die "此目录不完整 this checkout is incomplete: app/storage/migrations"
    require_backup "$FILE"
    start_database
    require_alone
    read_archive "$FILE"
    has_schema=$(schema_of "$LIVE") || die "无法读取现有数据库 cannot read database $LIVE"
    made=$(fact created) there=$(archive summary card <<<"$MANIFEST" | tr -dc 0-9) # nothing of a bare dump
    if [[ -n $has_schema ]]; then here=$(owner_sql "$LIVE" "SELECT count(*) FROM card" 2>/dev/null) || here='?'; fi
    say "备份时间为 ${made:-?}，卡密 ${there:-?} 张；现有 $here 张。The backup was made at ${made:-?} and holds ${there:-?} cards; the present database holds $here"
    if [[ -z ${OPTION[no-safety-dump]:-} && -n $has_schema ]]; then back_up_present; fi
    make_new
    switch
    if [[ -n $has_schema ]]; then
        say "原数据库保留为 $OLD；确认无误后 scripts/restore.sh --drop-old 可删除。The old database is kept as $OLD; scripts/restore.sh --drop-old drops it"
    else
        drop_database "$OLD" >/dev/null 2>&1 || true # it was empty
    fi
    settle_backup
    warn_of_missing_files "$MANIFEST" "$ROOT/data/files" "这些文件的内容不在 data/files：请放回，或重新添加（cardctl file add）。The bytes of these files are not in data/files: put them back, or add them again (cardctl file add)"
    say "已恢复 restored: $FILE${MANIFEST:+ ($(archive summary card client <<<"$MANIFEST"), $(fact created))}"
}

drop_old() {
    local found prefix names=''
    require_running database
    for prefix in before failed; do
        found=$(list_databases "${LIVE}_${prefix}_restore_") || die "数据库没有响应。The database does not answer"
        drop_databases "${LIVE}_${prefix}_restore_"
        names+=${found:+ $found}
    done
    say "已删除 dropped:${names:- 无 nothing}"
}

parse_options "$TRUST_OPTIONS drop-old no-safety-dump other-cards identity=" "$@"
take_trust
at_most 1
FILE=${OPERANDS[0]:-}
if [[ -n ${OPTION[drop-old]:-} ]]; then
    [[ -z $FILE ]] || usage_error "--drop-old 不带文件 takes no file"
else
    [[ -n $FILE ]] || usage_error "请指定备份文件 name the backup to restore"
    FILE=$(absolute "$FILE")
fi
[[ -z ${OPTION[identity]:-} ]] || IDENTITY=$(absolute "${OPTION[identity]}")
umask 077
require_stack
lock_stack 5
TIME=$(date --utc +%Y%m%dT%H%M%SZ)
find_live
OLD=${LIVE}_before_restore_${TIME,,} NEW=${LIVE}_restoring_${TIME,,} FAILED=${LIVE}_failed_restore_${TIME,,}
trap finish EXIT
if [[ -n ${OPTION[drop-old]:-} ]]; then drop_old; else restore; fi
DONE=yes
