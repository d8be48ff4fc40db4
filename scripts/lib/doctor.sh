# shellcheck shell=bash
# `cardctl doctor` where the service runs in containers: hostfacts.py gathers the host's facts, and the app's image checks
# them. Sourced after stack.sh, never run.

# doctor [--format text|json]: in the app's container. Where that does not run, in another one beside the database; where
# that cannot start either, in one that checks the host alone; without an image, one line says so.
doctor() {
    local facts report='' image status=0 format=text
    case "$*" in
        '' | --format[\ =]text) ;;
        --format[\ =]json) format=json ;;
        -h | --help) doctor_help && return ;;
        *) usage_error "未知参数 unknown arguments: $* (--format text|json)" ;;
    esac
    need python3 python3
    PATH+=:/usr/local/bin # where docker may be; the PATH of cron lacks it
    docker info >/dev/null 2>&1 || only_result "$format" "Docker 没有响应：请检查其是否运行、您是否有权限" \
        "Docker does not answer: is it running, and may you use it?"
    facts=$(library hostfacts.py "$ROOT" </dev/null)
    if runs app; then
        report=$(compose exec -T app python -m app doctor --host-facts - --format "$format" <<<"$facts") || status=$?
        ((status <= 1)) || report='' # the engine's message: the container ended meanwhile
    fi
    image=$(setting KADUN_APP_IMAGE)
    if [[ -z $report ]] && ! docker image inspect "${image:-?}" >/dev/null 2>&1; then
        only_result "$format" "没有镜像 $image：先执行 scripts/init.sh，再执行 docker compose up -d --wait" \
            "There is no image $image: run scripts/init.sh, then docker compose up -d --wait, which builds it"
    fi
    if [[ -z $report ]] && runs database; then
        status=0
        report=$(compose --progress quiet run --rm --no-deps -T app \
            python -m app doctor --host-facts - --format "$format" <<<"$facts") || status=$?
    fi
    if [[ -z $report ]]; then
        status=0
        report=$(docker run --rm --interactive --network none --read-only --cap-drop ALL "$image" \
            python -m app doctor --host-only --host-facts - --format "$format" <<<"$facts") || status=$?
    fi
    [[ -z $report ]] || printf '%s\n' "$report"
    return "$status"
}

doctor_help() {
    cat <<'END'
用法 usage: cardctl doctor [--format text|json]

全面检查：证书、时钟、磁盘、备份、权限、代理、数据库、密钥。每项一行：OK 正常，WARN 需留意或无法检查，FAIL 有错误。
Checks the whole installation, a line each: OK, WARN (look at it, or it could not be checked) or FAIL (wrong).
退出码 exit status: 0 没有 FAIL no FAIL, 1 有 FAIL at least one, 2 用法错误 usage
END
}

# runs SERVICE: whether its container runs.
runs() {
    [[ -n $(compose ps --quiet --status running "$1" 2>/dev/null </dev/null) ]]
}

# only_result FORMAT CHINESE ENGLISH: the whole report where nothing can be checked; exit status 1.
only_result() {
    if [[ $1 == json ]]; then
        python3 -I -c 'import json, sys; print(json.dumps([dict(zip(("check", "status", "message_zh", "message_en"), sys.argv[1:]))]))' \
            containers FAIL "$2" "$3"
    else
        printf 'FAIL  containers  %s / %s\n' "$2" "$3"
    fi
    die "发现问题 / Something is wrong: 1 FAIL"
}
