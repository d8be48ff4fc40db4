#!/bin/sh
# Runs at each start: writes which addresses may open the console (KADUN_ADMIN_ALLOW). Empty: all.
set -euf

# Named after the setting: nginx names this file if an entry is not a network.
file=/etc/nginx/conf.d/kadun_admin_allow.conf
allowed=${KADUN_ADMIN_ALLOW-}

refuse() {
    echo "${0##*/}: KADUN_ADMIN_ALLOW in .env: '$1' is not an address or network (203.0.113.7, 2001:db8::/32)" >&2
    exit 1
}

# shellcheck disable=SC2046  # the entries are words
set -- $(printf '%s' "$allowed" | tr ',[:space:]' ' ')
strangers=0
if [ $# != 0 ]; then
    strangers=1
elif [ "$allowed" != "${allowed#*,}" ]; then
    refuse "$allowed" # a list without an entry is a mistake, not "everybody"
fi
{
    echo "geo \$kadun_admin_stranger {"
    echo "    default $strangers;"
    for entry; do
        case $entry in *[!0-9A-Fa-f.:/]*) refuse "$entry" ;; esac
        echo "    $entry 0;"
    done
    echo "}"
} >"$file"
