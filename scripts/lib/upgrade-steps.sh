# shellcheck shell=bash
# scripts/upgrade.sh's way back, and its stopwatch. Sourced after dump.sh, swap.sh and backup.sh, never run.

# previous_image IMAGE: the name under which the image before an upgrade is kept.
previous_image() {
    local repository=$1
    if [[ ${1##*/} == *:* ]]; then repository=${1%:*}; fi
    printf '%s:previous' "$repository"
}

# git_here ARGUMENT…: in this clone, also where it is another user's. What it writes, others may read: containers do.
git_here() { (umask 022 && git -c safe.directory='*' -C "$ROOT" "$@"); }

# code_back COMMIT: the code of that commit again; what the vendor changed by hand stays.
code_back() {
    [[ -n $1 && $(git_here rev-parse HEAD) != "$1" ]] || return 0
    git_here reset --quiet --keep "$1" \
        || warn "代码未能退回：请手工执行 git reset --keep $1。The code could not be put back: do it by hand, git reset --keep $1"
    open_to_containers
}

# database_back DUMP ASIDE: the database as the dump has it; what is there now is kept as ASIDE. Sets NEWER.
database_back() {
    local new=${LIVE}_rolled_back
    drop_database "$new" >/dev/null 2>&1 || true
    restore_dump "$1" "$new"
    compare_contents "$1" "$new"
    prepare_database "$new" || die "无法设置 cannot set up $new"
    swap_back "$new" "$2" "$(journal_end "$new")" || die "无法切换数据库。The databases cannot change places"
}

# microseconds: the time now.
microseconds() { printf '%s' "${EPOCHREALTIME//[.,]/}"; }

# watch_gap FILE: asks through nginx, five times a second, until killed or without the script that started it; FILE gets
# the moment of the first question without an answer, and of the first answer after it.
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

# gap_in FILE: the time without an answer, in seconds with one decimal.
gap_in() {
    awk '{ gap += $2 - $1 } END { printf "%.1f", gap / 1000000 }' "$1"
}

# start_stack: the app first, on its own: along with it Compose would make nginx anew, which answers 503 meanwhile.
start_stack() {
    come_up --wait-timeout 180 app && come_up --wait-timeout 180
}

# renew_nginx: nginx reads its templates at its start; Compose does not see that they have changed.
renew_nginx() {
    local started said
    started=$(docker inspect --format '{{.State.StartedAt}}' "$(compose ps --quiet nginx </dev/null)") || return 1
    [[ -n $(find "$ROOT/nginx" -type f -newermt "$started" -print -quit) ]] || return 0
    said=$(compose run --rm --no-deps -T nginx nginx -t 2>&1 </dev/null) \
        || { warn "nginx 的新配置有误。nginx does not take its new configuration: $(last_line "$said")"; return 1; }
    # Not `up --no-deps`: by what that leaves out, Compose would take nginx for changed at the next `up`.
    compose restart --no-deps nginx >/dev/null 2>&1 </dev/null && come_up nginx >/dev/null
}
