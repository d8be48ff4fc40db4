# shellcheck shell=bash
# scripts/upgrade.sh's way back, and its stopwatch. Sourced after dump.sh, swap.sh and backup.sh, never run.

# previous_image IMAGE: the name under which the image before an upgrade is kept.
previous_image() {
    local repository=$1
    if [[ ${1##*/} == *:* ]]; then repository=${1%:*}; fi
    printf '%s:previous' "$repository"
}

# git_here ARGUMENT…: in this clone, also where it is another user's.
git_here() { git -c safe.directory='*' -C "$ROOT" "$@"; }

# code_back COMMIT: the code of that commit again; what the vendor changed by hand stays.
code_back() {
    [[ -n $1 && $(git_here rev-parse HEAD) != "$1" ]] || return 0
    git_here reset --quiet --keep "$1" \
        || warn "代码未能退回：请手工执行 git reset --keep $1。The code could not be put back: do it by hand, git reset --keep $1"
}

# database_back DUMP ASIDE: the database as the dump has it; what is there now is kept as ASIDE.
database_back() {
    local new=${LIVE}_rolled_back said
    drop_database "$new" >/dev/null 2>&1 || true
    restore_dump "$1" "$new"
    compare_contents "$1" "$new"
    prepare_database "$new" || die "无法设置 cannot set up $new"
    said=$(swap_databases "$LIVE" "$2" "$new" 2>&1) || die "无法切换数据库。The databases cannot change places: $(last_line "$said")"
}

# journal_end DATABASE: the number of its last entry.
journal_end() { owner_sql "$1" "SELECT coalesce(max(id), 0) FROM event"; }

# microseconds: the time now.
microseconds() { printf '%s' "${EPOCHREALTIME//[.,]/}"; }

# watch_gap FILE: asks through nginx, five times a second, until killed; FILE gets the moment of the first question
# without an answer, and of the first answer after it.
watch_gap() {
    local url down='' status
    url=https://127.0.0.1:$(setting KADUN_HTTPS_PORT 443)/readyz
    while :; do
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

# renew_nginx: nginx reads its templates at its start; Compose does not see that they have changed.
renew_nginx() {
    local started said
    started=$(docker inspect --format '{{.State.StartedAt}}' "$(compose ps --quiet nginx </dev/null)") || return 1
    [[ -n $(find "$ROOT/nginx" -type f -newermt "$started" -print -quit) ]] || return 0
    said=$(compose run --rm --no-deps -T nginx nginx -t 2>&1 </dev/null) \
        || { warn "nginx 的新配置有误。nginx does not take its new configuration: $(last_line "$said")"; return 1; }
    compose up --detach --wait --no-deps --force-recreate nginx >/dev/null 2>&1 </dev/null
}
