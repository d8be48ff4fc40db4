# shellcheck shell=bash
# `cardctl doctor` where the service runs in containers: facts are gathered here, the judging is done in the app's image,
# which brings the Python that a host need not have. Sourced after common.sh, stack.sh and hostfacts.sh.

# doctor ARGUMENT…: in the app's container. Where that does not run, in another one beside the database; where that
# cannot start either, in one that judges the host alone; where there is none at all, one line of our own says so.
doctor() {
    local facts report image status=0
    check_doctor_arguments "$@"
    PATH+=:/usr/local/bin:/usr/sbin:/sbin # where ufw and sshd lie, and neither cron nor an ordinary user looks
    if ! docker info >/dev/null 2>&1; then
        only_result "Docker 没有响应：请检查其是否运行、您是否有权限" "Docker does not answer: is it running, and may you use it?" "$@"
    fi
    facts=$(host_facts)
    if runs app; then
        report=$(compose exec -T app python -m app doctor --host-facts - "$@" <<<"$facts") || status=$?
        if [[ -n $report ]]; then
            printf '%s\n' "$report"
            return "$status"
        fi
        status=0 # it died beneath us, as one that does not start does over and over
    fi
    image=$(setting KADUN_APP_IMAGE '')
    if ! docker image inspect "$image" >/dev/null 2>&1; then
        only_result "没有镜像 ${image:-KADUN_APP_IMAGE}：请执行 docker compose up -d --wait" \
            "There is no image ${image:-KADUN_APP_IMAGE}: docker compose up -d --wait builds it" "$@"
    fi
    if runs database; then
        report=$(compose --progress quiet run --rm --no-deps -T app python -m app doctor --host-facts - "$@" <<<"$facts") \
            || status=$?
    fi
    if [[ -z ${report:-} ]]; then
        status=0
        report=$(docker run --rm --interactive --network none --read-only --cap-drop ALL "$image" \
            python -m app doctor --host-only --host-facts - "$@" <<<"$facts") || status=$?
    fi
    if [[ -n $report ]]; then printf '%s\n' "$report"; fi
    return "$status"
}

# check_doctor_arguments ARGUMENT…: here, before much work is done. The rest of its options are for us alone.
check_doctor_arguments() {
    while (($#)); do
        case $1 in
            --format) [[ ${2:-} == text || ${2:-} == json ]] || usage_error "--format text|json" && shift ;;
            --format=text | --format=json) ;;
            -h | --help) doctor_help && exit ;;
            *) usage_error "未知参数 unknown argument: $1" ;;
        esac
        shift
    done
}

doctor_help() {
    cat <<'END'
用法 usage: cardctl doctor [--format text|json]

全面检查：证书、时钟、磁盘、备份、端口、权限、代理、数据库、密钥。每项一行：OK 正常，WARN 需留意或无法检查，FAIL 有错误。
Checks the whole installation, a line each: OK, WARN (look at it, or it could not be checked) or FAIL (wrong).
退出码 exit status: 0 没有 FAIL no FAIL, 1 有 FAIL at least one, 2 用法错误 usage
END
}

# runs SERVICE
runs() {
    [[ -n $(compose ps --quiet --status running "$1" 2>/dev/null </dev/null) ]]
}

# only_result CHINESE ENGLISH ARGUMENT…: the whole report where nothing can judge; exit status 1.
only_result() {
    if [[ " ${*:3} " == *json* ]]; then
        printf '[{"check": "containers", "status": "FAIL", "message_zh": %s, "message_en": %s}]\n' \
            "$(json_string "$1")" "$(json_string "$2")"
    else
        printf 'FAIL  containers  %s / %s\n' "$1" "$2"
    fi
    die "发现问题 / Something is wrong: 1 FAIL"
}
