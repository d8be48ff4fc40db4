# shellcheck shell=bash
# The archives of backups: a tar, encrypted by age. Sourced, never run. In an archive lie, the dump last:
#
#   contents        what the database held (lib/contents.sql), in the dump's snapshot
#   key-ids         the IDs of this service's signing keys, past ones too
#   env             .env
#   secrets/ data/keys/ https_certificates/ data/functions/ and, where asked for, data/files/
#   database.dump   by pg_dump, in its custom format
#
# Archives of version 1.0 have manifest.json and database.dump alone, and may be in clear.

source "$ROOT/scripts/lib/keys.sh"
source "$ROOT/scripts/lib/backups.sh"

OWN_IDENTITY=$ROOT/secrets/backup_identity # scripts/init.sh makes it

# recipients: whom backups are encrypted to, one a line: the identity here and, where it is set, KADUN_BACKUP_RECIPIENT.
recipients() {
    local own
    need age-keygen age
    [[ -e $OWN_IDENTITY ]] || die "缺少 secrets/backup_identity：请放回您的副本；若已丢失，请执行 scripts/init.sh。secrets/backup_identity is missing: put your copy back; if it is lost, run scripts/init.sh, which makes a new one"
    own=$(age-keygen -y "$OWN_IDENTITY" 2>/dev/null) \
        || die "secrets/backup_identity 无法读取，或不是 age 私钥：请放回您的副本。secrets/backup_identity cannot be read, or is not an age identity: put your copy back"
    printf '%s\n' "${own%%$'\n'*}" "$(setting KADUN_BACKUP_RECIPIENT)" # of several identities the first
}

# take_archive FILE passphrase|'' [FOLDER…]: writes an archive, whole or not at all, with further folders of the checkout.
# After a failure the caller removes what is unfinished (remove_leftovers).
take_archive() {
    local staging bytes errors
    local -a folders=(secrets data/keys https_certificates data/functions "${@:3}") encrypt=(--passphrase)
    # An estimate, so that a disk that PostgreSQL needs does not fill up: compressed, and without indexes, a dump is smaller.
    bytes=$(owner_sql "$LIVE" "SELECT pg_database_size('$LIVE') / 2 + 1048576")
    require_space "$ROOT/data" "$bytes"
    staging=$(mktemp -d "$ROOT/data/.backup.XXXXXX")
    errors=/dev/stderr # age shows there which passphrase it has made
    if [[ -z $2 ]]; then
        recipients >"$staging/recipients"
        encrypt=(--recipients-file "$staging/recipients") errors=$staging/errors
    fi
    make_dump "$staging"
    require_space "$(dirname -- "$1")" "$(cd "$ROOT" && du --bytes --summarize --total -- "$staging" "${@:3}" | sed -n '$s/\t.*//p')"
    own_key_ids >"$staging/key-ids"
    cp -- "$ROOT/.env" "$staging/env"
    { tar --create --numeric-owner --exclude='data/files/.*' --exclude='data/keys/moved-to*' \
        --directory "$staging" contents key-ids env --directory "$ROOT" "${folders[@]}" \
        --directory "$staging" database.dump | age "${encrypt[@]}" >"$1.partial"; } 2>"$errors" || {
        rm -f -- "$1.partial"
        die "无法写完备份（磁盘满？KADUN_BACKUP_RECIPIENT 正确吗？）。The backup could not be written (disk full? is KADUN_BACKUP_RECIPIENT right?): $(error_line "$(cat "$staging/errors" 2>/dev/null)")"
    }
    sync -- "$1.partial"
    mv -fT -- "$1.partial" "$1"
    sync -- "$(dirname -- "$1")"
    rm -rf -- "$staging"
}

# open_archive FILE FOLDER IDENTITY: unpacks it whole into the empty FOLDER, whose named files are then acted on. Writes to nothing
# else. Ends the script with one line where it is damaged, cut, not one of Kadun's, or of a newer version.
open_archive() {
    local said schema own missing
    require_readable "$1"
    said=$({ decrypted "$1" "$3" | tar --extract --no-same-owner --no-same-permissions --directory "$2"; } 2>&1) || case $said in
        *'no identity matched'* | *"$3"*) die "$3 打不开 $1：请用 --identity 指定您保存的私钥。It does not open $1: name the identity that you keep with --identity FILE: $(error_line "$said")" ;;
        *) die "$1 已损坏或不是卡盾的备份，请换一份。It is damaged or not a backup of Kadun's, take another: $(error_line "$said")" ;;
    esac
    find "$2" ! -type f ! -type d -delete
    if [[ ! -e $2/contents && -e $2/manifest.json ]]; then contents_of_1_0 <"$2/manifest.json" >"$2/contents" 2>/dev/null || :; fi
    own=$(own_schema)
    schema=$(fact schema "$2" 2>/dev/null) || schema=''
    [[ -s $2/database.dump && $schema =~ ^[0-9]{4}_[a-z0-9_]+$ ]] \
        || die "$1 不完整或不是卡盾的备份：缺少数据库。It is incomplete or not a backup of Kadun's: it lacks the database"
    [[ ! $schema > $own ]] \
        || die "备份的结构 $schema 比本程序（$own）新：请先升级程序。The backup's schema $schema is newer than this program's ($own): upgrade the program first"
    [[ $schema == "$own" ]] || return 0 # an older one may have had fewer tables
    missing=$(sed -n 's/^table \([a-z_]*\).*/\1/p' "$ROOT/app/storage/catalog.txt" \
        | grep -vxFf <(sed -n 's/^table \([^ ]*\) .*/\1/p' "$2/contents"; echo host)) || true
    [[ -z $missing ]] || die "$1 缺少数据表，备份时数据库已被改动。It lacks tables, since the database had been changed when it was made: ${missing//$'\n'/ }"
}

# decrypted FILE IDENTITY: prints the tar in it. A passphrase is asked for on the terminal.
decrypted() {
    case $(kind_of "$1") in
        passphrase) age --decrypt "$1" ;;
        identity) age --decrypt --identity "$2" "$1" ;;
        *) cat -- "$1" ;;
    esac
}

# kind_of FILE: what opens it: passphrase, identity or nothing. One in clear whose name says that it is encrypted is refused by age:
# somebody may have exchanged it.
kind_of() {
    case $(head -c 64 -- "$1" | tr -d '\0') in
        age-encryption.org/v1$'\n-> scrypt '*) printf passphrase ;;
        age-encryption.org/v1*) printf identity ;;
        *) if [[ $1 == *.age ]]; then printf identity; else printf nothing; fi ;;
    esac
}

# contents_of_1_0: prints what contents.sql would, from a manifest of version 1.0.
contents_of_1_0() {
    python3 -B -I -c '
import json, sys
manifest = json.load(sys.stdin)
print("schema", manifest["schema"])
print("taken", manifest["created"])
print("bytes", manifest.get("bytes", 0))
for name, (rows, digest) in manifest["tables"].items():
    print("table", name, rows, digest)
for name, sha256 in manifest["files"].items():
    print("file", sha256, name)'
}

# fact NAME FOLDER: of the contents in an unpacked archive.
fact() { sed -n "s/^$1 //p" "$2/contents"; }

# rows_in FOLDER: its cards and customers' machines, for people.
rows_in() { awk '$2 ~ /^(card|client)$/ { printf "%s%s %s", comma, $2, $3; comma = ", " }' "$1/contents"; }

# say_times FOLDER: when it was made, and its cards beside today's.
say_times() {
    local here cards
    here=$(owner_sql "$LIVE" "SELECT count(*) FROM card" 2>/dev/null) || here=0
    cards=$(fact 'table card' "$1") cards=${cards%% *}
    say "备份时间为 $(fact taken "$1")，卡密 $cards 张；现有 $here 张。The backup was made at $(fact taken "$1") and holds $cards cards; the present database holds $here"
}
