#!/usr/bin/env bash
# Writes HAProxy's configuration from .env, and becomes HAProxy.
#
#   KADUN_APPS            addresses of the app machines, separated by spaces or commas
#   KADUN_APP_HTTPS_PORT, KADUN_APP_HTTP_PORT   where nginx listens there (443, 80)
#   KADUN_HTTPS_PORT, KADUN_HTTP_PORT           where to listen here (443, 80)
#   KADUN_CONNECTIONS     how many connections one IPv4 address or IPv6 /64 may hold (128); an IPv6 /48 may hold four times as many
set -euo pipefail

refuse() {
    echo "haproxy.sh: $1" >&2
    exit 1
}

# number NAME DEFAULT: the setting, from 1 to 65535.
number() {
    local value=${!1:-$2}
    if [[ $value =~ ^[1-9][0-9]{0,4}$ ]] && ((value <= 65535)); then echo "$value"; else refuse "$1 in .env is '$value': it must be a number from 1 to 65535"; fi
}

https=$(number KADUN_HTTPS_PORT 443)
http=$(number KADUN_HTTP_PORT 80)
app_https=$(number KADUN_APP_HTTPS_PORT 443)
app_http=$(number KADUN_APP_HTTP_PORT 80)
connections=$(number KADUN_CONNECTIONS 128)
read -rd '' -a apps < <(tr , ' ' <<<"${KADUN_APPS:-}") || true
((${#apps[@]})) || refuse "KADUN_APPS in .env is empty: it must name the app machines' addresses"
for app in "${apps[@]}"; do
    python3 -c 'import ipaddress, sys; ipaddress.ip_address(sys.argv[1])' "$app" 2>/dev/null \
        || refuse "KADUN_APPS in .env: '$app' is not an IP address"
done

# bind PORT: IPv6 where the machine has it.
bind() {
    echo "    bind 0.0.0.0:$1"
    [[ ! -e /proc/net/if_inet6 ]] || echo "    bind [::]:$1 v6only"
}

# servers PORT OPTION…: a line for each machine. An address like any other of the machine's tells nginx that this is a check.
servers() {
    local number=0 app host
    for app in "${apps[@]}"; do
        number=$((number + 1)) host=$app
        if [[ $app == *:* ]]; then host="[$app]"; fi
        echo "    server app$number $host:$1 send-proxy-v2 check check-send-proxy tcp-ut 4s ${*:2}"
    done
}

# limit: refuses an address, or an IPv6 /48, that holds too many connections already; both frontends count a /48 together.
limit() {
    echo "    stick-table type ipv6 size 100k expire 10m store conn_cur"
    echo "    tcp-request connection track-sc0 src,ipmask(32,64)"
    echo "    tcp-request connection track-sc1 src,ipmask(32,48) table sites"
    echo "    tcp-request connection reject if { sc0_conn_cur gt $connections } || { sc1_conn_cur gt $((4 * connections)) }"
}

{
    cat <<'CONFIGURATION'
global
    log stdout format raw daemon notice
    user haproxy
    group haproxy
    maxconn 8000

defaults
    mode tcp
    log global
    option dontlog-normal
    # Not leastconn: a machine that has just died has the fewest.
    balance roundrobin
    # A machine that does not answer costs a customer a second or two, until it is known; the next try goes to another one.
    timeout connect 1s
    retries 3
    option redispatch 1
    # Longer than the longest core function.
    timeout client 330s
    timeout server 330s
    timeout check 3s
    # A machine that went silent loses its connections after four seconds, before customers' programs give up.
    # So does tcp-ut, which servers do not take from default-server.
    option srvtcpka
    srvtcpka-idle 2s
    srvtcpka-intvl 1s
    srvtcpka-cnt 3
    # Three failed connections of customers are enough, before a check fails.
    default-server inter 1s fastinter 500ms downinter 1s fall 2 rise 2 observe layer4 error-limit 3 on-error mark-down

CONFIGURATION
    echo "backend sites"
    echo "    stick-table type ipv6 size 100k expire 10m store conn_cur"
    echo
    echo "frontend https"
    bind "$https"
    limit
    # While the database is away no machine is ready, and nginx says so with 503 and Retry-After.
    echo "    use_backend https_alive if { nbsrv(https_ready) eq 0 }"
    echo "    default_backend https_ready"
    echo
    echo "backend https_ready"
    echo "    option httpchk GET /readyz"
    echo "    http-check expect status 200"
    servers "$app_https" check-ssl verify none
    echo
    echo "backend https_alive"
    servers "$app_https" check-ssl verify none
    echo
    echo "frontend http"
    bind "$http"
    limit
    echo "    default_backend http_alive"
    echo
    echo "backend http_alive"
    servers "$app_http"
} >/run/haproxy.cfg
exec haproxy -W -f /run/haproxy.cfg
