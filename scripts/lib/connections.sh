# shellcheck shell=bash
# provision.sh's step that limits the connections of one address to nginx. Sourced, never run.
#
# nginx counts requests with a complete header only: the kernel alone can refuse a connection before it costs nginx memory. A
# table of its own in nftables, beside UFW's and Docker's: it can refuse connections to nginx's ports, and nothing else.

CONNECTIONS_OF_ADDRESS=128 # an IPv4 address or an IPv6 /64; nginx holds 1024 (nginx/nginx.conf)
CONNECTIONS_OF_SITE=256    # an IPv6 /48
CONNECTION_RULES=/etc/kadun/connections.nft

# step_connections: writes the rules, and a unit that loads them at each boot.
step_connections() {
    step "每个地址的连接数" "Connections of one address"
    local rules unit=/etc/systemd/system/kadun-connections.service
    # What `systemctl enable` makes; the command may be missing where systemd does not run.
    local link=/etc/systemd/system/multi-user.target.wants/kadun-connections.service
    local -a ports=() balancers=()
    mapfile -t ports < <(connection_ports)
    if [[ -e $ROOT/.env ]]; then read -ra balancers < <(setting_in "$ROOT/.env" KADUN_PROXY_FROM | tr ',' ' ') || true; fi
    rules=$(connection_rules "${ports[*]}" "${balancers[@]}") # by itself, so that its end is the script's
    write "$CONNECTION_RULES" "$rules"
    write "$unit" "[Unit]
Description=Limit of the connections of one address to Kadun's nginx
After=nftables.service ufw.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft --file $CONNECTION_RULES
ExecReload=/usr/sbin/nft --file $CONNECTION_RULES
ExecStop=/usr/sbin/nft delete table inet kadun

[Install]
WantedBy=multi-user.target"
    if [[ ! -e $link ]]; then
        run mkdir -p "${link%/*}"
        run ln -sf "$unit" "$link"
    fi
    if ! runs_systemd; then
        not_possible "限制连接数，开机时启用; limiting connections, which happens at the next boot"
    elif [[ -n $CHANGED ]] || ! nft list table inet kadun >/dev/null 2>&1; then
        run systemctl daemon-reload
        attempt systemctl restart "${unit##*/}" \
            || not_possible "限制连接数：内核不支持 nftables 的 ct count; limiting connections: this kernel lacks nftables' ct count"
    fi
}

# connection_ports: those in .env, and those of other stacks or of before, a line each. A limit on an unused port does no harm.
connection_ports() {
    {
        env_port KADUN_HTTP_PORT 80 && echo
        env_port KADUN_HTTPS_PORT 443 && echo
        if [[ -r $CONNECTION_RULES ]]; then sed -n 's/^define ports = { \(.*\) }$/\1/p' "$CONNECTION_RULES" | tr -s ', ' '\n'; fi
    } | sort -nu
}

# connection_rules PORTS BALANCER…: the file for nft. Its first two lines remove the former table, in the same transaction. A
# balancer brings the connections of all clients, and limits them itself.
connection_rules() {
    local network exempt='' family
    for network in "${@:2}"; do
        [[ $network =~ ^[0-9A-Fa-f.:/]+$ ]] || die "KADUN_PROXY_FROM: '$network' 不是地址或网段 is not an address or network"
        family=ip
        if [[ $network == *:* ]]; then family=ip6; fi
        exempt+=$'\n'"        $family saddr $network tcp dport \$ports accept"
    done
    cat <<RULES
# Written by scripts/provision.sh, loaded by kadun-connections.service.
table inet kadun
delete table inet kadun
define ports = { ${1// /, } }

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
