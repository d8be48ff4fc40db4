# shellcheck shell=bash
# provision.sh's step that limits the connections of one address to nginx. Sourced after provision-firewall.sh, never run.
#
# nginx counts requests with a complete header only: the kernel alone can refuse a connection before it costs nginx memory. A
# table of its own in nftables, beside UFW's and Docker's: it can refuse connections to nginx's ports, and nothing else.

CONNECTIONS_OF_ADDRESS=128 # an IPv4 address or an IPv6 /64; nginx holds 1024 (nginx/nginx.conf)
CONNECTIONS_OF_SITE=256    # an IPv6 /48
# New connections: so many at once, then so many a second. The kernel believes packets that nginx's side drops, and may take a
# connection for closed that nginx still holds, for up to 18 s (nginx/kadun/server.conf): who sends such packets is bounded by
# these alone. An IPv4 address then holds 128 + 18 x 10 = 308 connections, a /48 128 + 18 x 20 = 488, both with as many to the
# app beside them as nginx lets them have requests under way (50 and 100): 946 of nginx's 1024.
NEW_OF_ADDRESS=10
BURST_OF_SITE=128
NEW_OF_SITE=20
CONNECTION_RULES=/etc/kadun/connections.nft
CONNECTION_UNIT=/etc/systemd/system/kadun-connections.service
# What `systemctl enable` makes; the command may be missing where systemd does not run.
CONNECTION_LINK=/etc/systemd/system/multi-user.target.wants/kadun-connections.service

# step_connections: writes the rules, and a unit that loads them at each boot.
step_connections() {
    step "每个地址的连接数" "Connections of one address"
    local exempt rules unit="${CONNECTION_UNIT##*/}" is_same=yes
    local -a ports=() balancers=()
    mapfile -t ports < <(connection_ports)
    if [[ -e $ROOT/.env ]]; then read -ra balancers < <(env_file get "$ROOT/.env" KADUN_PROXY_FROM | tr ',' ' ') || true; fi
    exempt=$(exempt_rules "${balancers[@]}")
    rules=$(connection_rules "$exempt" "${ports[@]}")
    if ! holds "$CONNECTION_RULES" "$rules" || ! holds "$CONNECTION_UNIT" "$(connection_unit)"; then
        is_same=''
        write "$CONNECTION_RULES" "$rules"
        write "$CONNECTION_UNIT" "$(connection_unit)"
    fi
    if [[ ! -e $CONNECTION_LINK ]]; then
        is_same=''
        run mkdir -p "${CONNECTION_LINK%/*}"
        run ln -sf "$CONNECTION_UNIT" "$CONNECTION_LINK"
    fi
    if ! runs_systemd; then
        not_possible "限制连接数，开机时启用; limiting connections, which happens at the next boot"
    elif [[ -z $is_same ]] || ! nft list table inet kadun >/dev/null 2>&1; then
        is_same=''
        run systemctl daemon-reload
        attempt systemctl restart "$unit" \
            || not_possible "限制连接数：内核不支持 nftables 的 ct count; limiting connections: this kernel lacks nftables' ct count"
    fi
    if [[ -n $is_same ]]; then
        already "端口 ports ${ports[*]}: $CONNECTIONS_OF_ADDRESS + $NEW_OF_ADDRESS/s (/32, /64), $CONNECTIONS_OF_SITE + $NEW_OF_SITE/s (/48)"
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

# connection_rules EXEMPT PORT…: the file for nft. Its first two lines remove the former table, in the same transaction.
connection_rules() {
    local ports new="tcp dport \$ports tcp flags & (fin|syn|rst|ack) == syn" # not as conntrack sees it
    printf -v ports '%s, ' "${@:2}"
    cat <<RULES
# Written by scripts/provision.sh, loaded by kadun-connections.service.
table inet kadun
delete table inet kadun
define ports = { ${ports%, } }

table inet kadun {
    set ipv4 { type ipv4_addr; size 65535; flags dynamic; }
    set ipv6 { type ipv6_addr; size 65535; flags dynamic; }
    set sites { type ipv6_addr; size 65535; flags dynamic; }
    set new_ipv4 { type ipv4_addr; size 65535; flags dynamic,timeout; timeout 1m; }
    set new_ipv6 { type ipv6_addr; size 65535; flags dynamic,timeout; timeout 1m; }
    set new_sites { type ipv6_addr; size 65535; flags dynamic,timeout; timeout 1m; }

    chain input {
        type filter hook input priority filter - 10; policy accept;
        iifname "lo" accept$1
        # Sites first, whose many networks would otherwise fill the sets of the networks.
        $new update @new_sites { ip6 saddr & ffff:ffff:ffff:: limit rate over $NEW_OF_SITE/second burst $BURST_OF_SITE packets } counter reject with tcp reset
        $new update @new_ipv6 { ip6 saddr & ffff:ffff:ffff:ffff:: limit rate over $NEW_OF_ADDRESS/second burst $CONNECTIONS_OF_ADDRESS packets } counter reject with tcp reset
        $new update @new_ipv4 { ip saddr limit rate over $NEW_OF_ADDRESS/second burst $CONNECTIONS_OF_ADDRESS packets } counter reject with tcp reset
        tcp dport \$ports ct state new add @sites { ip6 saddr & ffff:ffff:ffff:: ct count over $CONNECTIONS_OF_SITE } counter reject with tcp reset
        tcp dport \$ports ct state new add @ipv6 { ip6 saddr & ffff:ffff:ffff:ffff:: ct count over $CONNECTIONS_OF_ADDRESS } counter reject with tcp reset
        tcp dport \$ports ct state new add @ipv4 { ip saddr ct count over $CONNECTIONS_OF_ADDRESS } counter reject with tcp reset
    }
}
RULES
}

# exempt_rules NETWORK…: a balancer brings the connections of all clients, and limits them itself.
exempt_rules() {
    local network family
    for network; do
        [[ $network =~ ^[0-9A-Fa-f.:/]+$ ]] || die "KADUN_PROXY_FROM: '$network' 不是地址或网段 is not an address or network"
        family=ip
        if [[ $network == *:* ]]; then family=ip6; fi
        printf '\n        %s saddr %s tcp dport %s accept' "$family" "$network" "\$ports"
    done
}

connection_unit() {
    cat <<UNIT
[Unit]
Description=Limit of the connections of one address to Kadun's nginx
After=nftables.service ufw.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/sbin/nft --file $CONNECTION_RULES
ExecReload=/usr/sbin/nft --file $CONNECTION_RULES
ExecStop=/usr/sbin/nft delete table inet kadun

[Install]
WantedBy=multi-user.target
UNIT
}
