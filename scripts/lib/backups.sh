# shellcheck shell=bash
# The backup folder, which is root's alone, and how runs are reported. Sourced, never run.

source "$ROOT/scripts/lib/stack.sh"

BACKUP_FOLDER='' # set by claim_folder

# folder_setting NAME DEFAULT: a folder from .env, as an absolute path.
folder_setting() {
    local folder
    folder=$(setting "$1" "$2")
    [[ $folder == /* ]] || folder=$ROOT/${folder#./}
    printf '%s' "${folder%/}"
}

# claim_folder: sets BACKUP_FOLDER, under the lock, and removes what an interrupted run left there. Makes the default folder only: a
# mistyped one, or the mount point of a disk that is not mounted, would fill up in its place. Two stacks in one folder would
# remove each other's backups.
claim_folder() {
    local folder project found
    folder=$(folder_setting KADUN_BACKUP_DIR ./data/backups) project=$(setting COMPOSE_PROJECT_NAME kadun)
    if [[ $folder == "$ROOT/data/backups" ]]; then mkdir -p -- "$folder" && chmod 700 -- "$folder"; fi
    { [[ -s $folder/.project ]] || printf '%s\n' "$project" >"$folder/.project"; } 2>/dev/null \
        || die "备份目录不存在或不可写（磁盘未挂载？）。The backup folder does not exist, or cannot be written to (a disk that is not mounted?): $folder"
    found=$(<"$folder/.project")
    [[ $found == "$project" ]] \
        || die "此目录已存放另一套服务（$found）的备份：请在 .env 中另设 KADUN_BACKUP_DIR。Stack $found keeps its backups here: set another KADUN_BACKUP_DIR (or remove $folder/.project)"
    BACKUP_FOLDER=$folder
    remove_leftovers
}

# remove_leftovers: removes what this run, or an interrupted one, left unfinished. Under the lock only.
remove_leftovers() {
    rm -rf -- "$ROOT"/data/.backup.*
    [[ -z $BACKUP_FOLDER ]] || rm -f -- "$BACKUP_FOLDER"/kadun-*.partial
}

# archives PREFIX: the names of the backups in the folder that begin so, oldest first.
archives() {
    find "$BACKUP_FOLDER" -maxdepth 1 -regextype egrep -regex ".*/$1[0-9]{8}T[0-9]{6}Z\.tar(\.age)?" -printf '%f\n' | sort
}

# remove_archives NEW: removes those whose names come as lines, with version 1.0's checksums; never NEW, whatever the clock said.
remove_archives() {
    local name
    while read -r name; do [[ $name == "${1##*/}" ]] || rm -f -- "$BACKUP_FOLDER/$name" "$BACKUP_FOLDER/$name.sha256"; done
}

# keep_newest PREFIX NEW: of the backups that begin so, NEW and the newest three stay.
keep_newest() { archives "$1" | head -n -3 | remove_archives "$2"; }

# note FILE WORD: a file of the backup folder with one line, the time and the word: last-good, last-verified and last-away, which
# doctor reads.
note() { printf '%s %s\n' "$(date --utc +%Y-%m-%dT%H:%M:%SZ)" "$2" >"$BACKUP_FOLDER/$1"; }

# readable BYTES: for people.
readable() { numfmt --to=si --suffix=B "$1"; }

# require_number WORD: in arithmetic, bash would run a command that stands in it.
require_number() { [[ $1 =~ ^[0-9]{1,18}$ ]] || die "不是数字 not a number: ${1@Q}"; }

# require_space FOLDER BYTES
require_space() {
    local free
    require_number "$2"
    free=$(df --block-size=1 --output=avail -- "$1" | tail -n 1)
    ((free >= $2)) || die "磁盘空间不足：需要约 $(readable "$2")，$1 仅剩 $(readable "$free")。Not enough space: about $(readable "$2") are needed, $1 has $(readable "$free")"
}

# require_database_space BYTES: room for one more copy of a database, its log included, on the cluster's disk.
require_database_space() {
    [[ ! -d $ROOT/data/postgres || $(setting COMPOSE_FILE) == *external* ]] \
        || require_space "$ROOT/data/postgres" $((2 * $1 + 64 * 1048576))
}

# notify EVENT STATUS MESSAGE [FILE]: tells the webhook, if there is one; its address is in .env or, where it is a secret, in
# secrets/backup_webhook. Never fails: in a trap, `return` alone would give the status from before it.
notify() {
    local url said
    url=$(setting KADUN_BACKUP_WEBHOOK)
    if [[ -z $url && -r $ROOT/secrets/backup_webhook ]]; then url=$(<"$ROOT/secrets/backup_webhook"); fi
    [[ -n $url ]] || return 0
    said=$(library notify.py "$1" "$2" "$3" "$(setting COMPOSE_PROJECT_NAME kadun)" "${4:-}" <<<"$url" 2>&1) && return 0
    warn "通知未送达（不影响备份）。The notice could not be sent (the backup is not affected): $(last_line "$said")"
}

# failure_reason STATUS: the last message of `die`, if there was one.
failure_reason() { printf '%s' "${REASON:-被中断或出错 interrupted or failed (status $1)}"; }

# report EVENT STATUS MESSAGE [FILE]: a line in backup.log, where there is one yet, and a notice.
report() {
    local line="$1 $2: $3"
    [[ -z $BACKUP_FOLDER ]] \
        || printf '%s %s\n' "$(date --utc +%Y-%m-%dT%H:%M:%SZ)" "${line//[$'\n\r\t']/ }" >>"$BACKUP_FOLDER/backup.log" || true
    notify "$@"
}
