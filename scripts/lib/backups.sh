# shellcheck shell=bash
# The backup folder, which is root's alone, and how runs are reported. Sourced, never run.

# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"

BACKUP_FOLDER='' # set by find_folder

retention() { library retention.py "$@"; }

# folder_setting NAME DEFAULT: a folder from .env, as an absolute path.
folder_setting() {
    local folder
    folder=$(setting "$1" "$2")
    [[ $folder == /* ]] || folder=$ROOT/${folder#./}
    printf '%s' "${folder%/}"
}

# find_folder: sets BACKUP_FOLDER. Makes the default folder only: a mistyped one, or the mount point of a disk that is not
# mounted, would fill up in its place.
find_folder() {
    BACKUP_FOLDER=$(folder_setting KADUN_BACKUP_DIR ./data/backups)
    if [[ $BACKUP_FOLDER == "$ROOT/data/backups" ]]; then
        { mkdir -p -- "$BACKUP_FOLDER" && chmod 700 -- "$BACKUP_FOLDER"; } 2>/dev/null || true
    fi
    [[ -d $BACKUP_FOLDER ]] || die "备份目录不存在（磁盘未挂载？）。The backup folder does not exist (a disk that is not mounted?): $BACKUP_FOLDER"
    [[ -w $BACKUP_FOLDER && -x $BACKUP_FOLDER ]] || die "无权写入备份目录。The backup folder cannot be written to: $BACKUP_FOLDER"
}

# remove_leftovers: removes what an interrupted run left. Under the lock only.
remove_leftovers() {
    rm -rf -- "$ROOT"/data/.backup.*
    [[ -z $BACKUP_FOLDER ]] || rm -f -- "$BACKUP_FOLDER"/kadun-*.partial
}

# claim_folder: two stacks in one folder would remove each other's backups. Removes what an interrupted run left.
claim_folder() {
    local project found mark=$BACKUP_FOLDER/.project
    project=$(setting COMPOSE_PROJECT_NAME kadun)
    if [[ -s $mark ]]; then found=$(<"$mark"); else found=$project && printf '%s\n' "$project" >"$mark"; fi
    [[ $found == "$project" ]] \
        || die "此目录已存放另一套服务（$found）的备份：请在 .env 中另设 KADUN_BACKUP_DIR。Stack $found keeps its backups here: set another KADUN_BACKUP_DIR (or remove $mark)"
    remove_leftovers
}

# number_setting NAME DEFAULT LEAST MOST: a whole number from .env.
number_setting() {
    local value
    value=$(setting "$1" "$2")
    if [[ ! $value =~ ^[0-9]{1,6}$ ]] || ((10#$value < $3 || 10#$value > $4)); then
        die ".env: $1 须为 $3–$4 的整数 must be a number from $3 to $4: $value"
    fi
    printf '%d' "$((10#$value))"
}

# note FILE WORD: replaces a file of the backup folder by one line with the time: last-good, last-verified and last-away,
# which doctor reads.
note() {
    { printf '%s %s\n' "$(date --utc +%Y-%m-%dT%H:%M:%SZ)" "$2" >"$BACKUP_FOLDER/.$1" \
        && mv -fT -- "$BACKUP_FOLDER/.$1" "$BACKUP_FOLDER/$1"; } 2>/dev/null || die "无法写入 cannot write $BACKUP_FOLDER/$1"
}

# megabytes BYTES: rounded up, for people.
megabytes() { printf '%d MB' $((($1 + 1048575) / 1048576)); }

# require_number WORD: in arithmetic, bash would run a command that stands in it.
require_number() { [[ $1 =~ ^[0-9]{1,18}$ ]] || die "不是数字 not a number: ${1@Q}"; }

# require_space FOLDER BYTES
require_space() {
    local free
    require_number "$2"
    free=$(df --block-size=1 --output=avail -- "$1" | tail -n 1 | tr -d ' ') || die "无法查询剩余空间 cannot read the free space of $1"
    ((free >= $2)) || die "磁盘空间不足：需要约 $(megabytes "$2")，$1 仅剩 $(megabytes "$free")。Not enough space: about $(megabytes "$2") are needed, $1 has $(megabytes "$free")"
}

# require_database_space BYTES: room for one more copy of a database, its log included, on the cluster's disk.
require_database_space() {
    if [[ -d $ROOT/data/postgres && $(setting COMPOSE_FILE) != *external* ]]; then
        require_space "$ROOT/data/postgres" $((2 * $1 + 64 * 1048576))
    fi
}

# log_run WORD…: one line in backup.log, with the time.
log_run() {
    local line=$*
    printf '%s %s\n' "$(date --utc +%Y-%m-%dT%H:%M:%SZ)" "${line//[$'\n\r\t']/ }" >>"$BACKUP_FOLDER/backup.log" \
        || warn "无法写入日志 cannot write $BACKUP_FOLDER/backup.log"
}

# notify EVENT STATUS MESSAGE [FILE]: tells the webhook, if there is one; its address is in .env or, where it is a secret, in
# secrets/backup_webhook. Never fails.
notify() {
    local url said
    url=$(setting KADUN_BACKUP_WEBHOOK)
    if [[ -z $url && -r $ROOT/secrets/backup_webhook ]]; then url=$(<"$ROOT/secrets/backup_webhook"); fi
    [[ -n $url ]] || return 0
    said=$(library notify.py "$1" "$2" "$3" "$(setting COMPOSE_PROJECT_NAME kadun)" "${4:-}" <<<"$url" 2>&1) && return
    warn "通知未送达（不影响备份）。The notice could not be sent (the backup is not affected): $(last_line "$said")"
    [[ -z $BACKUP_FOLDER ]] || log_run notice not sent: "$(last_line "$said")"
}

# failure_reason STATUS: the last message of `die`, if there was one.
failure_reason() { printf '%s' "${REASON:-被中断或出错 interrupted or failed (status $1)}"; }

# report_failure EVENT STATUS: the reason of a failure goes to the log, where there is one yet, and to the webhook.
report_failure() {
    local reason
    reason=$(failure_reason "$2")
    if [[ -w $BACKUP_FOLDER ]]; then log_run "$1" failed: "$reason"; fi
    notify "$1" failed "$reason"
}
