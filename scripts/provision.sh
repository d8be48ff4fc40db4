#!/usr/bin/env bash
# 把一台空的服务器准备好：系统更新、Docker、防火墙、时区、对时、自动安全更新、交换文件；可反复运行。
# Prepares an empty server for Kadun: packages, Docker, firewall, clock, security updates, swap. A second run changes
# nothing. For Ubuntu 22.04, 24.04, 26.04 and Debian 12, 13; as root.
#
#   sudo scripts/provision.sh [--dry-run] [--timezone Asia/Shanghai] [--docker docker|distribution] [--mirror-… URL]…
#
#   --dry-run                 只显示每一步，不作改动 prints each step without changing anything
#   --timezone ZONE           时区 the time zone (Asia/Shanghai)
#   --docker docker           从 Docker 官方软件源安装（默认） from Docker's own apt source, the default
#   --docker distribution     从发行版安装（Debian 12 不行） from the distribution's packages; not on Debian 12
#   --ssh-port PORT           另外放行的 SSH 端口，可多次 an SSH port to allow in addition to those in use; may be repeated
#
# 国内镜像站，各自可选 Mirrors, each optional:
#   --mirror-apt URL          发行版软件源，以 /debian 或 /ubuntu 结尾 instead of the distribution's own source;
#                             Debian's security updates then come from URL-security
#   --mirror-docker-apt URL   代替 instead of https://download.docker.com
#   --mirror-registry URL     Docker Hub 的镜像站 a mirror of Docker Hub, for /etc/docker/daemon.json
#   --mirror-pip URL          Python 包索引 the Python package index, for .env
#
# 防火墙只放行 SSH、HTTP、HTTPS（端口取自 .env，默认 80 和 443）；先放行正在使用的 SSH 端口再启用。另限制每个地址到 HTTP、HTTPS 的连接数。
# The firewall lets in SSH, HTTP and HTTPS only (the ports in .env, or 80 and 443). Each SSH port in use is allowed before
# the firewall is enabled. It also limits the connections of one address to HTTP and HTTPS. The output of the
# programs goes into /var/log/kadun-provision.log.
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
# shellcheck source=scripts/lib/provision-connections.sh
source "$ROOT/scripts/lib/provision-connections.sh"
# shellcheck source=scripts/lib/provision-host.sh
source "$ROOT/scripts/lib/provision-host.sh"

STEPS=(apt_mirror upgrade tools docker_settings docker firewall connections timezone clock security_updates swap pip_mirror)

# shellcheck disable=SC2034  # for the steps
take_options() {
    local name
    parse_options "dry-run timezone= docker= ssh-port=* mirror-apt= mirror-docker-apt= mirror-registry= mirror-pip=" "$@"
    at_most 0
    DRY_RUN=${OPTION[dry-run]:-} TIMEZONE=${OPTION[timezone]:-Asia/Shanghai} DOCKER=${OPTION[docker]:-docker}
    check_timezone "$TIMEZONE"
    check_docker "$DOCKER"
    mapfile -t SSH_PORTS < <(printf '%s' "${OPTION[ssh-port]:-}")
    for name in "${SSH_PORTS[@]}"; do check_port "$name"; done
    for name in apt docker-apt registry pip; do
        [[ -z ${OPTION[mirror-$name]:-} ]] || check_url "${OPTION[mirror-$name]}"
    done
    [[ -z ${OPTION[mirror-registry]:-} ]] || check_registry "${OPTION[mirror-registry]}"
    MIRROR_APT=${OPTION[mirror-apt]:-} MIRROR_DOCKER_APT=${OPTION[mirror-docker-apt]:-}
    MIRROR_REGISTRY=${OPTION[mirror-registry]:-} MIRROR_PIP=${OPTION[mirror-pip]:-}
    MIRROR_APT=${MIRROR_APT%/} MIRROR_DOCKER_APT=${MIRROR_DOCKER_APT%/} MIRROR_REGISTRY=${MIRROR_REGISTRY%/}
}

check_timezone() {
    [[ $1 =~ ^[A-Za-z0-9+_-]+(/[A-Za-z0-9+_-]+)*$ && ( ! -d /usr/share/zoneinfo || -f /usr/share/zoneinfo/$1 ) ]] \
        || usage_error "没有此时区 no such time zone: $1"
}

check_docker() {
    [[ $1 == docker || $1 == distribution ]] || usage_error "--docker 须为 docker 或 distribution must be docker or distribution"
}

check_port() {
    if [[ $1 =~ ^[1-9][0-9]{0,4}$ ]] && (($1 <= 65535)); then return; fi
    usage_error "端口须为 1–65535 a port must be a number from 1 to 65535: $1"
}

# check_url URL: without user and password, which would appear in the process list, in public files and in the log.
check_url() {
    [[ $1 =~ ^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]+)?(/[A-Za-z0-9._~/+-]*)?$ ]] \
        || usage_error "须为不含密码的 http(s) 地址 an http(s) URL without user or password: $1"
}

check_registry() {
    [[ ${1#*://} != */?* ]] || usage_error "--mirror-registry 只写主机 a host only, no path: $1"
}

# check_machine: refuses other systems before anything changes.
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

# report: tells what is left to do.
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
    take_options "$@"
    check_machine
    # --dry-run writes nothing, and the first run comes before data/.
    if [[ -e $ROOT/data/.provision.lock || -d $ROOT/data && -z $DRY_RUN ]]; then open_lock provision; else exec {LOCK}<"$ROOT"; fi
    flock -w 30 "$LOCK" || die "另一个脚本正在此运行，请稍候再试。Another script is at work here: try again when it is done"
    prepare
    STEPS_IN_ALL=${#STEPS[@]}
    for name in "${STEPS[@]}"; do
        "step_$name"
    done
    report
}

main "$@"
