# shellcheck shell=bash
# The options of scripts/init.sh. Sourced after common.sh, secrets.sh and selfsigned.sh, never run.

# take_options OPTION…: sets `wanted`, `domains`, `join` and DATABASE_HOSTS.
take_options() {
    local name value
    parse_options "domain=* http-port= https-port= project= host= database-host= join= fingerprint=* identity=" "$@"
    at_most 0
    mapfile -t domains < <(printf '%s' "${OPTION[domain]:-}")
    for name in "${domains[@]}"; do check_domain "$name"; done
    for name in http-port:KADUN_HTTP_PORT https-port:KADUN_HTTPS_PORT project:COMPOSE_PROJECT_NAME host:KADUN_HOST; do
        value=${OPTION[${name%%:*}]:-}
        [[ -z $value ]] || wanted[${name#*:}]=$value
    done
    check_wanted
    is_host_name "${wanted[KADUN_HOST]:-unnamed}" \
        || usage_error "--host 须为 1–57 个字母、数字、.、- 或 _ --host must be 1 to 57 letters, digits, dots, dashes or underscores: ${wanted[KADUN_HOST]}"
    check_join_options
    if [[ -n ${OPTION[database-host]:-} ]]; then
        check_hosts "${OPTION[database-host]}"
        # shellcheck disable=SC2034 # secrets.sh's
        DATABASE_HOSTS=${OPTION[database-host]}
    fi
}

# check_wanted: the ports and the project's name.
check_wanted() {
    check_port "${wanted[KADUN_HTTP_PORT]:-80}"
    check_port "${wanted[KADUN_HTTPS_PORT]:-443}"
    check_project "${wanted[COMPOSE_PROJECT_NAME]:-kadun}"
    [[ ${wanted[KADUN_HTTP_PORT]:-80} != "${wanted[KADUN_HTTPS_PORT]:-443}" ]] \
        || usage_error "两个端口不能相同 the two ports must differ"
}

# check_join_options: the bundle says where the database is, and brings the certificate. Sets `join`, the bundle.
check_join_options() {
    local name
    for name in identity fingerprint; do
        [[ -z ${OPTION[$name]:-} || -n ${OPTION[join]:-} ]] || usage_error "--$name 只用于 --join is for --join"
    done
    for name in domain database-host; do
        [[ -z ${OPTION[$name]:-} || -z ${OPTION[join]:-} ]] || usage_error "--$name 不能与 --join 并用 contradicts --join"
    done
    join=${OPTION[join]:-}
    [[ -z $join || -n ${OPTION[fingerprint]:-} ]] \
        || usage_error "--join 须有 --fingerprint KEY，见 export.sh --join 打印的命令 --join needs --fingerprint KEY, as in the line that export.sh --join printed"
    [[ -z $join || $join == - ]] || join=$(absolute "$join")
    [[ -z ${OPTION[identity]:-} ]] || OPTION[identity]=$(absolute "${OPTION[identity]}")
}

check_port() {
    if [[ $1 =~ ^[1-9][0-9]{0,4}$ ]] && (($1 <= 65535)); then return; fi
    usage_error "端口须为 1–65535 a port must be a number from 1 to 65535: $1"
}

check_project() {
    [[ $1 =~ ^[a-z0-9][a-z0-9_-]*$ ]] || usage_error "项目名只能含小写字母、数字、- 和 _ a project name consists of a–z, 0–9, - and _: $1"
}

check_domain() {
    [[ ${#1} -le 253 && $1 =~ ^(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$ ]] || is_ipv6 "$1" \
        || usage_error "不是域名或 IP not a host name (write 中文 names as xn--…) or IP address: $1"
}
