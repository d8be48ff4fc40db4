# shellcheck shell=bash
# The new server of scripts/migrate-to.sh, over one SSH connection. Sourced after keys.sh, never run.

# connect FOLDER HOST [OPTION…]: writes FOLDER/ssh, which runs a command there, as root: ssh's first argument, a name, is only what
# rsync wants. All share one connection, so that a password is typed once.
connect() {
    local options as_root
    options=$(quoted "${@:3}" -o ControlMaster=auto -o "ControlPath=$1/socket" -o ControlPersist=60 -o ConnectTimeout=20 \
        -o ServerAliveInterval=15 -o ServerAliveCountMax=4)
    # shellcheck disable=SC2016  # for the shell on the other side
    as_root=$(quoted sh -c 'if [ "$(id -u)" = 0 ]; then exec "$@"; else exec sudo -n "$@"; fi' sh)
    printf '#!/usr/bin/env bash\nshift\nexec ssh %s -- %s %s "$@"\n' "$options" "$(quoted "$2")" "$(quoted "$as_root")" >"$1/ssh"
    chmod 700 "$1/ssh"
    remote "$1/ssh" true </dev/null \
        || die "无法以 root 登录 $2，且 sudo 不可用（原因见上）。Cannot work as root on $2, nor by sudo without a password; see ssh's message above"
}

# remote SSH COMMAND…: runs it there, with this standard input.
remote() { "$1" there "$(quoted "${@:2}")"; }

# remote_stack SSH CHECKOUT FUNCTION…: runs a function of lib/keys.sh, and of what that sources, for the checkout there.
remote_stack() {
    # shellcheck disable=SC2016  # for the bash on the other side
    remote "$1" bash -c 'ROOT=$1 && cd -- "$1" && source scripts/lib/keys.sh && "${@:2}"' '新服务器 the new server' "${@:2}" </dev/null
}

# prepare_there SSH FOLDER ENV MARK: ends the script unless the new server can take the service. Marks the folder there, so that
# nothing starts in it, and prints `empty`, or `arriving` where an unfinished copy of this move is there; or `served`.
prepare_there() {
    remote "$1" bash -s -- "$2" "$4" "$(uname -m)" "$(setting_in "$3" COMPOSE_PROJECT_NAME kadun)" \
        "$(setting_in "$3" KADUN_HTTP_PORT 80)" "$(setting_in "$3" KADUN_HTTPS_PORT 443)" <<'END'
        fail() { printf '%s: %s\n' "$(uname -n)" "$1" >&2; exit 1; }
        said=$({ type rsync openssl flock python3 age >/dev/null && docker compose version && docker info; } 2>&1) \
            || fail "软件不齐：请在那里执行 scripts/provision.sh。Run scripts/provision.sh there first: ${said##*$'\n'}"
        [[ $(uname -m) == "$3" ]] \
            || fail "处理器架构不同（$3 与 $(uname -m)），数据文件不能直接使用：请用迁移包。Another architecture, $(uname -m) and here $3, cannot use the database's files: move by a bundle (docs/backups.md)"
        place=$(cut -d ' ' -f 2- "$1/data/keys/moved-to" 2>/dev/null) || true
        [[ $place != "$2" ]] || { echo arriving && exit; }
        [[ ! -e $1/.env ]] || { echo served && exit; }
        found=$({ ls -d -- "$1"/secrets "$1"/data/{postgres,keys}; [[ -e $1/scripts/migrate-to.sh ]] || ls -A -- "$1"; } 2>/dev/null)
        [[ -z $found ]] \
            || fail "$1 已有其他内容，未作改动：请用 --directory 另选目录。$1 has something else in it, and nothing was changed: choose another folder with --directory"
        other=$(docker ps --all --filter "label=com.docker.compose.project=$4" \
            --format '{{.Label "com.docker.compose.project.working_dir"}}' | grep -vxFm 1 -- "$1")
        [[ -z $other ]] || fail "项目名 $4 已被 $other 使用：请用 --project 另选。Project $4 runs from $other: choose another with --project"
        for port in "$5" "$6"; do
            ! (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || fail "端口 $port 已被占用：请用 --http-port、--https-port 另选。Port $port is taken: choose others with --http-port and --https-port"
        done
        new=$1/data/keys/moved-to.new
        (umask 077 && mkdir -p -- "$1/data/keys") && umask 022 && printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$2" >"$new" \
            && sync -- "$new" && mv -fT -- "$new" "${new%.new}" || exit 1
        echo empty
END
}

# send_images SSH ENV: those that run here, unless all are there.
send_images() {
    local -a images
    mapfile -t images < <(compose config --images </dev/null | sort -u)
    if [[ $(docker image inspect --format '{{.Id}}' "${images[@]}") != \
        "$(remote "$1" docker image inspect --format '{{.Id}}' "${images[@]}" 2>/dev/null </dev/null)" ]]; then
        docker save "${images[@]}" | gzip -1 | remote "$1" docker load --quiet >/dev/null
    fi
    remote "$1" docker tag "$(setting KADUN_APP_IMAGE)" "$(setting_in "$2" KADUN_APP_IMAGE)" </dev/null
}
