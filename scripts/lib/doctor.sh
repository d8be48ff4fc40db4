# shellcheck shell=bash
# `cardctl doctor` where the service runs in containers: hostfacts.py gathers the host's facts, and the app's image
# checks them. Sourced after stack.sh, never run.

# doctor [--format text|json]: in a container of its own beside the database, since the app may not run. Where that
# cannot start either, in one that checks the host alone.
doctor() {
    local facts image running report='' status=0
    PATH+=:/usr/local/bin # where docker may be; the PATH of cron lacks it
    require_docker
    image=$(setting KADUN_APP_IMAGE)
    docker image inspect "${image:-?}" >/dev/null 2>&1 \
        || die "没有镜像 $image：先执行 scripts/init.sh，再执行 docker compose up -d --wait。There is no image $image: run scripts/init.sh, then docker compose up -d --wait, which builds it"
    facts=$(library hostfacts.py "$ROOT" </dev/null)
    running=$(compose ps --services --status running 2>/dev/null </dev/null) || running=''
    if grep -qxE 'app|database' <<<"$running"; then # the app alone: the database is on another machine
        report=$(compose --progress quiet run --rm --no-deps -T app \
            python -m app doctor --host-facts - "$@" <<<"$facts") || status=$?
    fi
    if [[ -z $report ]]; then
        status=0
        report=$(docker run --rm --interactive --network none --read-only --cap-drop ALL "$image" \
            python -m app doctor --host-only --host-facts - "$@" <<<"$facts") || status=$?
    fi
    [[ -z $report ]] || printf '%s\n' "$report"
    return "$status"
}
