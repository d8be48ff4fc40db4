# shellcheck shell=bash
# Dumps of the database: made, read whole, restored. Sourced after common.sh and stack.sh, never run.
# A dump is pg_dump's custom format, or that encrypted by age when its name ends in .age; DUMP_IDENTITY is then
# the identity file that opens it. Beside it may stand its SHA-256, and its manifest: what the database held.
# Functions that fail end the script with one line, and leave nothing behind.

DUMP_IDENTITY=${DUMP_IDENTITY:-}

# last_line TEXT: of an error, the line that says it.
last_line() {
    local text=${1%$'\n'}
    printf '%s' "${text##*$'\n'}"
}

# error_line TEXT: of all that several programs said, what explains the rest.
error_line() {
    grep --ignore-case --max-count=1 'no space left' <<<"$1" \
        || grep --ignore-case --max-count=1 'error' <<<"$1" || last_line "$1"
}

# make_dump FILE [MANIFEST]: of database kadun, now. What arrives is compared with what pg_dump wrote.
make_dump() {
    local file=$1 manifest=${2:-} said sum
    if ! said=$({ in_database bash -c "$(<"$ROOT/scripts/lib/dump-snapshot.sh")" snapshot \
        "$(<"$ROOT/scripts/lib/contents.sql")" </dev/null >"$file"; } 2>&1); then
        rm -f -- "$file"
        die "备份失败，未留下任何文件。The dump failed and nothing was kept: $(error_line "$(grep -v '^kadun: ' <<<"$said")")"
    fi
    sum=$(sed -n 's/^kadun: sha256 //p' <<<"$said")
    if [[ -z $sum || $(sha256_of "$file") != "$sum" ]]; then
        rm -f -- "$file"
        die "收到的备份与数据库写出的不一致，未保留（磁盘满？）。What arrived is not what pg_dump wrote, and was not kept: is the disk full, or faulty?"
    fi
    [[ -n $manifest ]] || return 0
    sed -n '/^kadun: sha256/d; s/^kadun: //p' <<<"$said" >"$manifest" \
        || die "无法写入 cannot write $manifest"
}

sha256_of() {
    local sum
    sum=$(sha256sum <"$1") && printf '%s' "${sum%% *}"
}

# manifest_of FILE: where the manifest of a dump stands.
manifest_of() {
    local plain=${1%.age}
    printf '%s' "${plain%.dump}.manifest${1#"$plain"}"
}

# require_identity FILE: where it is encrypted, there is what opens it.
require_identity() {
    [[ $1 == *.age ]] || return 0
    need age age
    [[ -n $DUMP_IDENTITY ]] || die "$1 已加密，请用 --identity 指定私钥文件。It is encrypted: name the identity with --identity FILE"
    [[ -r $DUMP_IDENTITY ]] || die "无法读取私钥文件。The identity cannot be read: $DUMP_IDENTITY"
}

# open_dump FILE: what is in it, on stdout.
open_dump() {
    if [[ $1 == *.age ]]; then age --decrypt --identity "$DUMP_IDENTITY" -- "$1"; else cat -- "$1"; fi
}

# check_sum FILE: it is, byte for byte, what FILE.sha256 says, and so is its manifest.
check_sum() {
    local sum _ file=$1 compared=0
    [[ -r $1 ]] || die "无法读取 cannot read $1"
    [[ -r $1.sha256 ]] || die "缺少校验文件 $1.sha256。The checksum $1.sha256 is missing: copy it along with the dump"
    while read -r sum _ || [[ -n $sum ]]; do # the dump's line first, then the manifest's; the last may lack its end
        sum=${sum%$'\r'}
        [[ -n $sum ]] || continue
        if [[ -e $file ]]; then
            [[ $(sha256_of "$file") == "${sum,,}" ]] \
                || die "$file 已损坏（SHA-256 不符），请换一份备份。It is damaged (its SHA-256 differs): take another backup"
            compared=$((compared + 1))
        fi
        file=$(manifest_of "$1")
    done <"$1.sha256"
    ((compared)) || die "$1.sha256 是空的 is empty"
}

# check_dump FILE: reads it whole, as a restore would. A list of its contents alone would pass a truncated one.
check_dump() {
    local said
    [[ -s $1 ]] || die "$1 不存在或为空 is missing or empty"
    said=$({ open_dump "$1" | in_database pg_restore --file=/dev/null; } 2>&1) \
        || die "$1 不是完整的备份。It is no whole dump: $(error_line "$said")"
}

# seal_dump FILE: where backups are encrypted (KADUN_BACKUP_RECIPIENT), a finished dump is from now on too, with its
# manifest. Prints the name of what stays; never fails: a dump that cannot be encrypted stays as it is, and that is said.
# Needs lib/backup.sh.
seal_dump() {
    local file=$1 sealed=$1.age recipient said
    recipient=$(setting KADUN_BACKUP_RECIPIENT)
    if [[ -n $recipient && $file != *.age ]]; then
        if said=$({
            age --encrypt --recipient "$recipient" --output "$sealed.partial" -- "$file" \
                && age --encrypt --recipient "$recipient" --output "$(manifest_of "$sealed").partial" -- "$(manifest_of "$file")" \
                && finish_files "$(dirname -- "$sealed")" "$(basename -- "$sealed")"
        } 2>&1); then
            rm -f -- "$file" "$file.sha256" "$(manifest_of "$file")"
            file=$sealed
        else
            rm -f -- "$sealed.partial" "$sealed.sha256.partial" "$(manifest_of "$sealed").partial"
            warn "未能加密，明文保留在 $file。It could not be encrypted and is kept in clear: $(error_line "$said")"
        fi
    fi
    printf '%s' "$file"
}

# owner_sql DATABASE SQL: as its owner; the answer's columns are parted by |.
owner_sql() {
    in_database as-role owner --database "$1" psql --no-psqlrc --quiet --tuples-only --no-align \
        --set=ON_ERROR_STOP=1 --command "$2" </dev/null
}

# drop_database DATABASE: where it exists, whoever is connected.
drop_database() {
    owner_sql postgres "DROP DATABASE IF EXISTS \"$1\" WITH (FORCE)"
}

# restore_dump FILE DATABASE: into a new database; at the first error there is none.
restore_dump() {
    local file=$1 database=$2 said
    said=$(owner_sql postgres "CREATE DATABASE \"$database\" TEMPLATE template0" 2>&1) \
        || die "无法创建数据库 cannot create database $database: $(error_line "$said")"
    if ! said=$({ open_dump "$file" | in_database as-role owner --database "$database" \
        pg_restore --exit-on-error --single-transaction --no-owner --no-privileges; } 2>&1); then
        drop_database "$database" >/dev/null 2>&1 || true
        die "$file 恢复失败，未改动任何数据。Cannot be restored; nothing was changed: $(error_line "$said")"
    fi
}

# schema_of DATABASE: its last migration; nothing in an empty database. Fails where it cannot be asked.
schema_of() {
    local found
    found=$(owner_sql "$1" "SELECT to_regclass('public.schema_migration') IS NOT NULL") || return 1
    [[ $found == t ]] || return 0
    owner_sql "$1" "SELECT max(name) FROM schema_migration"
}

# own_schema: the last migration that this checkout knows.
own_schema() {
    local -a known=("$ROOT"/app/storage/migrations/[0-9]*.py)
    basename -- "${known[-1]}" .py
}

# contents_of DATABASE: its schema and tables as a manifest lists them.
contents_of() {
    in_database as-role owner --database "$1" psql --no-psqlrc --quiet --tuples-only --no-align \
        --set=ON_ERROR_STOP=1 <"$ROOT/scripts/lib/contents.sql"
}

# compare_contents FILE DATABASE: what was restored is what the manifest of dump FILE says, row for row.
compare_contents() {
    local manifest expected actual differing
    manifest=$(manifest_of "$1")
    if [[ ! -e $manifest ]]; then # a dump from elsewhere
        warn "缺少 $manifest，未逐表核对内容。Without $manifest the rows are not compared"
        return
    fi
    expected=$(open_dump "$manifest" | grep -E '^(schema|table) ') \
        || die "无法读取清单 cannot read the manifest $manifest"
    actual=$(contents_of "$2") || die "无法读取恢复后的数据库 cannot read database $2"
    differing=$(comm -3 <(sort <<<"$expected") <(sort <<<"$actual") | tr -s '\t\n' ' ')
    differing=${differing# } # a tab is before what the manifest has not
    [[ -z $differing ]] || die "恢复后的内容与备份时不一致。What was restored differs from what was dumped: ${differing% }"
}

# missing_files FILE FOLDER: the names of the files that the dump lists and whose bytes the folder has not, a line each.
missing_files() {
    local name sum
    open_dump "$1" | in_database pg_restore --data-only --table=file --file=- \
        | awk -F '\t' '/^COPY / { rows = 1; next } /^\\\.$/ { rows = 0 } rows { print $3 "\t" $1 }' \
        | while IFS=$'\t' read -r sum name; do [[ -e $2/$sum ]] || printf '%s\n' "$name"; done
}

# contents_summary FILE: for people, the rows of the two tables, from the manifest.
contents_summary() {
    open_dump "$(manifest_of "$1")" 2>/dev/null | awk '$1 == "table" && ($2 == "card" || $2 == "client") { printf "%s%s %s", s, $2, $3; s = ", " }' || true
}

# require_known_schema SCHEMA OWN: a dump of this checkout's schema or an older one.
require_known_schema() {
    [[ -n $1 ]] || die "这不是卡盾的备份。No backup of Kadun's: it holds no schema"
    [[ ! $1 > $2 ]] || die "备份的结构 $1 比本程序（$2）新：请先升级程序。The backup's schema $1 is newer than this program's ($2): upgrade the program first"
}

# list_databases PREFIX: the names that begin so, on one line.
list_databases() {
    owner_sql postgres "SELECT string_agg(datname, ' ' ORDER BY datname) FROM pg_database WHERE starts_with(datname, '$1')"
}

# drop_databases PREFIX: those that begin so; what a killed run left, or what is not wanted any more.
drop_databases() {
    local name names
    names=$(list_databases "$1") || die "数据库没有响应。The database does not answer"
    for name in $names; do
        drop_database "$name" || die "无法删除 cannot drop database $name"
    done
}

# absolute FILE: whatever the folder that the script goes to.
absolute() {
    if [[ $1 == /* ]]; then printf '%s' "$1"; else printf '%s/%s' "$PWD" "$1"; fi
}
