#!/bin/sh
# Runs at each start, after the template is rendered: writes which addresses may open the console (KADUN_ADMIN_ALLOW; empty:
# all), and which belong to the balancer (KADUN_PROXY_FROM), which tells the client's address by PROXY protocol.
set -euf

refuse() {
    echo "${0##*/}: $1" >&2
    exit 1
}

# networks WHERE LIST: its entries, a line each.
networks() {
    where=$1 list=$2
    # shellcheck disable=SC2046  # the entries are words
    set -- $(printf '%s' "$list" | tr ',[:space:]' ' ')
    # A list without an entry is a mistake, not "everybody".
    [ $# != 0 ] || [ "$list" = "${list#*,}" ] || set -- "$list"
    for entry; do
        case $entry in *[!0-9A-Fa-f.:/]*) refuse "$where '$entry' is not an address or network (203.0.113.7, 2001:db8::/32)" ;; esac
        echo "$entry"
    done
}

# geo NAME DEFAULT VALUE ADDRESS…: nginx's variable that is VALUE for these addresses.
geo() {
    echo "geo $1 {"
    echo "    default $2;"
    value=$3
    shift 3
    for entry; do echo "    $entry $value;"; done
    echo "}"
}

allowed=$(networks 'KADUN_ADMIN_ALLOW in .env:' "${KADUN_ADMIN_ALLOW-}")
balancers=$(networks 'KADUN_PROXY_FROM in .env:' "${KADUN_PROXY_FROM-}")
case ${KADUN_PROXY_PROTOCOL:-false} in
    false) [ -z "$balancers" ] || refuse "KADUN_PROXY_FROM in .env needs KADUN_PROXY_PROTOCOL=true" ;;
    true) [ -n "$balancers" ] || refuse "KADUN_PROXY_PROTOCOL=true in .env needs KADUN_PROXY_FROM, the addresses of the balancer" ;;
    *) refuse "KADUN_PROXY_PROTOCOL in .env is '$KADUN_PROXY_PROTOCOL': it must be true or false" ;;
esac

# Each file is named after its setting: nginx names the file if an entry is not a network.
strangers=0
[ -z "$allowed" ] || strangers=1
# shellcheck disable=SC2086  # an entry a word
geo "\$kadun_admin_stranger" "$strangers" 0 $allowed >/etc/nginx/conf.d/kadun_admin_allow.conf
if [ -z "$balancers" ]; then
    # There is no balancer, so no connection bypasses one.
    echo "map '' \$kadun_bypasses_balancer { default 0; }" >/etc/nginx/conf.d/kadun_proxy_from.conf
    exit 0
fi
for entry in $balancers; do
    case $entry in */0 | */00*) refuse "KADUN_PROXY_FROM in .env: '$entry' is everybody, who could then name any address" ;; esac
done
{
    echo "real_ip_header proxy_protocol;"
    for entry in $balancers; do echo "set_real_ip_from $entry;"; done
    # Whoever else connects is refused. This machine's own checks use its loopback addresses, without PROXY protocol.
    # shellcheck disable=SC2086
    geo "\$realip_remote_addr \$kadun_bypasses_balancer" 1 0 127.0.0.1 ::1 $balancers
} >/etc/nginx/conf.d/kadun_proxy_from.conf
sed -i -E \
    -e 's/^( *)listen ([0-9]+)( ssl)? default_server([^;]*);/&\n\1listen 127.0.0.1:\2\3 default_server;/' \
    -e 's/^( *)listen \[::\]:([0-9]+)( ssl)? default_server([^;]*);/&\n\1listen [::1]:\2\3 default_server;/' \
    -e 's/^( *listen ([0-9]+|\[::\]:[0-9]+)( ssl)? default_server[^;\n]*);/\1 proxy_protocol;/' \
    /etc/nginx/conf.d/kadun.conf
