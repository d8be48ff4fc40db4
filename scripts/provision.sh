#!/usr/bin/env bash
# 把一台空的服务器准备好：系统更新、Docker、防火墙、时区、对时、自动安全更新、交换文件；可反复运行。
# Prepares an empty server for Kadun: packages, Docker, firewall, clock, security updates, swap. A second run changes
# nothing. For Ubuntu 22.04, 24.04, 26.04 and Debian 12, 13; as root.
#
#   sudo scripts/provision.sh [--dry-run] [--timezone Asia/Shanghai] [--ssh-port PORT]… [--mirror-… URL]…
#
#   --dry-run                 只显示每一步，不作改动 prints each step without changing anything
#   --timezone ZONE           时区 the time zone (Asia/Shanghai)
#   --ssh-port PORT           另外放行的 SSH 端口，可多次 an SSH port to allow in addition to those in use; may be repeated
#
# 国内镜像站，各自可选 Mirrors, each optional:
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
# shellcheck source=scripts/lib/provision.sh
source "$ROOT/scripts/lib/provision.sh"
# shellcheck source=scripts/lib/docker.sh
source "$ROOT/scripts/lib/docker.sh"
# shellcheck source=scripts/lib/connections.sh
source "$ROOT/scripts/lib/connections.sh"

# gpg checks Docker's key, jq is for Docker's settings, zstd packs image archives, openssh-client moves the service.
TOOLS=(ca-certificates curl openssl python3 git age cron certbot ufw unattended-upgrades rsync iproute2 nftables tzdata gpg jq zstd
    openssh-client)
SWAP_MIB=2048
STEPS=(packages tools docker firewall connections timezone clock security_updates swap)

step_packages() {
    step "系统更新" "Packages up to date"
    local waiting
    if [[ -n $(dpkg --audit 2>/dev/null) ]]; then # an upgrade was interrupted
        run dpkg --configure -a --force-confdef --force-confold
        run apt-get --fix-broken install
    fi
    look_up
    # Without its planner's log: a dry run writes nothing.
    waiting=$(command apt-get -s -o Dir::Log::Planner=/dev/null --with-new-pkgs upgrade 2>/dev/null | grep -c '^Inst ' || true)
    if ((waiting)); then run apt-get --with-new-pkgs upgrade; fi
}

step_tools() {
    step "基本工具" "Basic tools"
    install_missing "${TOOLS[@]}"
    start cron certbot.timer
}

# step_docker: from Docker's own source, which alone has a new enough Engine and Compose for every release. What is new enough
# is left alone, wherever it came from.
step_docker() {
    step "Docker Engine 与 Compose" "Docker Engine and Compose"
    merge_docker_settings # before its first start
    if ! docker_is_good; then
        add_docker_source "${OPTION[mirror-docker-apt]:-https://download.docker.com}"
        # Without apparmor's parser a kernel with AppArmor starts no container.
        install_missing docker-ce docker-ce-cli containerd.io docker-buildx-plugin docker-compose-plugin apparmor
        [[ -n $DRY_RUN ]] || docker_is_good || die "Docker 或 Compose 版本太旧。Too old, or incomplete: Kadun needs Docker Engine $ENGINE_MINIMUM, Compose $COMPOSE_MINIMUM and buildx"
    fi
    start docker
    [[ -z ${OPTION[mirror-pip]:-} ]] || use_index "${OPTION[mirror-pip]}"
}

# use_index URL: where the image's build gets Python packages from; until scripts/init.sh makes .env, it is kept in data/.
use_index() {
    local file=$ROOT/data/pip-index-url
    if [[ ! -e $ROOT/.env ]]; then
        write "$file" "$1"
        [[ -n $DRY_RUN ]] || chown --reference="$ROOT" "$ROOT/data" "$file" # its owner may run init.sh
    elif [[ $(setting_in "$ROOT/.env" PIP_INDEX_URL) != "$1" ]]; then
        run set_setting PIP_INDEX_URL "$1" "$ROOT/.env"
    fi
}

# step_firewall: lets in SSH, HTTP and HTTPS only, and out everything, for IPv4 and IPv6.
step_firewall() {
    step "防火墙" "Firewall"
    local port added is_on='' anew=''
    local -a ports
    added=$(if command -v ufw >/dev/null; then ufw show added; fi)
    if runs_systemd && systemctl is-active --quiet firewalld; then
        die "firewalld 正在运行，请二选一：systemctl disable --now firewalld。firewalld runs here, and UFW is set up: keep one of them"
    fi
    if grep -q '^ENABLED=yes' /etc/ufw/ufw.conf 2>/dev/null; then is_on=yes; fi
    [[ -n $is_on ]] || ! grep -qE '^ufw (insert [0-9]+ |prepend )?(deny|reject) ' <<<"$added" \
        || die "UFW 未启用却已有 deny 规则，可能挡住 SSH，请先查看 ufw show added。UFW is off and holds deny rules, which may shut SSH out: look at ufw show added first"
    if ! grep -q '^IPV6=yes' /etc/default/ufw 2>/dev/null; then
        anew=yes # rules were made without IPv6: make them again
        run set_setting IPV6 yes /etc/default/ufw
    fi
    mapfile -t ports < <(ssh_ports)
    ((${#ports[@]})) || ports=(22) # for the server to come
    tell "SSH 端口 SSH listens on: ${ports[*]}"
    for port in "${ports[@]}" "$(env_port KADUN_HTTP_PORT 80)" "$(env_port KADUN_HTTPS_PORT 443)"; do
        if grep -qE "^ufw (allow|limit) (in )?$port(/tcp)?( comment .*)?\$" <<<"$added"; then
            [[ -n $anew ]] || continue
        elif [[ -n $is_on ]] && grep -qE "[ ,]$port([/,: ]|\$)" <<<"$added"; then
            continue # its owner's choice
        fi
        change_firewall allow "$port/tcp" comment kadun
    done
    # Afterwards, since an active firewall applies it at once, and this SSH session must survive.
    grep -q '^DEFAULT_INPUT_POLICY="DROP"' /etc/default/ufw 2>/dev/null || change_firewall default deny incoming
    grep -q '^DEFAULT_OUTPUT_POLICY="ACCEPT"' /etc/default/ufw 2>/dev/null || change_firewall default allow outgoing
    if runs_systemd; then
        grep -q '^Status: active' <<<"$(ufw status 2>/dev/null)" || run ufw --force enable
        systemctl is-enabled --quiet ufw || run systemctl enable ufw
    else # a chroot would change its host's firewall
        grep -q '^ENABLED=yes' /etc/ufw/ufw.conf 2>/dev/null || run set_setting ENABLED yes /etc/ufw/ufw.conf
        not_possible "启用防火墙，开机时启用; switching the firewall on, which happens at the next boot"
    fi
}

# change_firewall ARGUMENT…: of ufw. One that is enabled but not loaded refuses new rules.
change_firewall() {
    if grep -q '^ENABLED=yes' /etc/ufw/ufw.conf 2>/dev/null && grep -q '^Status: inactive' <<<"$(ufw status)"; then
        run set_setting ENABLED no /etc/ufw/ufw.conf
    fi
    run ufw "$@"
}

step_timezone() {
    step "时区" "Time zone"
    [[ $(readlink -f /etc/localtime) != "/usr/share/zoneinfo/$TIMEZONE" ]] || return 0
    [[ -n $DRY_RUN || -f /usr/share/zoneinfo/$TIMEZONE ]] || die "没有此时区 no such time zone: $TIMEZONE"
    run ln -sfn "/usr/share/zoneinfo/$TIMEZONE" /etc/localtime
    write /etc/timezone "$TIMEZONE"
    if runs_systemd; then run systemctl try-restart cron; fi # it reads the time zone only when it starts
}

# step_clock: activations and certificates depend on it.
step_clock() {
    step "时间同步" "Time synchronisation"
    local package unit=systemd-timesyncd
    for package in chrony ntpsec ntp openntpd; do
        if installed "$package"; then unit=$package && break; fi
    done
    install_missing "$unit"
    if in_container; then not_possible "对时由宿主机负责; keeping the clock, which is the host's affair"; else start "$unit"; fi
}

step_security_updates() {
    step "自动安全更新" "Unattended security updates"
    local name
    for name in Update-Package-Lists Unattended-Upgrade; do
        [[ $(apt-config dump --format '%v' "APT::Periodic::$name") =~ ^([1-9][0-9]*|always)$ ]] && continue
        write /etc/apt/apt.conf.d/99kadun-periodic '// Kadun, scripts/provision.sh: daily unattended security updates.
APT::Periodic::Update-Package-Lists "1";
APT::Periodic::Unattended-Upgrade "1";'
        break
    done
    start apt-daily.timer apt-daily-upgrade.timer
}

# step_swap: for a machine with little memory.
step_swap() {
    step "交换文件" "Swap file"
    local file=/swapfile kind free_mib
    (($(wc -l </proc/swaps) == 1 && $(awk '$1 == "MemTotal:" { print $2 }' /proc/meminfo) < 2048 * 1024)) || return 0
    if in_container; then
        not_possible "容器的内存由宿主机负责; swap, which is the host's affair"
        return
    fi
    if ! grep -qE "^${file}[[:space:]]" /etc/fstab 2>/dev/null; then
        [[ ! -e $file ]] || die "$file 已存在但未使用，请先移走。It exists and is not in use: move it away first"
        read -r kind free_mib < <(echo "$(stat -f -c %T /)" "$(df --output=avail -BM / | tr -dc '0-9\n' | tail -n 1)")
        if [[ $kind != ext2/ext3 && $kind != xfs ]] || ((free_mib < 2 * SWAP_MIB)); then
            not_possible "在 $kind 上、剩余 $free_mib MiB 时建交换文件，请自行添加; a swap file on $kind with $free_mib MiB free: add one by hand"
            return
        fi
        run install -m 600 /dev/null "$file.new"
        run fallocate -l "${SWAP_MIB}MiB" "$file.new"
        run mkswap "$file.new"
        run mv "$file.new" "$file"
        write /etc/fstab "$(cat /etc/fstab 2>/dev/null)"$'\n'"$file none swap sw 0 0"
    fi
    if runs_systemd; then run swapon "$file"; else not_possible "启用交换文件，开机时启用; switching swap on, which happens at the next boot"; fi
}

take_options() {
    local name
    parse_options "dry-run timezone= ssh-port=* mirror-docker-apt= mirror-registry= mirror-pip=" "$@"
    at_most 0
    DRY_RUN=${OPTION[dry-run]:-} TIMEZONE=${OPTION[timezone]:-Asia/Shanghai}
    [[ $TIMEZONE =~ ^[A-Za-z0-9+_-]+(/[A-Za-z0-9+_-]+)*$ && ( ! -d /usr/share/zoneinfo || -f /usr/share/zoneinfo/$TIMEZONE ) ]] \
        || usage_error "没有此时区 no such time zone: $TIMEZONE"
    for name in ${OPTION[ssh-port]:-}; do
        [[ $name =~ ^[1-9][0-9]{0,4}$ && $name -le 65535 ]] || usage_error "端口须为 1–65535 a port must be a number from 1 to 65535: $name"
    done
    for name in docker-apt registry pip; do # without user and password: they would appear in public files and in the log
        [[ ${OPTION[mirror-$name]:-http://x} =~ ^https?://([A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(:[0-9]+)?(/[A-Za-z0-9._~/+-]*)?$ ]] \
            || usage_error "须为不含密码的 http(s) 地址 an http(s) URL without user or password: ${OPTION[mirror-$name]}"
    done
    name=${OPTION[mirror-registry]:-}
    [[ ${name#*://} != */?* ]] || usage_error "--mirror-registry 只写主机 a host only, no path: $name"
}

# check_machine: refuses other systems before anything changes.
check_machine() {
    [[ $EUID == 0 ]] || die "请以 root 运行：sudo scripts/provision.sh。Run it as root: sudo scripts/provision.sh"
    SYSTEM=$(os_release ID) CODENAME=$(os_release VERSION_CODENAME)
    case $SYSTEM:$(os_release VERSION_ID) in
        ubuntu:22.04 | ubuntu:24.04 | ubuntu:26.04 | debian:12 | debian:13) ;;
        *) die "不支持此系统，未作改动。Nothing was changed: this is for Ubuntu 22.04, 24.04, 26.04 and Debian 12, 13, not for ${SYSTEM:-an unknown system} $(os_release VERSION_ID)" ;;
    esac
}

main() {
    local name
    take_options "$@"
    check_machine
    # --dry-run writes nothing, and the first run comes before data/.
    if [[ -e $ROOT/data/.provision.lock || -d $ROOT/data && -z $DRY_RUN ]]; then open_lock provision; else exec {LOCK}<"$ROOT"; fi
    flock -w 30 "$LOCK" || die "另一个脚本正在此运行，请稍候再试。Another script is at work here: try again when it is done"
    prepare
    for name in "${STEPS[@]}"; do
        CHANGED=''
        "step_$name"
        [[ -n $CHANGED ]] || tell "已是如此 already so"
    done
    echo
    if [[ -n $DRY_RUN ]]; then
        echo "以上为演练，未作改动。That was a dry run: nothing was changed."
        return
    fi
    for name in "${NOT_POSSIBLE[@]}"; do printf '此处无法 not possible here: %s\n' "$name"; done
    if [[ -e /var/run/reboot-required ]]; then
        echo "请择时重启：新的内核或系统库要重启后生效。Reboot when it suits: an updated kernel or library waits for it."
    fi
    echo "服务器已就绪。The server is ready."
    [[ -e $ROOT/.env ]] || echo "下一步 next: $(printf '%q' "$ROOT/scripts/init.sh") --domain YOUR.DOMAIN"
}

main "$@"
