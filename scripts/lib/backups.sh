# shellcheck shell=bash
# The backup folder, and how runs are reported. Sourced, never run.

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
    local folder
    folder=$(folder_setting KADUN_BACKUP_DIR ./data/backups)
    BACKUP_FOLDER=$folder
    if [[ $folder == "$ROOT/data/backups" && ! -d $folder ]]; then mkdir -p -- "$folder" 2>/dev/null || true; fi
    [[ -d $folder ]] || die "备份目录不存在（磁盘未挂载？）。The backup folder does not exist (a disk that is not mounted?): $folder"
    [[ -w $folder && -x $folder ]] || die "无权写入备份目录。The backup folder cannot be written to: $folder"
}

# remove_leftovers: removes what an interrupted run left. Under the lock only.
remove_leftovers() {
    rm -rf -- "$ROOT"/data/.backup.*
    [[ -z $BACKUP_FOLDER ]] || retention leftovers "$BACKUP_FOLDER"
}

# claim_folder: two stacks in one folder would remove each other's backups. Removes what an interrupted run left. The mark is
# no link that somebody has put there: its target, a secret perhaps, would be told in the log beside it.
claim_folder() {
    local project mark=$BACKUP_FOLDER/.project found
    project=$(setting COMPOSE_PROJECT_NAME kadun)
    if [[ -L $mark || ! -s $mark ]]; then
        { rm -f -- "$mark" && printf '%s\n' "$project" | write_new "$mark"; } 2>/dev/null || true
    else
        found=$(dd if="$mark" iflag=nofollow,nonblock bs=256 count=1 status=none 2>/dev/null | tr -cd 'a-z0-9_-') || found='?'
        [[ $found == "$project" ]] \
            || die "此目录已存放另一套服务（$found）的备份：请在 .env 中另设 KADUN_BACKUP_DIR。Stack $found keeps its backups here: set another KADUN_BACKUP_DIR (or remove $mark)"
    fi
    remove_leftovers
}

# read_number VARIABLE NAME DEFAULT LEAST MOST: a whole number from .env.
read_number() {
    local value
    value=$(setting "$2" "$3")
    if [[ ! $value =~ ^[0-9]{1,6}$ ]] || ((10#$value < $4 || 10#$value > $5)); then
        die ".env: $2 须为 $4–$5 的整数 must be a number from $4 to $5: $value"
    fi
    printf -v "$1" '%d' "$((10#$value))"
}

# note FILE WORD…: replaces a file of the backup folder by one line with the time: last-good, last-verified and last-away,
# which doctor reads. No link that somebody has put there is followed.
note() {
    local file=$BACKUP_FOLDER/.$1 final=$BACKUP_FOLDER/$1
    shift
    if ! { rm -f -- "$file" && printf '%s %s\n' "$(date --utc +%Y-%m-%dT%H:%M:%SZ)" "$*" | write_new "$file" \
        && mv -fT -- "$file" "$final"; } 2>/dev/null; then
        die "无法写入 cannot write $final"
    fi
}

# megabytes BYTES: rounded up, for people.
megabytes() { printf '%d MB' $((($1 + 1048575) / 1048576)); }

# require_number WORD: of what the database answers: in arithmetic, bash would run a command that stands in it.
require_number() {
    [[ $1 =~ ^[0-9]{1,18}$ ]] || die "数据库的回答不是数字 the database does not answer with a number: ${1@Q}"
}

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

# webhook_url: from .env or, since anybody may read .env, from secrets/backup_webhook.
webhook_url() {
    local url
    url=$(setting KADUN_BACKUP_WEBHOOK)
    if [[ -z $url && -r $ROOT/secrets/backup_webhook ]]; then url=$(<"$ROOT/secrets/backup_webhook"); fi
    printf '%s' "$url"
}

# log_run WORD…: one line in backup.log, with the time. No link is followed, not even one that is put there this moment.
log_run() {
    local line=$*
    line=${line//[$'\n\r\t']/ }
    printf '%s %s\n' "$(date --utc +%Y-%m-%dT%H:%M:%SZ)" "$line" \
        | dd of="$BACKUP_FOLDER/backup.log" oflag=append,nofollow,nonblock conv=notrunc status=none 2>/dev/null \
        || warn "无法写入日志 cannot write $BACKUP_FOLDER/backup.log"
}

# notify EVENT STATUS MESSAGE [FILE]: tells the webhook, if there is one. Never fails.
notify() {
    local url said
    url=$(webhook_url)
    [[ -n $url ]] || return 0
    said=$(library notify.py "$1" "$2" "$3" "$(setting COMPOSE_PROJECT_NAME kadun)" "${4:-}" <<<"$url" 2>&1) \
        && return
    warn "通知未送达（不影响备份）。The notice could not be sent (the backup is not affected): $(last_line "$said")"
    [[ -z $BACKUP_FOLDER ]] || log_run notice not sent: "$(last_line "$said")"
}

# report_failure EVENT STATUS: the reason of a failure goes to the log, where there is one yet, and to the webhook.
report_failure() {
    [[ -n $REASON ]] || REASON="被中断或出错 interrupted or failed (status $2)"
    if [[ -n $BACKUP_FOLDER ]]; then log_run "$1" failed: "$REASON"; fi
    notify "$1" failed "$REASON"
}
