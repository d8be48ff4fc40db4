# shellcheck shell=bash
# Where backups lie and what becomes of them. Sourced after common.sh, with all that it needs; never run. Needs ROOT.

# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"
# shellcheck source=scripts/lib/dump.sh
source "$ROOT/scripts/lib/dump.sh"
# shellcheck source=scripts/lib/retention.sh
source "$ROOT/scripts/lib/retention.sh"
# shellcheck source=scripts/lib/notice.sh
source "$ROOT/scripts/lib/notice.sh"

BACKUP_FOLDER='' # set by find_folder

# find_folder: sets BACKUP_FOLDER, as an absolute path; makes it where it is the default one, and no other: neither what
# a slip of the pen names, nor the mount point of a disk that is not mounted, which would be filled in its place.
find_folder() {
    local folder
    folder=$(setting KADUN_BACKUP_DIR ./data/backups)
    [[ $folder == /* ]] || folder=$ROOT/${folder#./}
    folder=${folder%/}
    BACKUP_FOLDER=$folder
    if [[ $folder == "$ROOT/data/backups" && ! -d $folder ]]; then mkdir -p -- "$folder" 2>/dev/null || true; fi
    [[ -d $folder ]] || die "备份目录不存在（磁盘未挂载？）。The backup folder does not exist (a disk that is not mounted?): $folder"
    [[ -w $folder && -x $folder ]] || die "无权写入备份目录。The backup folder cannot be written to: $folder"
}

# claim_folder: two stacks in one folder would throw each other's backups away.
claim_folder() {
    local project mark=$BACKUP_FOLDER/.project
    project=$(setting COMPOSE_PROJECT_NAME kadun)
    if [[ ! -s $mark ]]; then
        { printf '%s\n' "$project" >"$mark"; } 2>/dev/null || true
    elif [[ $(<"$mark") != "$project" ]]; then
        die "此目录已存放另一套服务（$(<"$mark")）的备份：请在 .env 中另设 KADUN_BACKUP_DIR。Stack $(<"$mark") keeps its backups here: set another KADUN_BACKUP_DIR (or remove $mark)"
    fi
}

# backups: the names of all finished backups here, oldest first. Finished is what has its checksum beside it.
backups() {
    local file name
    for file in "$BACKUP_FOLDER"/kadun-*; do
        name=${file##*/}
        if [[ $name =~ $BACKUP_NAME && -s $file && -s $file.sha256 ]]; then printf '%s\n' "$name"; fi
    done | LC_ALL=C sort
}

# newest_backup: its name, or nothing.
newest_backup() { backups | tail -n 1; }

# read_number VARIABLE NAME DEFAULT LEAST MOST: a whole number, from .env.
read_number() {
    local value
    value=$(setting "$2" "$3")
    if [[ ! $value =~ ^[0-9]{1,6}$ ]] || ((10#$value < $4 || 10#$value > $5)); then
        die ".env: $2 须为 $4–$5 的整数 is a number from $4 to $5: $value"
    fi
    printf -v "$1" '%d' "$((10#$value))"
}

# note FILE WORD…: a line in a file of the backup folder's, with the time, in the place of the one before: last-good,
# last-verified and last-away, which doctor reads.
note() {
    local file=$BACKUP_FOLDER/.$1 final=$BACKUP_FOLDER/$1
    shift
    if ! { printf '%s %s\n' "$(date --utc +%Y-%m-%dT%H:%M:%SZ)" "$*" >"$file" && mv -f -- "$file" "$final"; } 2>/dev/null; then
        die "无法写入 cannot write $final"
    fi
}

# free_bytes FOLDER
free_bytes() {
    df --block-size=1 --output=avail -- "$1" | tail -n 1 | tr -d ' '
}

# megabytes BYTES: rounded up, for people.
megabytes() { printf '%d MB' $((($1 + 1048575) / 1048576)); }

# require_space FOLDER BYTES
require_space() {
    local free
    free=$(free_bytes "$1") || die "无法查询剩余空间 cannot ask for the space that is free: $1"
    ((free >= $2)) || die "磁盘空间不足：需要约 $(megabytes "$2")，$1 仅剩 $(megabytes "$free")。Not enough space: about $(megabytes "$2") are needed, $1 has $(megabytes "$free")"
}

# require_database_space BYTES: for one more copy of a database on the disk of the cluster, its log included.
require_database_space() {
    if [[ -d $ROOT/data/postgres && $(setting COMPOSE_FILE) != *external* ]]; then
        require_space "$ROOT/data/postgres" $((2 * $1 + 64 * 1048576))
    fi
}

# database_bytes FILE: how large dump FILE's database was; a guess where there is no manifest to read.
database_bytes() {
    local bytes manifest
    manifest=$(manifest_of "$1")
    bytes=$(open_dump "$manifest" 2>/dev/null | sed -n 's/^bytes //p' || true)
    [[ $bytes =~ ^[0-9]+$ ]] || bytes=$((10 * $(stat --format=%s -- "$1")))
    printf '%s' "$bytes"
}

# finish_files FOLDER NAME PLAIN_NAME: turns NAME.partial, its manifest and a checksum of both into finished files. The
# dump itself gets its name last: what bears that name is whole, and so is what stands beside it.
finish_files() {
    local folder=$1 name=$2 manifest
    manifest=$(manifest_of "$name")
    {
        printf '%s  %s\n' "$(sha256_of "$folder/$name.partial")" "$name" \
            "$(sha256_of "$folder/$manifest.partial")" "$manifest" >"$folder/$name.sha256.partial" \
            && sync -- "$folder/$name.partial" "$folder/$manifest.partial" "$folder/$name.sha256.partial" \
            && mv -f -- "$folder/$manifest.partial" "$folder/$manifest" \
            && mv -f -- "$folder/$name.sha256.partial" "$folder/$name.sha256" \
            && mv -f -- "$folder/$name.partial" "$folder/$name" \
            && sync -- "$folder"
    } 2>/dev/null || die "无法写完备份 cannot finish $folder/$name"
}

# encrypt FILE RECIPIENT TARGET
encrypt() {
    local said
    said=$(age --encrypt --recipient "$2" --output "$3" -- "$1" 2>&1) && [[ -s $3 ]] \
        || die "加密失败（KADUN_BACKUP_RECIPIENT 正确吗？磁盘满？）。age failed (is KADUN_BACKUP_RECIPIENT right, the disk full?): $(error_line "$said")"
    rm -f -- "$1"
}

# remove_backup NAME: with what belongs to it; the dump first, so that no checksum is missing beside one.
remove_backup() {
    local manifest
    manifest=$(manifest_of "$1")
    rm -f -- "$BACKUP_FOLDER/$1" "$BACKUP_FOLDER/$1.sha256" "$BACKUP_FOLDER/$manifest"
}

# keep_newest PREFIX NUMBER: of the dumps that begin so, encrypted or not.
keep_newest() {
    local -a dumps
    mapfile -t dumps < <(cd "$BACKUP_FOLDER" && printf '%s\n' "$1"*.dump "$1"*.dump.age \
        | grep -E "^$1[0-9]{8}T[0-9]{6}Z\.dump(\.age)?\$" | LC_ALL=C sort)
    while ((${#dumps[@]} > $2)); do
        remove_backup "${dumps[0]}"
        dumps=("${dumps[@]:1}")
    done
}

# remove_leftovers: what a killed run left here. Under the lock only.
remove_leftovers() {
    local file
    for file in "$BACKUP_FOLDER"/kadun-*.partial; do
        if [[ ${file##*/} =~ ^kadun-(before-(upgrade|restore)-)?[0-9]{8}T[0-9]{6}Z\.(dump|manifest)(\.age)?(\.sha256)?\.partial$ ]]; then
            rm -f -- "$file"
        fi
    done
}
