# shellcheck shell=bash
# Tells how a run went: a line in backup.log and, where KADUN_BACKUP_WEBHOOK is set, a message to it.
# Sourced after common.sh and stack.sh, never run. Needs BACKUP_FOLDER.

REASON='' # the last error of this script

# die MESSAGE [STATUS]: as in common.sh, and remembered.
die() {
    REASON=$1
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit "${2:-1}"
}

# tell_failure EVENT STATUS: to the log, where there is one yet, and to the webhook.
tell_failure() {
    [[ -n $REASON ]] || REASON="被中断或出错 interrupted or failed (status $2)"
    if [[ -n $BACKUP_FOLDER ]]; then log_run "$1" failed: "$REASON"; fi
    notify "$1" failed "$REASON"
}

# webhook_url: from .env, or from secrets/backup_webhook, since .env can be read by anybody.
webhook_url() {
    local url
    url=$(setting KADUN_BACKUP_WEBHOOK)
    if [[ -z $url && -r $ROOT/secrets/backup_webhook ]]; then url=$(<"$ROOT/secrets/backup_webhook"); fi
    printf '%s' "$url"
}

# log_run WORD…: one line in backup.log, with the time.
log_run() {
    local line=$*
    line=${line//[$'\n\r\t']/ }
    { printf '%s %s\n' "$(date --utc +%Y-%m-%dT%H:%M:%SZ)" "$line" >>"$BACKUP_FOLDER/backup.log"; } 2>/dev/null \
        || warn "无法写入日志 cannot write $BACKUP_FOLDER/backup.log"
}

# json_text TEXT: as a JSON string.
json_text() {
    local text=$1
    text=${text//\\/\\\\}
    text=${text//\"/\\\"}
    text=${text//[$'\n\r\t']/ }
    printf '"%s"' "${text//[[:cntrl:]]/}"
}

# notify EVENT STATUS MESSAGE [FILE]: never fails; a webhook that does is said, without its address, which is a secret.
notify() {
    local url said message host
    url=$(webhook_url)
    [[ -n $url ]] || return 0
    host=$(hostname 2>/dev/null || cat /proc/sys/kernel/hostname)
    message="Kadun $1 $2 ($(setting COMPOSE_PROJECT_NAME kadun)@$host): $3"
    # msgtype/text and msg_type/content: what the robots of WeCom, DingTalk and Feishu read.
    said=$(printf '{"event":%s,"status":%s,"project":%s,"host":%s,"file":%s,"message":%s,"msgtype":"text","text":{"content":%s},"msg_type":"text","content":{"text":%s}}' \
        "$(json_text "$1")" "$(json_text "$2")" "$(json_text "$(setting COMPOSE_PROJECT_NAME kadun)")" \
        "$(json_text "$host")" "$(json_text "${4:-}")" "$(json_text "$3")" \
        "$(json_text "$message")" "$(json_text "$message")" \
        | curl --silent --show-error --fail --max-time 20 --retry 2 --retry-max-time 40 --output /dev/null \
            --header 'Content-Type: application/json' --data-binary @- \
            --config <(printf 'url = "%s"\n' "${url//[\"\\$'\n']/}") 2>&1) || {
        said=${said//"$url"/…}
        warn "通知未送达（不影响备份）。The notice could not be sent (the backup is not affected): ${said##*$'\n'}"
        [[ -z $BACKUP_FOLDER ]] || log_run notice not sent: "${said##*$'\n'}"
    }
}
