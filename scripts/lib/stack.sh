# shellcheck shell=bash
# This checkout's containers. Sourced, never run. Needs ROOT, the checkout.

source "$ROOT/scripts/lib/common.sh"

# compose ARGUMENT…: runs docker compose in this checkout. No --file, so that COMPOSE_FILE in .env applies.
compose() { (cd "$ROOT" && exec docker compose "$@"); }

# How long a started service may take to be ready: a migration of a large table on a slow disk is done by then.
READY_SECONDS=180

# shellcheck disable=SC2120  # by `serve` without one
# come_up [ARGUMENT…]: docker compose up, without waiting for the containers' health: what the engine reports may be from before,
# for up to half a minute. Prints what went wrong.
come_up() {
    local id name said deadline=$((SECONDS + READY_SECONDS))
    # Compose, killed while it recreates a container, leaves one named <12 hex digits>_PROJECT-…, and says "Conflict". That one
    # gets its final name or, while its predecessor still has it, is removed.
    while read -r id name; do
        docker rename "$id" "${name#*_}" || docker rm --force "$id" || true
    done < <(docker ps --all --format '{{.ID}} {{.Names}}' --filter 'name=^[0-9a-f]{12}_' \
        --filter "label=com.docker.compose.project=$(setting COMPOSE_PROJECT_NAME kadun)" </dev/null) >/dev/null 2>&1
    # `return 0`: in a trap a bare one would return the status from before it.
    until said=$(compose up --detach "$@" 2>&1 </dev/null); do
        if [[ $said == *migrate*exit* && $said != *'is unhealthy'* ]]; then said="migrate: $(log_of migrate)"; fi
        case $said in
            *'authentication failed'* | *pg_hba.conf*) deadline=0 ;;
            *'is unhealthy'*) ;; # of a container that others depend on: the database's, perhaps, for a moment only
            'migrate: '*'The database is unavailable: connection to server'*) ;; # as until a standby takes over
            *) deadline=0 ;;
        esac
        if ((SECONDS >= deadline)); then
            last_line "$said"
            return 1
        fi
        sleep 1
    done
    return 0
}

# serve: starts the whole service, and waits until it is ready. Prints what went wrong.
serve() { come_up && await database app nginx; }

# require_database: starts the database alone, and waits until it answers.
require_database() {
    local said
    said=$(come_up database && await database) \
        || die "数据库无法启动：docker compose logs database。The database does not start, see docker compose logs database: $said"
}

# answers SERVICE: whether it does: nginx that all is ready, as clients ask it, by HTTPS; the app without nginx; the database
# to the app's role.
answers() {
    # shellcheck disable=SC2016  # the container's own variable
    case $1 in
        nginx) set -- nginx sh -c 'exec curl -fsSk -o /dev/null -m 5 "https://127.0.0.1:$KADUN_HTTPS_PORT/readyz"' ;;
        app) set -- app python -m app healthcheck ;;
        database) set -- database as-role app pg_isready --quiet ;;
    esac
    compose exec -T "$@" >/dev/null 2>&1 </dev/null
}

# await SERVICE…: until the last one answers; the others are those that it needs, in the order of their dependence. Not longer
# than READY_SECONDS, and only until one of them has ended three times. Then it prints which one does not work.
await() {
    local service restarts failed='' deadline=$((SECONDS + READY_SECONDS))
    local -A before=()
    answers "${*: -1}" && return 0
    say "等待就绪，最迟到 Waiting until it is ready, at the latest until $(date --date "+$READY_SECONDS seconds" +%T) …" >&2
    until answers "${*: -1}"; do
        while read -r service restarts; do
            [[ " $* " == *" $service "* ]] || continue
            : "${before[$service]:=$restarts}"
            ((restarts < before[$service] + 3)) || failed=$service
        done < <(containers '{{.RestartCount}}')
        if [[ -z $failed ]] && ((SECONDS >= deadline)); then
            for failed in "$@"; do answers "$failed" || break; done
        fi
        if [[ -n $failed ]]; then
            printf '%s: %s: %s\n' "$failed" "$(inspect "$failed" '{{.State.Status}} (exit {{.State.ExitCode}})')" \
                "$(log_of "$failed")"
            return 1
        fi
        sleep 0.3
    done
    return 0
}

# containers FORMAT: for each container of this stack, running or not, its service and what the engine knows of it. Not for
# those that `docker compose run` made, which `docker compose ps` lists, too.
containers() {
    docker ps --all --quiet --filter label=com.docker.compose.oneoff=False \
        --filter "label=com.docker.compose.project=$(setting COMPOSE_PROJECT_NAME kadun)" </dev/null \
        | xargs -r docker inspect --format "{{index .Config.Labels \"com.docker.compose.service\"}} $1"
}

# inspect SERVICE FORMAT: of its container alone; nothing without one.
inspect() { containers "$2" | sed -n "s/^$1 //p"; }

# log_of SERVICE: the last line of its log.
log_of() { docker logs --tail 1 "$(inspect "$1" '{{.Id}}')" 2>&1; }

# moved_to: when and where scripts/migrate-to.sh moved this service, or `from` where an unfinished copy comes; nothing if it serves
# here. The containers see the same file, and the service does not start while it exists (app/services/system/startup.py).
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
    { new=$(mktemp "$ROOT/data/.moved.XXXXXX") && printf '%s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$1" >"$new" \
        && chmod 644 -- "$new" && sync -- "$new" && mv -fT -- "$new" "$MOVED" && sync -- "$ROOT/data/keys"; } \
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
    local service
    for service in "$@"; do
        [[ $(inspect "$service" '{{.State.Status}}') == running ]] \
            || die "容器 $service 未运行：请先执行 docker compose up -d。Container $service is down: docker compose up -d starts it"
    done
}

# stop_app: clients get 503 from then on.
stop_app() {
    compose --progress quiet stop app </dev/null || die "无法停止服务（原因见上）。The service could not be stopped, see above"
}

# git_here ARGUMENT…: in this clone, even if it belongs to another user. Containers can read what it writes.
git_here() { (umask 022 && git -c safe.directory='*' -C "$ROOT" "$@"); }

# in_database COMMAND…: runs a command in service `database`, whose tools have the version of its PostgreSQL:
# in_database as-role backup pg_dump -Fc >FILE. It reads standard input: redirect it from /dev/null if there is none.
in_database() { compose exec -T database "$@"; }

# unlock_child: called in a background process, so that the lock ends with the script, even after kill -9.
unlock_child() { [[ -z ${KADUN_LOCK:-} ]] || exec {KADUN_LOCK}>&-; }

# lock_stack [SECONDS]: only one of backup, restore, upgrade and similar scripts runs at a time; waits for so long, by default
# not at all. Held until the script ends. A script that another one calls shares its caller's lock.
lock_stack() {
    if [[ -n ${KADUN_LOCK:-} && /proc/self/fd/$KADUN_LOCK -ef $ROOT/data/.stack.lock ]]; then return; fi
    hold_lock stack "${1:-0}"
    export KADUN_LOCK=$LOCK
}
