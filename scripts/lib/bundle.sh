# shellcheck shell=bash
# What travels from one server to another, and how it is packed. Sourced after dump.sh, never run.
#
# A bundle is a tar of: manifest, database.dump (pg_dump -Fc; from a trial database.sql), database.manifest (what
# the database held, as lib/dump.sh has it), env (the .env), secrets/, https_certificates/ and data/, all of these as on the server;
# usually inside an age file. The manifest holds name=value lines, an empty line, and sha256sum's lines for every
# other member.

BUNDLE_FORMAT=1
AGE_MAGIC=age-encryption.org/v1
# Made anew by each server's own init.sh: a password need not travel.
NOT_TRAVELLING_SECRETS=(db_password database_url owner_url backup_url)
# The database travels as a dump; backups, certbot's challenges and packages for this Python belong to the machine.
NOT_TRAVELLING_DATA=(postgres acme backups functions-packages pip-index-url certificates.log upgrade.log)

# app_version: the code's version, as far as it can be known.
app_version() {
    sed -n 's/^version = "\(.*\)"$/\1/p' "$ROOT/pyproject.toml" 2>/dev/null | head -n 1
}

# app_commit: the code's commit; nothing where this is no clone.
app_commit() {
    command -v git >/dev/null || return 0
    git -c safe.directory='*' -C "$ROOT" rev-parse --short=12 HEAD 2>/dev/null || true
}

# travels NAME NOT-TRAVELLING…: whether a file's name is in none of the following; hidden ones never travel.
travels() {
    local name=$1 other
    shift
    [[ $name != .* ]] || return 1
    for other in "$@"; do [[ $name != "$other" ]] || return 1; done
}

# stage_folder FOLDER NAME NOT-TRAVELLING…: what of ROOT/NAME travels, in FOLDER/NAME. Linked where it can be, since
# licensed files are large; the service replaces its files and never writes into them.
stage_folder() {
    local folder=$1 name=$2 entry
    shift 2
    mkdir -p "$folder/$name"
    for entry in "$ROOT/$name"/*; do
        [[ -e $entry || -L $entry ]] || continue
        travels "${entry##*/}" "$@" || continue
        if ! cp -a --link -- "$entry" "$folder/$name/" 2>/dev/null; then # another file system
            rm -rf -- "${folder:?}/$name/${entry##*/}"
            cp -a -- "$entry" "$folder/$name/" || return 1
        fi
    done
}

# stage_files FOLDER: everything but the database and the manifest.
stage_files() {
    stage_folder "$1" secrets "${NOT_TRAVELLING_SECRETS[@]}" || return 1
    stage_folder "$1" https_certificates README.md || return 1
    stage_folder "$1" data "${NOT_TRAVELLING_DATA[@]}" || return 1
    rm -f -- "$1/data/keys/${MOVED##*/}"* "$1"/data/files/.adding-*
    cp -- "$ROOT/.env" "$1/env" || return 1
    local odd
    odd=$(find "$1" ! -type f ! -type d -print -quit)
    [[ -z $odd ]] || die "无法搬迁（既非文件也非目录）。This is neither a file nor a folder and cannot travel: ${odd#"$1"/}"
}

# write_manifest FOLDER NAME=VALUE…: the manifest of what is staged there. Its number tells it from one of the same
# second and content.
write_manifest() {
    local folder=$1
    shift
    (
        cd "$folder"
        printf '%s\n' "format=$BUNDLE_FORMAT" "number=$(od -An -N8 -tx8 /dev/urandom | tr -d ' ')" "$@" ""
        find . -type f ! -path ./manifest ! -path ./.manifest -print0 | LC_ALL=C sort -z | xargs -0 sha256sum -b --
    ) >"$folder/.manifest" && mv -f "$folder/.manifest" "$folder/manifest"
}

# manifest_value FOLDER NAME
manifest_value() {
    sed '/^$/q' "$1/manifest" | sed -n "s/^$2=//p" | tail -n 1
}

# check_sums FOLDER: every member is what the manifest says, and there is no other.
check_sums() {
    (
        cd "$1" || exit 1
        sed '1,/^$/d' manifest >.sums
        [[ -s .sums ]] && sha256sum --check --strict --quiet .sums >/dev/null 2>&1 || exit 1
        [[ $(find . -type f ! -path ./manifest ! -path ./.sums | wc -l) == $(wc -l <.sums) ]] || exit 1
        rm -f .sums
    )
}

# check_bundle FOLDER: what was unpacked there is a bundle, whole, and this code can take it.
check_bundle() {
    local format schema ours odd
    [[ -s $1/manifest ]] || die "这不是卡盾的迁移包。This is no bundle of Kadun's: it has no manifest"
    format=$(manifest_value "$1" format)
    [[ $format == "$BUNDLE_FORMAT" ]] \
        || die "迁移包格式为 ${format:-?}，本版本只认 $BUNDLE_FORMAT：请更新代码。The bundle's format is ${format:-?}, this version reads $BUNDLE_FORMAT: update the code here"
    odd=$(find "$1" ! -type f ! -type d -print -quit)
    if [[ -n $odd ]] || ! check_sums "$1"; then
        die "迁移包已损坏或被改动（校验和不符）。The bundle is damaged or was altered: a checksum does not match"
    fi
    [[ -s $1/secrets/kernal_data_key && -d $1/data/keys ]] \
        && [[ -s $1/database.dump || -s $1/database.sql ]] \
        || die "迁移包不完整。The bundle lacks the database, KERNAL_DATA_KEY or the signing keys"
    schema=$(manifest_value "$1" schema)
    ours=$(own_schema)
    [[ ! $schema > $ours ]] \
        || die "迁移包来自更新的版本（$schema，本机为 $ours）：请先更新代码。The bundle is from a newer version (schema $schema, here $ours): update the code here first"
}

# pack FOLDER: the bundle, on standard output; the manifest comes first.
pack() {
    (cd "$1" && tar --create --file - --exclude ./manifest --transform 's,^\./,,' -- manifest ./*)
}

# unpack FOLDER [IDENTITY]: the bundle on standard input, decrypted where it is encrypted, into the folder.
unpack() {
    local folder=$1 identity=${2:-} head=$1/.head
    local -a decrypt=(cat)
    head -c ${#AGE_MAGIC} >"$head"
    if [[ $(tr -d '\0' <"$head") == "$AGE_MAGIC" ]]; then
        need age age
        decrypt=(age --decrypt)
        if [[ -n $identity ]]; then decrypt+=(--identity "$identity"); fi
    fi
    # Not as the owners that they had: place_files knows whom they belong to here.
    if ! cat "$head" - | "${decrypt[@]}" | tar --extract --directory "$folder" --file - --no-same-owner; then
        [[ ${decrypt[0]} == cat ]] \
            || die "无法解密或不完整：请检查口令或 --identity。Cannot decrypt the bundle, or it is cut off: is it the right passphrase or --identity?"
        die "迁移包已损坏或不完整，或磁盘已满。The bundle is damaged or cut off, or the disk is full"
    fi
    rm -f "$head"
}
