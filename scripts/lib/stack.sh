# shellcheck shell=bash
# This checkout's containers. Sourced, never run. Needs ROOT, the checkout.

# shellcheck source=scripts/lib/common.sh
source "$ROOT/scripts/lib/common.sh"

# compose ARGUMENT…: runs docker compose in this checkout. No --file, so that COMPOSE_FILE in .env applies.
compose() {
    (cd "$ROOT" && exec docker compose "$@")
}

# come_up ARGUMENT…: docker compose up; waits until all is healthy, else prints what went wrong. The engine reports a new
# container as unhealthy for a moment, and Compose may ask just then, so it is asked a second time.
come_up() {
    local said
    # `return 0`: in a trap a bare one would return the status from before it.
    if said=$(compose up --detach --wait "$@" 2>&1 </dev/null); then return 0; fi
    if [[ $said == *'is unhealthy'* ]] && said=$(compose up --detach --wait "$@" 2>&1 </dev/null); then return 0; fi
    printf '%s\n' "$said"
    return 1
}

# setting NAME [DEFAULT]: a setting from .env, or the default where it is unset or empty.
setting() {
    env_file get "$ROOT/.env" "$@"
}

# moved_to: when and where scripts/migrate-to.sh moved this service; nothing if it serves here. The containers see the same
# file, and the service does not start while it exists (app/services/startup.py).
MOVED=$ROOT/data/keys/moved-to
moved_to() {
    [[ ! -e $MOVED ]] || cat -- "$MOVED" 2>/dev/null || printf '?'
}

# require_home: the service has not moved away; changes made here would be lost.
require_home() {
    local place
    place=$(moved_to)
    [[ -z $place ]] \
        || die "服务已搬迁到 ${place#* }（${place%% *}）：请在那里操作；要撤销搬迁：scripts/migrate-to.sh --resume-here。The service moved to ${place#* } at ${place%% *}: use it there; to undo the move: scripts/migrate-to.sh --resume-here"
}

# require_stack [moved]: this checkout is prepared, Docker answers and, without `moved`, the service has not moved away.
require_stack() {
    [[ ${1:-} == moved ]] || require_home
    [[ -e $ROOT/.env ]] || die "尚未初始化：请先执行 scripts/init.sh。Not prepared yet: run scripts/init.sh first"
    require_docker
}

# require_docker: Docker and Compose answer; scripts/init.sh need not have run.
require_docker() {
    need docker docker.io
    docker compose version >/dev/null 2>&1 \
        || die "缺少 Docker Compose。Docker Compose is missing: apt-get install docker-compose-plugin"
    docker info >/dev/null 2>&1 \
        || die "Docker 没有响应：请检查其是否运行、您是否有权限。Docker does not answer: is it running, and may $(id -un) use it?"
}

# require_running SERVICE…: all of them are running.
require_running() {
    local service running
    running=$(compose ps --services --status running 2>&1 </dev/null) \
        || die "无法查询容器。Cannot ask for the containers: ${running##*$'\n'}"
    for service in "$@"; do
        grep -qxF "$service" <<<"$running" \
            || die "容器 $service 未运行：请先执行 docker compose up -d。Container $service is down: docker compose up -d starts it"
    done
}

# git_here ARGUMENT…: in this clone, even if it belongs to another user. Containers can read what it writes.
git_here() { (umask 022 && git -c safe.directory='*' -C "$ROOT" "$@"); }

# in_database COMMAND…: runs a command in service `database`, whose tools have the version of its PostgreSQL:
# in_database as-role backup pg_dump -Fc >FILE. It reads standard input: redirect it from /dev/null if there is none.
in_database() {
    compose exec -T database "$@"
}

# last_words: the last log lines of migrate and app.
last_words() {
    compose logs --no-color --no-log-prefix --tail 1 migrate app 2>/dev/null </dev/null | tr '\n' ' ' || true
}

# unlock_child: called in a background process, so that the lock ends with the script, even after kill -9.
unlock_child() {
    if [[ -n ${KADUN_LOCK:-} ]]; then exec {KADUN_LOCK}>&-; fi
}

# lock_stack [SECONDS]: only one of backup, restore, upgrade and similar scripts runs at a time; waits for so long, by default
# not at all. Held until the script ends. A script that another one calls shares its caller's lock.
lock_stack() {
    local folder=$ROOT/scripts lock # the folder: git and import replace files
    if [[ -n ${KADUN_LOCK:-} && /proc/self/fd/$KADUN_LOCK -ef $folder ]]; then return; fi
    need flock util-linux
    exec {lock}<"$folder"
    flock --wait "${1:-0}" "$lock" \
        || die "另一个备份、恢复或升级正在进行，请稍候再试。A backup, restore or upgrade is under way here: try again when it is done"
    export KADUN_LOCK=$lock
}
