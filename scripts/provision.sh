#!/usr/bin/env bash
# 把一台空的服务器准备好：系统更新、Docker、防火墙、时区、对时、自动安全更新、交换文件；可反复运行。
# Makes an empty server ready for Kadun: packages, Docker, firewall, clock, security updates, swap. Run again,
# it finds what is so already and changes nothing. Ubuntu 22.04, 24.04, 26.04, Debian 12, 13; as root.
#
#   sudo scripts/provision.sh [--dry-run] [--timezone Asia/Shanghai] [--docker docker|distribution] [--mirror-… URL]…
#
#   --dry-run                 只显示每一步，不作改动 prints each step and changes nothing
#   --timezone ZONE           时区 the time zone (Asia/Shanghai)
#   --docker docker           从 Docker 官方软件源安装（默认） from Docker's own apt source, the default
#   --docker distribution     从发行版安装（Debian 12 不行） from the distribution's packages; not on Debian 12
#   --ssh-port PORT           另外放行的 SSH 端口，可多次 one more SSH port to allow; those in use are found
#
# 国内镜像站，各自可选 Mirrors, each optional:
#   --mirror-apt URL          发行版软件源，以 /debian 或 /ubuntu 结尾 in place of the distribution's own source;
#                             Debian's security updates then come from URL-security
#   --mirror-docker-apt URL   代替 in place of https://download.docker.com
#   --mirror-registry URL     Docker Hub 的镜像站 a mirror of Docker Hub, which goes into /etc/docker/daemon.json
#   --mirror-pip URL          Python 包索引 the Python package index, for .env
#
# 防火墙只放行 SSH、HTTP、HTTPS（端口取自 .env，默认 80 和 443）；先放行正在使用的 SSH 端口再启用。
# The firewall lets in SSH, HTTP and HTTPS (the ports in .env, or 80 and 443). Each SSH port in use is allowed
# before it is switched on. What the programs print goes into /var/log/kadun-provision.log.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/common.sh
source "$ROOT/scripts/lib/common.sh"
# shellcheck source=scripts/lib/provision-core.sh
source "$ROOT/scripts/lib/provision-core.sh"
# shellcheck source=scripts/lib/provision-apt.sh
source "$ROOT/scripts/lib/provision-apt.sh"
# shellcheck source=scripts/lib/provision-docker.sh
source "$ROOT/scripts/lib/provision-docker.sh"
# shellcheck source=scripts/lib/provision-firewall.sh
source "$ROOT/scripts/lib/provision-firewall.sh"
# shellcheck source=scripts/lib/provision-host.sh
source "$ROOT/scripts/lib/provision-host.sh"

STEPS=(apt_mirror upgrade tools docker_settings docker firewall timezone clock security_updates swap pip_mirror)

# chosen by the arguments
TIMEZONE=Asia/Shanghai DOCKER=docker MIRROR_APT='' MIRROR_DOCKER_APT='' MIRROR_REGISTRY='' MIRROR_PIP=''
SSH_PORTS=()

parse_arguments() {
    while (($#)); do
        case $1 in
            -h | --help) print_help "$ROOT/scripts/provision.sh"; exit ;;
            --dry-run) DRY_RUN=yes && shift && continue ;;
            --timezone | --docker | --ssh-port | --mirror-apt | --mirror-docker-apt | --mirror-registry | --mirror-pip)
                [[ -n ${2:-} ]] || usage_error "缺少参数 a value is missing: $1" ;;
            *) usage_error "未知参数 unknown argument: $1" ;;
        esac
        case $1 in
            --timezone) check_timezone "$2" && TIMEZONE=$2 ;;
            --docker) check_docker "$2" && DOCKER=$2 ;;
            --ssh-port) check_port "$2" && SSH_PORTS+=("$2") ;;
            --mirror-apt) check_url "$2" && MIRROR_APT=${2%/} ;;
            --mirror-docker-apt) check_url "$2" && MIRROR_DOCKER_APT=${2%/} ;;
            --mirror-registry) check_url "$2" && check_registry "$2" && MIRROR_REGISTRY=${2%/} ;;
            --mirror-pip) check_url "$2" && MIRROR_PIP=$2 ;;
        esac
        shift 2
    done
}

check_timezone() {
    [[ $1 =~ ^[A-Za-z0-9+_-]+(/[A-Za-z0-9+_-]+)*$ && ( ! -d /usr/share/zoneinfo || -f /usr/share/zoneinfo/$1 ) ]] \
        || usage_error "没有此时区 no such time zone: $1"
}

check_docker() {
    [[ $1 == docker || $1 == distribution ]] || usage_error "--docker 须为 docker 或 distribution; it is docker or distribution"
}

check_port() {
    if [[ $1 =~ ^[1-9][0-9]{0,4}$ ]] && (($1 <= 65535)); then return; fi
    usage_error "端口须为 1–65535 a port is a number from 1 to 65535: $1"
}

# No user or password in it: it would stand in the process list, in files that all may read, and in the log.
check_url() {
    [[ $1 =~ ^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]+)?(/[A-Za-z0-9._~/+-]*)?$ ]] \
        || usage_error "须为不含密码的 http(s) 地址 an http(s) URL without user or password: $1"
}

check_registry() {
    [[ ${1#*://} != */?* ]] || usage_error "--mirror-registry 只写主机 a host only, no path: $1"
}

# check_machine: refuses what this was not made for, before anything changes.
check_machine() {
    [[ $EUID == 0 ]] || die "请以 root 运行：sudo scripts/provision.sh。Run it as root: sudo scripts/provision.sh"
    SYSTEM=$(os_release ID) RELEASE=$(os_release VERSION_ID) CODENAME=$(os_release VERSION_CODENAME)
    case $SYSTEM:$RELEASE in
        ubuntu:22.04 | ubuntu:24.04 | ubuntu:26.04 | debian:12 | debian:13) ;;
        *) die "不支持此系统，未作改动。Nothing was changed: this is for Ubuntu 22.04, 24.04, 26.04 and Debian 12, 13, not for ${SYSTEM:-an unknown system} $RELEASE" ;;
    esac
    [[ $DOCKER != distribution || $SYSTEM:$RELEASE != debian:12 ]] \
        || die "Debian 12 自带的 Docker 与 Compose 太旧：请去掉 --docker distribution。Debian 12's own Docker and Compose are too old: leave --docker distribution out"
}

# os_release NAME: a value from /etc/os-release, which is a shell script by definition (os-release(5)).
os_release() {
    # shellcheck source=/dev/null
    [[ ! -r /etc/os-release ]] || (unset "$1" && . /etc/os-release && printf '%s' "${!1-}")
}

# report: the last words.
report() {
    local line
    echo
    if [[ -n $DRY_RUN ]]; then
        echo "以上为演练，未作改动。That was a dry run: nothing was changed."
        return
    fi
    for line in "${NOT_POSSIBLE[@]}"; do
        printf '此处无法 not possible here: %s\n' "$line"
    done
    if [[ -e /var/run/reboot-required ]]; then
        echo "请择时重启：新的内核或系统库要重启后生效。Reboot when it suits: an updated kernel or library waits for it."
    fi
    echo "服务器已就绪。The server is ready."
    [[ -e $ROOT/.env ]] || echo "下一步 next: $(printf '%q' "$ROOT/scripts/init.sh") --domain YOUR.DOMAIN"
}

main() {
    local name
    parse_arguments "$@"
    check_machine
    exec {lock}<"$ROOT"
    flock -w 30 "$lock" || die "另一个脚本正在此运行，请稍候再试。Another script is at work here: try again when it is done"
    prepare
    STEPS_IN_ALL=${#STEPS[@]}
    for name in "${STEPS[@]}"; do
        "step_$name"
    done
    report
}

main "$@"
