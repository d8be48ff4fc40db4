# shellcheck shell=bash
# This checkout's containers, for scripts that work on them. Sourced after common.sh, never run.
# Needs ROOT, the checkout.

# compose ARGUMENT…: docker compose of this checkout, wherever the caller stands. No --file: COMPOSE_FILE in .env counts.
compose() {
    (cd "$ROOT" && exec docker compose "$@")
}

# come_up ARGUMENT…: up, and healthy; what went wrong is printed. The engine calls a container unhealthy for the moment
# before it has begun to look after it, and Compose may ask in that moment: one that really is will still be so.
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

# moved_to: where scripts/migrate-to.sh has moved this service, and when; nothing where it serves here. The containers
# see the same file, and the service does not start beside it (app/services/startup.py).
MOVED=$ROOT/data/keys/moved-to
moved_to() {
    [[ ! -e $MOVED ]] || cat -- "$MOVED" 2>/dev/null || printf '?'
}

# require_home: the service has not moved away: what was done here would be lost, or be done twice.
require_home() {
    local place
    place=$(moved_to)
    [[ -z $place ]] \
        || die "服务已搬迁到 ${place#* }（${place%% *}）：请在那里操作；要撤销搬迁：scripts/migrate-to.sh --resume-here。The service moved to ${place#* } at ${place%% *}: work there; to undo the move: scripts/migrate-to.sh --resume-here"
}

# require_stack [moved]: this checkout has been prepared, Docker answers, and, unless that is said not to matter, the
# service has not moved away.
require_stack() {
    [[ ${1:-} == moved ]] || require_home
    [[ -e $ROOT/.env ]] || die "尚未初始化：请先执行 scripts/init.sh。Not prepared yet: run scripts/init.sh first"
    require_docker
}

# require_docker: Docker with Compose answers, also where scripts/init.sh has not run yet.
require_docker() {
    need docker docker.io
    docker compose version >/dev/null 2>&1 \
        || die "缺少 Docker Compose。Docker Compose is missing: apt-get install docker-compose-plugin"
    docker info >/dev/null 2>&1 \
        || die "Docker 没有响应：请检查其是否运行、您是否有权限。Docker does not answer: is it running, and may $(id -un) use it?"
}

# require_running SERVICE…: each of them runs.
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

# in_database COMMAND…: inside service `database`, where the tools are of its PostgreSQL's version:
# in_database as-role backup pg_dump -Fc >FILE. It takes standard input: give </dev/null where it has none.
in_database() {
    compose exec -T database "$@"
}

# last_words: the last log lines of migrate and app.
last_words() {
    compose logs --no-color --no-log-prefix --tail 1 migrate app 2>/dev/null </dev/null | tr '\n' ' ' || true
}

# unlock_child: for what goes on in the background: the lock is the script's, and ends with it, even by kill -9.
unlock_child() {
    if [[ -n ${KADUN_LOCK:-} ]]; then exec {KADUN_LOCK}>&-; fi
}

# lock_stack [SECONDS]: backup, restore, upgrade and their like take turns; it waits that long, by default not at all.
# Held until the script ends. A script that another one calls goes on under its caller's lock.
lock_stack() {
    local folder=$ROOT/scripts lock # the folder: git and import replace files
    if [[ -n ${KADUN_LOCK:-} && /proc/self/fd/$KADUN_LOCK -ef $folder ]]; then return; fi
    need flock util-linux
    exec {lock}<"$folder"
    flock --wait "${1:-0}" "$lock" \
        || die "另一个备份、恢复或升级正在进行，请稍候再试。A backup, restore or upgrade is under way here: try again when it is done"
    export KADUN_LOCK=$lock
}
