# shellcheck shell=bash
# This checkout's containers. Sourced, never run. Needs ROOT, the checkout.

# shellcheck source=scripts/lib/common.sh
source "$ROOT/scripts/lib/common.sh"

# compose ARGUMENT…: runs docker compose in this checkout. No --file, so that COMPOSE_FILE in .env applies.
compose() {
    (cd "$ROOT" && exec docker compose "$@")
}

# How long a started service may take to be ready: a migration of a large table on a slow disk is done by then.
READY_SECONDS=180

# shellcheck disable=SC2119,SC2120  # not every script names a service
# come_up [ARGUMENT…]: docker compose up, without waiting for the containers' health: what the engine reports may be from before,
# for up to half a minute. Prints what went wrong.
come_up() {
    local said deadline=$((SECONDS + READY_SECONDS))
    settle_recreated
    # `return 0`: in a trap a bare one would return the status from before it.
    until said=$(compose up --detach "$@" 2>&1 </dev/null); do
        # Of a container that others depend on: the database's, perhaps.
        if [[ $said != *'is unhealthy'* && $said == *migrate*exit* ]]; then said="migrate: $(log_of migrate || true)"; fi
        if ((SECONDS >= deadline)) || ! may_pass "$said"; then
            last_line "$said"
            return 1
        fi
        sleep 1
    done
    return 0
}

# settle_recreated: Compose, killed while it recreates a container, leaves one named <12 hex digits>_PROJECT-…, and `up` says
# "Conflict". That one gets its final name or, while its predecessor still has it, is removed.
settle_recreated() {
    local id name
    while read -r id name; do
        docker rename "$id" "${name#*_}" || docker rm --force "$id" || true
    done < <(docker ps --all --format '{{.ID}} {{.Names}}' \
        --filter "name=^[0-9a-f]{12}_$(setting COMPOSE_PROJECT_NAME kadun)-" </dev/null) >/dev/null 2>&1
}

# may_pass TEXT: whether a start failed for a reason that may pass: an unhealthy container, or no database to connect to, as
# until a standby takes over. A migration that failed, or a refused log-in, is not one.
may_pass() {
    [[ $1 == *'is unhealthy'* ]] && return 0
    [[ $1 == 'migrate: '*'The database is unavailable: connection to server'* ]] \
        && [[ $1 != *'authentication failed'* && $1 != *pg_hba.conf* ]]
}

# shellcheck disable=SC2119
# serve: starts the whole service, and waits until it is ready. Prints what went wrong.
serve() { come_up && await is_ready database app nginx; }

# is_ready: whether the service answers that it is ready, as its clients ask it: through nginx, by HTTPS.
is_ready() {
    # shellcheck disable=SC2016  # the container's own variable
    compose exec -T nginx sh -c 'exec curl -fsSk -o /dev/null --max-time 5 "https://127.0.0.1:$KADUN_HTTPS_PORT/readyz"' </dev/null
}

# app_ready: whether the app says so, without nginx.
app_ready() { compose exec -T app python -m app healthcheck </dev/null; }

# database_ready: whether the database answers the app's role.
database_ready() { compose exec -T database as-role app pg_isready --quiet </dev/null; }

# await CONDITION SERVICE…: until the condition holds; the services are those that it needs, in the order of their dependence.
# Not longer than READY_SECONDS, and only until one of them has ended three times. Then it prints which one does not work.
await() {
    local said service deadline=$((SECONDS + READY_SECONDS)) failed=''
    local -A container=() before=()
    said=$("$1" 2>&1) && return 0 # see come_up
    for service in "${@:2}"; do # once: looking takes time from what is starting
        container[$service]=$(container_of "$service")
        before[$service]=$(restarts_of "${container[$service]}")
    done
    say "等待就绪，最迟到 Waiting until it is ready, at the latest until $(date --date "+$READY_SECONDS seconds" +%T) …" >&2
    until said=$("$1" 2>&1); do
        for service in "${@:2}"; do
            if (($(restarts_of "${container[$service]}") >= before[$service] + 3)); then failed=$service && break 2; fi
        done
        if ((SECONDS >= deadline)); then failed=$(not_answering "${@:2}") && break; fi
        sleep 0.3
    done
    [[ -n $failed ]] || return 0
    printf '%s: %s: %s\n' "$failed" "$(inspect "$failed" '{{.State.Status}} (exit {{.State.ExitCode}})')" \
        "$(log_of "$failed" || last_line "$said")"
    return 1
}

# container_of SERVICE: the ID of its container, running or not; never of one that `docker compose run` made, which
# `docker compose ps` lists, too. Nothing without one.
container_of() {
    docker ps --all --quiet --filter label=com.docker.compose.oneoff=False --filter "label=com.docker.compose.service=$1" \
        --filter "label=com.docker.compose.project=$(setting COMPOSE_PROJECT_NAME kadun)" 2>/dev/null </dev/null
}

# log_of SERVICE: the last line of its log; fails without a container.
log_of() {
    local id
    id=$(container_of "$1")
    [[ -n $id ]] && docker logs --tail 1 "$id" 2>&1
}

# inspect SERVICE FORMAT: what the engine knows of its container.
inspect() {
    local id
    id=$(container_of "$1")
    [[ -n $id ]] && docker inspect --format "$2" "$id" 2>/dev/null || echo missing
}

# restarts_of CONTAINER: how often the engine has restarted it; 0 without one.
restarts_of() { docker inspect --format '{{.RestartCount}}' "$1" 2>/dev/null || printf 0; }

# not_answering SERVICE…: prints the first that does not answer; the last where all of them do by now.
not_answering() {
    local service
    for service in "$@"; do
        case $service in
            database) database_ready >/dev/null 2>&1 || break ;;
            app) app_ready >/dev/null 2>&1 || break ;;
        esac
    done
    printf '%s' "$service"
}

# moved_to: when and where scripts/migrate-to.sh moved this service, or `from` where an unfinished copy comes; nothing if it serves
# here. The containers see the same file, and the service does not start while it exists (app/services/startup.py).
MOVED=$ROOT/data/keys/moved-to
moved_to() {
    local said=''
    [[ -e $MOVED || -L $MOVED ]] || return 0
    # The app may write there: a link could lead to a secret, and a named pipe would be waited for.
    if [[ -f $MOVED && ! -L $MOVED ]]; then said=$(head -c 1024 -- "$MOVED" | tr -d '[:cntrl:]'); fi
    printf '%s' "${said:-?}"
}

# move_away PLACE: writes the mark, which the service's user can read, whole or not at all; and stops the app, so that clients
# get 503. After a failure `serve_again` undoes it.
move_away() {
    local new
    # Not made in data/keys: the app may write there, and could lay a link in its place.
    new=$(mktemp "$ROOT/data/.moved.XXXXXX") && printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$1" >"$new" \
        && chmod 644 -- "$new" && sync -- "$new" && mv -fT -- "$new" "$MOVED" && sync -- "$ROOT/data/keys" \
        || die "无法写入 cannot write $MOVED"
    stop_app
}

# serve_again: this server serves again. Prints what went wrong.
serve_again() {
    # Beside the mark the app ends at each start and is restarted: one that has just read it must not end during ours.
    [[ ! -e $MOVED ]] || compose stop app >/dev/null 2>&1 </dev/null || true
    rm -f -- "$MOVED"
    serve
}

# restore_keys FILE [--only-newer]: a copy of keyring.json takes the place of the present one, unless that is newer. In a container of its own:
# the service may refuse to start. Says on standard error which one is in place.
restore_keys() { compose --progress quiet run --rm --no-deps -T app python -m app key restore "${@:2}" - <"$1"; }

# require_home: the service has not moved away; changes made here would be lost.
require_home() {
    local place
    place=$(moved_to)
    [[ ${place#* } != 'from '* ]] \
        || die "此处是未完成的搬迁（${place#* }）：在原服务器再次执行 scripts/migrate-to.sh，或在那里 --resume-here。This is an unfinished copy ${place#* }: run scripts/migrate-to.sh there again to go on, or with --resume-here to go back"
    [[ -z $place ]] \
        || die "服务已搬迁到 ${place#* }（${place%% *}）：请在那里操作。如搬迁中断，再次执行 scripts/migrate-to.sh；要恢复本机：scripts/migrate-to.sh --resume-here。The service moved to ${place#* } at ${place%% *}: use it there. If the move was cut off, run the same scripts/migrate-to.sh again; to serve here again: scripts/migrate-to.sh --resume-here"
}

# require_stack [moved]: this checkout is prepared, Docker answers and, without `moved`, the service has not moved away.
require_stack() {
    [[ ${1:-} == moved ]] || require_home
    require_prepared
    require_docker
}

# require_docker: Docker and Compose answer; scripts/init.sh need not have run.
require_docker() {
    local said
    said=$(docker compose version 2>&1 && docker info 2>&1 >/dev/null) \
        || die "Docker 或 Compose 没有响应：请检查其是否安装、运行、您是否有权限。Docker or Compose does not answer: is it installed (scripts/provision.sh) and running, and may $(id -un) use it? $(error_line "$said")"
}

# require_running SERVICE…: all of them are running.
require_running() {
    local service running
    running=$(compose ps --services --status running </dev/null) || running=''
    for service in "$@"; do
        grep -qxF "$service" <<<"$running" \
            || die "容器 $service 未运行：请先执行 docker compose up -d。Container $service is down: docker compose up -d starts it"
    done
}

# stop_app: clients get 503 from then on.
stop_app() {
    local said
    said=$(compose stop app 2>&1 </dev/null) || die "无法停止服务 could not stop the service: $(last_line "$said")"
}

# git_here ARGUMENT…: in this clone, even if it belongs to another user. Containers can read what it writes.
git_here() { (umask 022 && git -c safe.directory='*' -C "$ROOT" "$@"); }

# in_database COMMAND…: runs a command in service `database`, whose tools have the version of its PostgreSQL:
# in_database as-role backup pg_dump -Fc >FILE. It reads standard input: redirect it from /dev/null if there is none.
in_database() {
    compose exec -T database "$@"
}

# unlock_child: called in a background process, so that the lock ends with the script, even after kill -9.
unlock_child() {
    if [[ -n ${KADUN_LOCK:-} ]]; then exec {KADUN_LOCK}>&-; fi
}

# lock_stack [SECONDS]: only one of backup, restore, upgrade and similar scripts runs at a time; waits for so long, by default
# not at all. Held until the script ends. A script that another one calls shares its caller's lock.
lock_stack() {
    if [[ -n ${KADUN_LOCK:-} && /proc/self/fd/$KADUN_LOCK -ef $ROOT/data/.stack.lock ]]; then return; fi
    need flock util-linux
    open_lock stack
    flock --wait "${1:-0}" "$LOCK" \
        || die "另一个备份、恢复或升级正在进行，请稍候再试。A backup, restore or upgrade is under way here: try again when it is done; one that was killed ends within seconds"
    export KADUN_LOCK=$LOCK
}
