#!/usr/bin/env bash
# 把一台空的服务器准备好：系统更新、Docker、防火墙、时区、对时、自动安全更新、交换文件；可反复运行。
# Prepares an empty server for Kadun: packages, Docker, firewall, clock, security updates, swap. Run it again at any time.
# For Ubuntu 22.04, 24.04, 26.04 and Debian 12, 13; as root.
#
#   sudo scripts/provision.sh [OPTIONS]
#
#   --dry-run                 只显示每一步，不作改动 prints each step without changing anything
#   --timezone ZONE           时区 the time zone (Asia/Shanghai)
#   --ssh-port PORT           另外放行的 SSH 端口，可多次 an SSH port to allow in addition to those in use; may be repeated
#   --mirror-docker-apt URL   国内镜像站，代替 a mirror, instead of https://download.docker.com
#   --mirror-registry URL     Docker Hub 的镜像站 a mirror of Docker Hub
#
# 所调用程序的输出在 The output of the programs goes into /var/log/kadun-provision.log
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
source "$ROOT/scripts/lib/common.sh"

LOG=/var/log/kadun-provision.log
DOCKER_FINGERPRINT=9DC858229FC7DD38854AE2D88D81803C0EBFCD88 # "Docker Release (CE deb)", since 2017
ENGINE_MINIMUM=25.0        # for start_interval in docker-compose.yml
COMPOSE_MINIMUM=2.24.4     # for !override and !reset in an override file
CONNECTIONS_OF_ADDRESS=128 # an IPv4 address or an IPv6 /64; nginx holds 1024 (nginx/nginx.conf)
CONNECTIONS_OF_SITE=256    # an IPv6 /48
RULES=/etc/kadun/connections.nft

step() { printf '[%d/9] %s\n' "$1" "$2"; }

# run COMMAND…: prints and runs it; a dry run only prints it. A failure ends the script unless the caller deals with it.
run() {
    say "      ${DRY_RUN:+演练 dry run: }执行 runs: $*"
    [[ -z $DRY_RUN ]] || return 0
    "$@" </dev/null >>"$LOG" 2>&1 && return
    warn "失败，修正后再运行即可（日志 $LOG）。Failed, run this again once it is put right: $*: $(tail -n 1 "$LOG")"
    return 1
}

# write FILE TEXT
write() {
    say "      ${DRY_RUN:+演练 dry run: }写入 writes: $1"
    [[ -n $DRY_RUN ]] || { mkdir -p "${1%/*}" && printf '%s\n' "$2" >"$1"; }
}

# A chroot has no services to start: they start with the machine.
runs_systemd() { [[ -d /run/systemd/system ]]; }
start() { if runs_systemd; then run systemctl enable --now "$@"; fi; }

# apt-get ARGUMENT…: asks no questions and keeps changed settings files.
apt-get() {
    command apt-get -q -y -o DPkg::Lock::Timeout=600 -o APT::Update::Error-Mode=any \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold --no-install-recommends "$@"
}

docker_is_good() {
    local engine compose
    engine=$(dockerd --version | sed 's/^Docker version \([0-9.]*\).*/\1/') && compose=$(docker compose version --short) \
        && dpkg --compare-versions "$engine" ge "$ENGINE_MINIMUM" && dpkg --compare-versions "${compose#v}" ge "$COMPOSE_MINIMUM" \
        && docker buildx version
} >/dev/null 2>&1

# ssh_ports: configured, systemd's (as on Ubuntu) and listening, a line each. One too many is better than one too few.
ssh_ports() {
    sshd -T 2>/dev/null | sed -nE 's/^(port |listenaddress .*:)([0-9]+)$/\2/p' || true
    if systemctl --quiet is-enabled ssh.socket 2>/dev/null; then
        systemctl show --property=Listen ssh.socket 2>/dev/null | sed -nE 's/.*:([0-9]+) \(Stream\)$/\1/p' || true
    fi
    # Except on the loopback interface, where sshd listens for forwarded ports.
    ss -Hltnp 2>/dev/null | awk '/"(sshd|dropbear)"/ && $4 !~ /^(127\.|\[::1\])/ { sub(/.*:/, "", $4); print $4 }' || true
}

# connection_rules PORTS BALANCER…: the file for nft. Its first lines remove the former table, in the same transaction. A
# balancer brings the connections of all clients, and limits them itself.
connection_rules() {
    local network exempt='' family
    for network in "${@:2}"; do
        if [[ $network == *:* ]]; then family=ip6; else family=ip; fi
        exempt+=$'\n'"        $family saddr $network tcp dport \$ports accept"
    done
    cat <<RULES
# Written by scripts/provision.sh, loaded by kadun-connections.service.
table inet kadun
delete table inet kadun
define ports = { ${1//,/, } }
table inet kadun {
    set ipv4 { type ipv4_addr; size 65535; flags dynamic; }
    set ipv6 { type ipv6_addr; size 65535; flags dynamic; }
    set sites { type ipv6_addr; size 65535; flags dynamic; }
    chain input {
        type filter hook input priority filter - 10; policy accept;
        iifname "lo" accept$exempt
        # Sites first, whose many networks would otherwise fill the sets of the networks.
        tcp dport \$ports ct state new add @sites { ip6 saddr & ffff:ffff:ffff:: ct count over $CONNECTIONS_OF_SITE } counter reject with tcp reset
        tcp dport \$ports ct state new add @ipv6 { ip6 saddr & ffff:ffff:ffff:ffff:: ct count over $CONNECTIONS_OF_ADDRESS } counter reject with tcp reset
        tcp dport \$ports ct state new add @ipv4 { ip saddr ct count over $CONNECTIONS_OF_ADDRESS } counter reject with tcp reset
    }
}
RULES
}

parse_options "dry-run timezone= ssh-port=* mirror-docker-apt= mirror-registry=" "$@"
at_most 0
DRY_RUN=${OPTION[dry-run]:-}
zone=/usr/share/zoneinfo/${OPTION[timezone]:-Asia/Shanghai}
download=${OPTION[mirror-docker-apt]:-https://download.docker.com} registry=${OPTION[mirror-registry]:-}
[[ ! -d /usr/share/zoneinfo || -f $zone ]] || usage_error "没有此时区 no such time zone: ${OPTION[timezone]}"
check_option ssh-port "$PORT" "端口 a port"
# Without user and password: they would appear in public files and in the log. Docker takes no path.
check_option mirror-docker-apt 'https?://[A-Za-z0-9._~:/+-]+' "不含密码的网址 a URL without user or password"
check_option mirror-registry 'https?://[A-Za-z0-9.:-]+' "不含密码与路径的网址 a URL without user, password or path"
require_root
umask 022 # whatever root's is: apt's own user reads the keys, everyone the settings
export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a PATH=$PATH:/usr/sbin:/sbin
read -r system release codename < <(. /etc/os-release && echo "$ID ${VERSION_ID:-?} ${VERSION_CODENAME:-?}") || true
[[ " ubuntu:22.04 ubuntu:24.04 ubuntu:26.04 debian:12 debian:13 " == *" $system:$release "* ]] \
    || die "不支持此系统，未作改动。Nothing was changed: this is for Ubuntu 22.04, 24.04, 26.04 and Debian 12, 13, not for $system $release"
web="$(setting KADUN_HTTP_PORT 80) $(setting KADUN_HTTPS_PORT 443)"
rules=$(ufw show added 2>/dev/null | grep '^ufw ') || true
if grep -q '^ENABLED=no' /etc/ufw/ufw.conf 2>/dev/null && grep -qv "comment 'kadun'" <<<"${rules:-comment 'kadun'}"; then
    die "UFW 未启用却有规则：确认放行 SSH 后执行 ufw enable，或 ufw reset。UFW is off, but has rules: run ufw enable if they let SSH in, or ufw reset"
fi
[[ -n $DRY_RUN ]] || (umask 077 && : >>"$LOG")

step 1 "系统更新 Packages up to date"
# A fresh machine updates its lists at its first start. Apt waits for dpkg's lock only.
while [[ $(lslocks --noheadings --output PATH 2>/dev/null) == */var/lib/apt/lists/lock* ]]; do sleep 5; done
run apt-get update
run apt-get --with-new-pkgs upgrade

step 2 "基本工具 Basic tools"
run apt-get install ca-certificates curl openssl python3 git age cron certbot ufw unattended-upgrades rsync iproute2 nftables \
    tzdata gpg openssh-client apparmor
start cron certbot.timer

step 3 "时区 Time zone"
run ln -sfn "$zone" /etc/localtime
write /etc/timezone "${zone#/usr/share/zoneinfo/}"
if runs_systemd; then run systemctl try-restart cron; fi # it reads the time zone only when it starts

step 4 "时间同步 Time synchronisation" # activations and certificates depend on it
for clock in chrony ntpsec ntp openntpd systemd-timesyncd; do
    if [[ $(dpkg-query -W -f '${db:Status-Status}' "$clock" 2>/dev/null) == installed ]]; then break; fi
done
run apt-get install "$clock"
start "$clock"

step 5 "Docker Engine 与 Compose" # from Docker's own source, which alone is new enough for every release
settings=/etc/docker/daemon.json source=/etc/apt/sources.list.d/docker.sources key=/etc/apt/keyrings/docker.asc
mirrors=${registry:+", \"registry-mirrors\": [\"$registry\"]"}
logs='"log-driver": "local", "log-opts": {"max-size": "10m", "max-file": "5"}'
if [[ ! -e $settings || $(<"$settings") == "{$logs}" ]]; then # before its first start
    write "$settings" "{$logs$mirrors}"
elif [[ -n $registry ]] && ! grep -qF "$registry" "$settings"; then
    die "$settings 已存在，请自行加入后再运行。It exists, add to it and run this again${mirrors/,/:}"
fi
if ! docker_is_good; then
    url=${download%/}/linux/$system
    run curl -fsSL --retry 2 --max-time 60 --create-dirs -o "$key.new" "$url/gpg"
    # Of every key in the file: apt would trust each.
    prints=$(gpg --batch --show-keys --with-colons "$key.new" 2>/dev/null | awk -F: '$1 == "pub" { getline; print $10 }') || true
    [[ -n $DRY_RUN || $prints == "$DOCKER_FINGERPRINT" ]] \
        || die "指纹不符，这不是 Docker 的密钥，请换镜像站。Not Docker's key ($DOCKER_FINGERPRINT), name another mirror: $url/gpg"
    run mv -fT "$key.new" "$key"
    write "$source" "$(printf '%s\n' "Types: deb" "URIs: $url" "Suites: $codename" "Components: stable" "Signed-By: $key")"
    run apt-get update || { rm -f "$source" && exit 1; } # it would make every later use of apt fail
    run apt-get install docker-ce docker-ce-cli containerd.io docker-buildx-plugin docker-compose-plugin
fi
start docker
if runs_systemd; then run systemctl reload docker; fi # for the mirror, where it ran before

step 6 "防火墙 Firewall" # lets in SSH, HTTP and HTTPS only, over IPv4 and IPv6
run sed -i 's/^IPV6=.*/IPV6=yes/' /etc/default/ufw
ssh=$(ssh_ports | sort -nu)
for port in ${ssh:-22} ${OPTION[ssh-port]:-} $web; do
    # A port that a rule names is its owner's choice.
    if ! grep -qE "[ ,]$port([/,: ]|\$)" <<<"$rules"; then run ufw allow "$port/tcp" comment kadun; fi
done
run ufw default deny incoming # afterwards: a firewall that is on obeys at once, and this SSH session must survive
if runs_systemd; then run ufw --force enable; else run sed -i 's/^ENABLED=.*/ENABLED=yes/' /etc/ufw/ufw.conf; fi

step 7 "每个地址的连接数 Connections of one address"
# nginx counts complete requests only: the kernel alone can refuse a connection before it costs nginx memory.
unit=kadun-connections.service
read -ra balancers < <(setting KADUN_PROXY_FROM | tr ',' ' ') || true
# The ports of other stacks on this machine stay limited.
others=$(sed -n 's/^define ports = { \(.*\) }/\1/p' "$RULES" 2>/dev/null || true)
table=$(connection_rules "$(tr -s ', ' '\n' <<<"$others $web" | sed /^$/d | sort -nu | paste -sd,)" "${balancers[@]}")
write "$RULES" "$table"
write "/etc/systemd/system/$unit" "[Unit]
Description=Limit of the connections of one address to Kadun's nginx
After=nftables.service ufw.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft --file $RULES
ExecStop=/usr/sbin/nft delete table inet kadun
[Install]
WantedBy=multi-user.target"
run systemctl enable "$unit"
if runs_systemd; then
    run systemctl daemon-reload
    run systemctl restart "$unit" \
        || say "      未限制：KADUN_PROXY_FROM 有误，或内核不支持 ct count。Not limited: KADUN_PROXY_FROM is wrong, or the kernel lacks ct count (journalctl -u $unit)"
fi

step 8 "自动安全更新 Unattended security updates"
write /etc/apt/apt.conf.d/99kadun-periodic 'APT::Periodic::Update-Package-Lists "1";
APT::Periodic::Unattended-Upgrade "1";'
start apt-daily.timer apt-daily-upgrade.timer

step 9 "交换文件 Swap file" # for a machine with little memory and enough disk
if (($(wc -l </proc/swaps) == 1 && $(awk '/^MemTotal:/ { print $2 }' /proc/meminfo) < 2048 * 1024)) \
    && (($(df --output=avail -BM / | tr -dc '0-9\n' | tail -n 1) > 4096)) && ! grep -q '^/swapfile ' /etc/fstab; then
    run install -m 600 /dev/null /swapfile
    run fallocate -l 2GiB /swapfile
    run mkswap /swapfile
    # Where it cannot be used, as on btrfs, `run` says so.
    if ! runs_systemd || run swapon /swapfile; then run sh -c 'printf "\n/swapfile none swap sw 0 0\n" >>/etc/fstab'; fi
else
    say "      未创建 none is made: 内存或交换已足够，或磁盘不足 4 GB there is enough memory or swap, or less than 4 GB of disk"
fi

[[ -z $DRY_RUN ]] || { say "以上为演练，未作改动。That was a dry run: nothing was changed."; exit; }
if [[ -e /var/run/reboot-required ]]; then say "请择时重启，新内核才生效。Reboot when it suits: an updated kernel waits for it."; fi
say "服务器已就绪。The server is ready."
[[ -e $ROOT/.env ]] || say "下一步 next: scripts/init.sh --domain YOUR.DOMAIN"
