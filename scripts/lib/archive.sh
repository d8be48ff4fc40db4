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

# shellcheck source=scripts/lib/database.sh
source "$ROOT/scripts/lib/database.sh"
# shellcheck source=scripts/lib/backups.sh
source "$ROOT/scripts/lib/backups.sh"

OWN_IDENTITY=$ROOT/secrets/backup_identity # scripts/init.sh makes it
AGE_MAGIC=age-encryption.org/v1

# recipients: whom backups are encrypted to, one a line: the identity here and, where it is set, KADUN_BACKUP_RECIPIENT.
recipients() {
    local own
    [[ -e $OWN_IDENTITY ]] \
        || die "缺少 secrets/backup_identity：请放回您的副本；若已丢失，scripts/init.sh 会新建。secrets/backup_identity is missing: put your copy back; if it is lost, scripts/init.sh makes a new one"
    own=$(age-keygen -y "$OWN_IDENTITY" 2>/dev/null) && [[ -n $own ]] \
        || die "无法读取，或不是 age 私钥。It cannot be read, or is not an age identity: $OWN_IDENTITY"
    printf '%s\n' "${own%%$'\n'*}" "$(setting KADUN_BACKUP_RECIPIENT)" # of several identities the first
}

# take_archive FILE recipients|passphrase [FOLDER…]: writes an archive, whole or not at all, with further folders of the checkout.
# After a failure the caller removes what is unfinished (remove_leftovers).
take_archive() {
    local staging said errors
    local -a folders=(secrets data/keys https_certificates data/functions "${@:3}") encrypt=(--passphrase)
    need age age
    staging=$(mktemp -d "$ROOT/data/.backup.XXXXXX") || die "无法写入 cannot write to $ROOT/data"
    errors=/dev/stderr # age shows there which passphrase it has made
    if [[ $2 == recipients ]]; then
        recipients >"$staging/recipients" || exit 1
        encrypt=(--recipients-file "$staging/recipients") errors=$staging/errors
    fi
    make_dump "$staging"
    said=$(in_database pg_restore --file=/dev/null <"$staging/database.dump" 2>&1) \
        || die "备份无法读回，未保留。The dump cannot be read back, and was not kept: $(error_line "$said")"
    own_key_ids >"$staging/key-ids" || die "无法读取签名密钥 cannot read the signing keys"
    cp -- "$ROOT/.env" "$staging/env"
    { tar --create --numeric-owner --exclude='data/files/.*' --exclude='data/keys/moved-to*' \
        --directory "$staging" contents key-ids env --directory "$ROOT" "${folders[@]}" \
        --directory "$staging" database.dump | age "${encrypt[@]}" >"$1.partial"; } 2>"$errors" \
        || die "无法写完备份（磁盘满？KADUN_BACKUP_RECIPIENT 正确吗？）。The backup could not be written (disk full? is KADUN_BACKUP_RECIPIENT right?): $(error_line "$(cat "$staging/errors" 2>/dev/null)")"
    { sync -- "$1.partial" && mv -fT -- "$1.partial" "$1" && sync -- "$(dirname -- "$1")"; } || die "无法写完备份 cannot finish $1"
    rm -rf -- "$staging"
}

# open_archive FILE FOLDER IDENTITY: unpacks it whole into the empty FOLDER, whose named files are then acted on. Writes to nothing
# else. Ends the script with one line where it is damaged, cut, or not one of Kadun's.
open_archive() {
    local said
    [[ -e $1 ]] || die "没有此文件，请核对文件名。There is no such file: $1"
    [[ -f $1 && -r $1 && -s $1 ]] || die "无法读取或为空 cannot be read or is empty: $1"
    [[ $1 != *.age || $(kind_of "$1") != nothing ]] \
        || die "$1 并未加密，与文件名不符：可能被人替换，请换一份。It is not encrypted, though its name says so: somebody may have exchanged it, take another"
    [[ $(kind_of "$1") == nothing ]] || need age age
    said=$({ decrypted "$1" "$3" | tar --extract --no-same-owner --no-same-permissions --directory "$2"; } 2>&1) || case $said in
        *'no identity matched'*) die "$1 已加密，$3 打不开它：请用 --identity 指定您保存的私钥。It is encrypted, and $3 does not open it: name the identity that you keep with --identity FILE" ;;
        *"$3"*) die "私钥无法读取：请放回您的副本，或用 --identity 指定。The identity cannot be read: put your copy back, or name it with --identity FILE: $3" ;;
        *) die "$1 已损坏或不是卡盾的备份，请换一份。It is damaged or not a backup of Kadun's, take another: $(error_line "$said")" ;;
    esac
    find "$2" ! -type f ! -type d -delete
    if [[ ! -e $2/contents && -e $2/manifest.json ]]; then contents_of_1_0 <"$2/manifest.json" >"$2/contents" 2>/dev/null || :; fi
    [[ -s $2/database.dump && -s $2/contents ]] \
        || die "$1 不完整或不是卡盾的备份：缺少数据库。It is incomplete or not a backup of Kadun's: it lacks the database"
    require_known_schema "$(fact schema "$2")"
    require_tables "$1" "$2"
}

# decrypted FILE IDENTITY: prints the tar in it. A passphrase is asked for on the terminal.
decrypted() {
    case $(kind_of "$1") in
        passphrase) age --decrypt "$1" ;;
        identity) age --decrypt --identity "$2" "$1" ;;
        *) cat -- "$1" ;;
    esac
}

# kind_of FILE: what opens it: passphrase, identity or nothing.
kind_of() {
    case $(head -c 64 -- "$1" | tr -d '\0') in
        "$AGE_MAGIC"$'\n-> scrypt '*) printf passphrase ;;
        "$AGE_MAGIC"*) printf identity ;;
        *) printf nothing ;;
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

# rows_in TABLE FOLDER: how many rows of a table it holds.
rows_in() { sed -n "s/^table $1 \([0-9]*\) .*/\1/p" "$2/contents"; }

# say_times FOLDER: when it was made, and its cards beside today's.
say_times() {
    local here
    here=$(owner_sql "$LIVE" "SELECT count(*) FROM card" 2>/dev/null) || here=0
    say "备份时间为 $(fact taken "$1")，卡密 $(rows_in card "$1") 张；现有 $here 张。The backup was made at $(fact taken "$1") and holds $(rows_in card "$1") cards; the present database holds $here"
}

# require_tables FILE FOLDER: every table of this checkout's schema is there. An older schema may have had fewer.
require_tables() {
    local missing
    [[ $(fact schema "$2") == "$(own_schema)" ]] || return 0
    missing=$(sed -n 's/^table \([a-z_]*\).*/\1/p' "$ROOT/app/storage/catalog.txt" \
        | grep -vxFf <(sed -n 's/^table \([^ ]*\) .*/\1/p' "$2/contents"; echo host)) || true
    [[ -z $missing ]] || die "$1 缺少数据表，备份时数据库已被改动。It lacks tables, since the database had been changed when it was made: ${missing//$'\n'/ }"
}

# warn_of_missing_files FOLDER: the database lists licensed files whose bytes are not here. Where they lie in a bucket, cardctl
# doctor checks them.
warn_of_missing_files() {
    local sha256 name missing=''
    [[ -z $(setting KADUN_FILES_BUCKET) ]] || return 0
    while read -r sha256 name; do
        [[ -e $ROOT/data/files/$sha256 ]] || missing+=${missing:+, }$name
    done < <(fact file "$1")
    [[ -z $missing ]] || warn "这些文件的内容不在 data/files：请放回，或重新添加（cardctl file add）。The bytes of these files are not in data/files: put them back, or add them again (cardctl file add): $missing"
}
