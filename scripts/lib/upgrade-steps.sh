# shellcheck shell=bash
# Steps of scripts/upgrade.sh: putting the old version back, and measuring the interruption. Sourced, never run.

# shellcheck source=scripts/lib/archive.sh
source "$ROOT/scripts/lib/archive.sh"
# shellcheck source=scripts/lib/backups.sh
source "$ROOT/scripts/lib/backups.sh"

# previous_image IMAGE: the name under which the old image is kept.
previous_image() {
    local repository=$1
    if [[ ${1##*/} == *:* ]]; then repository=${1%:*}; fi
    printf '%s:previous' "$repository"
}

# code_back COMMIT: puts the code of that commit back; what the vendor changed by hand stays.
code_back() {
    [[ -n $1 && $(git_here rev-parse HEAD) != "$1" ]] || return 0
    git_here reset --quiet --keep "$1" \
        || warn "代码未能退回：请手工执行 git reset --keep $1。The code could not be put back: do it by hand, git reset --keep $1"
    open_to_containers
}

# database_back FILE ASIDE: restores the archive; the present database is kept as ASIDE. Sets NEWER.
database_back() {
    local new=${LIVE}_rolled_back copy
    drop_database "$new" >/dev/null 2>&1 || true
    TRUST=() # this run has made it: no signature may stand in the way back, but it must be the same still
    copy=$(mktemp -d "$ROOT/data/.backup.XXXXXX")/${1##*/}
    read_file "$1" >"$copy" || die "无法读取 cannot read $1"
    [[ $(sha256_of "$copy") == "$TAKEN_SHA256" ]] || die "$1 已被改动。It has been changed since it was made"
    require_backup "$copy"
    read_archive "$copy"
    restore_dump "$new" open_dump "$copy"
    require_same_contents "$new"
    prepare_database "$new" || die "无法设置 cannot set up $new"
    swap_back "$new" "$2" "$(journal_end "$new")" || die "无法切换数据库。The databases cannot change places"
    [[ -z $(sealed_keys "$LIVE") ]] || carry_keys "$2" # they may have been rotated since the backup was made
}

# microseconds: the time of day.
microseconds() { printf '%s' "${EPOCHREALTIME//[.,]/}"; }

# watch_gap FILE: asks /readyz through nginx five times a second, until it is killed or the script has ended. For each
# interruption FILE gets a line with the times of the first failure and of the first success after it.
watch_gap() {
    local url down='' status
    unlock_child
    url=https://127.0.0.1:$(setting KADUN_HTTPS_PORT 443)/readyz
    while kill -0 "$$" 2>/dev/null; do # in a child, too, $$ is the script
        status=$(curl --silent --insecure --output /dev/null --max-time 5 --write-out '%{http_code}' "$url") || true
        if [[ $status != 200 ]]; then
            if [[ -z $down ]]; then down=$(microseconds); fi
        elif [[ -n $down ]]; then
            printf '%s %s\n' "$down" "$(microseconds)" >>"$1"
            down=''
        fi
        sleep 0.2
    done
}

# gap_in FILE: the sum of all interruptions in seconds, with one decimal.
gap_in() {
    awk '{ gap += $2 - $1 } END { printf "%.1f", gap / 1000000 }' "$1"
}

# start_stack: starts the app first: together with it Compose would recreate nginx, which answers 503 meanwhile.
start_stack() {
    come_up app && await app_ready database app && serve
}

# renew_nginx: restarts nginx if its templates have changed: it reads them when it starts, and Compose does not notice.
# Prints what went wrong.
renew_nginx() {
    local started said
    started=$(docker inspect --format '{{.State.StartedAt}}' "$(container_of nginx)") || return 1
    [[ -n $(find "$ROOT/nginx" -type f -newermt "$started" -print -quit) ]] || return 0
    said=$(compose run --rm --no-deps -T nginx nginx -t 2>&1 </dev/null) \
        || { last_line "$said" && return 1; }
    # Not `up --no-deps`: the next `up` would then recreate nginx.
    said=$(compose restart --no-deps nginx 2>&1 </dev/null) || { last_line "$said" && return 1; }
    await is_ready nginx
}
