# shellcheck shell=bash
# Archives (see lib/archive.py): written, signed, encrypted, read, compared. Sourced, never run. An archive whose name ends in
# .age is encrypted; IDENTITY is the file that opens it. A bare dump of pg_dump (.dump) can be restored, too.

# shellcheck source=scripts/lib/database.sh
source "$ROOT/scripts/lib/database.sh"
# shellcheck source=scripts/lib/backups.sh
source "$ROOT/scripts/lib/backups.sh"
# shellcheck source=scripts/lib/identity.sh
source "$ROOT/scripts/lib/identity.sh"
# shellcheck source=scripts/lib/keys.sh
source "$ROOT/scripts/lib/keys.sh"

MANIFEST='' # of the archive that read_archive has read; empty for a bare dump
TRUST=(--keys "$KEYRING") # whose signature counts; if it is empty, no signature is required
# The options of parse_options by which a person accepts another signature, or none.
# shellcheck disable=SC2034  # for scripts that source this
TRUST_OPTIONS='fingerprint=* accept-unsigned'
SIGNING=() FINGERPRINT='' # set by find_signer
FACTS=() # more of them for the manifest, NAME=VALUE
# shellcheck disable=SC2034  # for scripts that source this
TAKEN='' TAKEN_SHA256='' # set by take_archive
AGE_MAGIC=age-encryption.org/v1

archive() { library archive.py "$@"; }

# take_trust: adds what the person says to TRUST.
take_trust() {
    local key
    while IFS= read -r key; do
        [[ -z $key ]] || TRUST+=(--fingerprint "$key")
    done <<<"${OPTION[fingerprint]:-}"
    [[ -z ${OPTION[accept-unsigned]:-} ]] || TRUST+=(--accept-unsigned)
}

# find_signer: archives written from now on are signed with the service's current key; FINGERPRINT is its ID. Fails where it
# cannot sign, and FINGERPRINT says why.
find_signer() {
    use_keyring
    FINGERPRINT=$(archive fingerprint "$KEYRING" 2>&1 </dev/null) && SIGNING=(--keys "$KEYRING")
}

# unpack [unpack-join]: the bundle on standard input, decrypted if it is encrypted (with the file $identity, if it names one), into
# the folder STAGED, if it is signed by somebody trusted.
unpack() {
    local head=$STAGED.head said=$STAGED.said
    local -a decrypt=(cat)
    head -c ${#AGE_MAGIC} >"$head"
    if [[ $(tr -d '\0' <"$head") == "$AGE_MAGIC" ]]; then
        need age age
        decrypt=(age --decrypt ${identity:+--identity "$identity"})
    fi
    if ! cat "$head" - | "${decrypt[@]}" | archive "${1:-unpack}" "$STAGED" "${TRUST[@]}" 2>"$said"; then
        [[ ${PIPESTATUS[1]} == 0 || ${PIPESTATUS[2]} == 3 ]] \
            || die "无法解密或不完整：请检查口令或 --identity。Cannot decrypt the bundle, or it is cut off: is it the right passphrase or --identity?"
        die "此包无法使用。The bundle cannot be used: $(last_line "$(<"$said")")"
    fi
    rm -f -- "$head" "$said"
}

is_bare_dump() { [[ ${1%.age} == *.dump ]]; }

# open_archive FILE: prints it, decrypted. A link is refused: age quotes the first line of a file that is not encrypted, and that
# would go into the log beside the backups.
open_archive() {
    if [[ $1 == *.age ]]; then read_file "$1" | age --decrypt --identity "$IDENTITY"; else read_file "$1"; fi
}

# read_file FILE: prints it, unless it is a link. Does not wait for what a pipe in its place would bring.
read_file() { dd if="$1" iflag=nofollow,nonblock bs=1M status=none; }

# write_file FILE: as write_new, and prints the SHA-256 of what was written.
write_file() {
    local sum
    sum=$({ tee /dev/fd/3 | write_new "$1"; } 3>&1 | sha256sum) \
        && printf '%s' "${sum%% *}"
}

# open_dump FILE: prints the dump in it, once it is known to be the one that was signed: the file may be another by now.
open_dump() {
    if is_bare_dump "$1"; then
        open_archive "$1"
    else
        open_archive "$1" | archive member "$ROOT/data" database.dump "${TRUST[@]}"
    fi
}

# verify_checksum FILE: it is what the checksum file beside it says.
verify_checksum() {
    local said
    said=$(retention checksum "$1" 2>&1) || die "$(last_line "$said")"
}

# read_archive FILE: checks the signature and every byte of a file that require_backup has let pass, and sets MANIFEST.
read_archive() {
    local said
    use_keyring
    MANIFEST=''
    if is_bare_dump "$1"; then
        [[ -n ${OPTION[accept-unsigned]:-} ]] \
            || die "$1 没有签名，无法确认由谁制作；确知它从未离开您的手中时，加 --accept-unsigned。A bare dump is not signed, so nothing shows who made it. If you know that it has never left your hands, add --accept-unsigned"
        said=$(check_dump "$1" 2>&1) || refuse_backup "$1" "$said"
    else
        said=$({ open_archive "$1" | archive check "${TRUST[@]}"; } 2>&1) || {
            (($? != 3)) || die "$1 $(last_line "$said")" # it has no signature that counts
            refuse_backup "$1" "$said"
        }
        MANIFEST=$said
        require_time "$1"
    fi
}

# require_time FILE: what it holds was made after the time in its name, as backup.sh does it. Other names tell no time.
require_time() {
    local made
    made=$(fact created)
    [[ ! ${1##*/} =~ ^kadun-.*([0-9]{8}T[0-9]{6}Z)\.tar || -z $made || ! ${made//[-:]/} < ${BASH_REMATCH[1]} ]] \
        || die "$1 的备份时间为 $made，早于文件名：有人给较早的备份起了这个名字；确要使用它，请复制为别的文件名。It was made at $made: an earlier backup was given this name. To use it all the same, copy it to a name without a time"
}

# check_dump FILE: reads a dump whole, as a restore would. A list of its contents alone would pass a truncated one.
check_dump() { open_archive "$1" | in_database pg_restore --file=/dev/null; }

# fact NAME: of MANIFEST.
fact() { [[ -z $MANIFEST ]] || archive fact "$1" <<<"$MANIFEST"; }

# database_bytes FILE: how large the database in it was; a guess for a bare dump.
database_bytes() {
    local bytes
    bytes=$(fact bytes)
    printf '%s' "${bytes:-$((10 * $(stat --format=%s -- "$1")))}"
}

# same_contents DATABASE: it holds, row for row, what MANIFEST says. Prints the differences.
same_contents() {
    local contents
    contents=$(contents_of "$1") || { echo "无法读取数据库 cannot read database $1" && return 1; }
    archive compare <(printf '%s\n' "$contents") <<<"$MANIFEST" 2>&1
}

# require_same_contents DATABASE
require_same_contents() {
    local said
    if [[ -z $MANIFEST ]]; then
        warn "没有清单，未逐表核对内容。Without a manifest the rows are not compared"
        return
    fi
    said=$(same_contents "$1") || die "恢复后的内容与备份时不一致。What was restored differs from what was dumped: $said"
}

# warn_of_missing_files MANIFEST FOLDER ADVICE: the database lists licensed files whose bytes are not in the folder. With a bucket
# they are there, if anywhere: no backup and no bundle has them.
warn_of_missing_files() {
    local missing bucket
    [[ -n $1 ]] || return 0
    missing=$(archive missing "$2" <<<"$1")
    [[ -n $missing ]] || return 0
    bucket=$(setting KADUN_FILES_BUCKET)
    if [[ -n $bucket ]]; then
        warn "这些文件的内容应在存储桶 $bucket 中，不在备份与包中；请用 cardctl doctor 核对。The bytes of these files should be in the bucket $bucket, and are in no backup and no bundle; cardctl doctor checks them: $missing"
    else
        warn "$3: $missing"
    fi
}

# write_archive FOLDER [AGE-OPTION…]: prints the folder as an archive, encrypted if age's options are given.
write_archive() {
    local -a facts=("created=$(date -u +%Y-%m-%dT%H:%M:%SZ)" "project=$(setting COMPOSE_PROJECT_NAME kadun)"
        "version=$(app_version)" "commit=$(git_here rev-parse --short=12 HEAD 2>/dev/null || true)" "${FACTS[@]}")
    if (($# > 1)); then
        archive pack "$1" "${SIGNING[@]}" "${facts[@]}" | age "${@:2}"
    else
        archive pack "$1" "${SIGNING[@]}" "${facts[@]}"
    fi
}

# app_version: the version of the code in this checkout.
app_version() { sed -n 's/^__version__ = "\(.*\)"$/\1/p' "$ROOT/client/src/kadun/version.py"; }

# take_archive FILE [RECIPIENT]: an archive of the database, checked, signed, and encrypted if there is a recipient; whole or
# not at all. FILE has no .age at its end. Sets TAKEN, the file's name, and TAKEN_SHA256. After a failure the caller removes what is unfinished
# (remove_leftovers). The dump waits in data/: who can write to the backup folder could exchange it there before it is
# signed. Where the key cannot sign, the archive is made all the same, with a warning.
take_archive() {
    local staging said
    TAKEN=$1${2:+.age}
    find_signer || warn "备份未签名，恢复时需 --accept-unsigned。The backup is not signed, and restoring it will need --accept-unsigned: $(last_line "$FINGERPRINT")"
    staging=$(mktemp -d "$ROOT/data/.backup.XXXXXX") || die "无法写入 cannot write to $ROOT/data"
    make_dump "$staging"
    said=$(check_dump "$staging/database.dump" 2>&1) \
        || die "备份无法读回，未保留。The dump cannot be read back, and was not kept: $(error_line "$said")"
    said=$({ write_archive "$staging" ${2:+--recipient "$2"} | write_file "$TAKEN.partial" >"$staging/sha256"; } 2>&1) \
        || die "无法写完备份（磁盘满？KADUN_BACKUP_RECIPIENT 正确吗？）。The backup could not be written (disk full? is KADUN_BACKUP_RECIPIENT right?): $(error_line "$said")"
    TAKEN_SHA256=$(<"$staging/sha256")
    rm -rf -- "$staging"
    finish_archive "$TAKEN" "$TAKEN_SHA256"
}

# finish_archive FILE SHA256: FILE.partial gets a checksum and then its name: what bears that name is whole and on the disk.
finish_archive() {
    local said
    said=$({ printf '%s  %s\n' "$2" "${1##*/}" | write_file "$1.sha256.partial" >/dev/null \
        && sync -- "$1.partial" "$1.sha256.partial" \
        && mv -fT -- "$1.sha256.partial" "$1.sha256" && mv -fT -- "$1.partial" "$1" && sync -- "${1%/*}"; } 2>&1) \
        || die "无法写完备份 cannot finish $1: $(error_line "$said")"
}

# encrypt_archive FILE: where the vendor has a recipient of their own, a finished archive in clear is replaced by an encrypted
# one. Prints the name of what stays. Never fails: what cannot be encrypted stays in clear, and a warning says so.
encrypt_archive() {
    local recipient said sum
    recipient=$(setting KADUN_BACKUP_RECIPIENT)
    if [[ -z $recipient || $recipient == none || $1 == *.age ]]; then
        printf '%s' "$1"
    elif said=$({ sum=$(read_file "$1" | age --encrypt --recipient "$recipient" | write_file "$1.age.partial") \
        && finish_archive "$1.age" "$sum"; } 2>&1); then
        rm -f -- "$1" "$1.sha256"
        printf '%s.age' "$1"
    else
        rm -f -- "$1.age.partial" "$1.age.sha256.partial"
        warn "未能加密，明文保留在 $1。It could not be encrypted and is kept in clear: $(error_line "$said")"
        printf '%s' "$1"
    fi
}
