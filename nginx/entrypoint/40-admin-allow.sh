#!/bin/sh
# Run by the image at each start: whom KADUN_ADMIN_ALLOW lets near the console. Empty: everybody.
set -euf

# Named after the setting, since nginx names this file where an entry is no network.
file=/etc/nginx/conf.d/kadun_admin_allow.conf
allowed=${KADUN_ADMIN_ALLOW-}

refuse() {
    echo "${0##*/}: KADUN_ADMIN_ALLOW in .env: '$1' is no address and no network (203.0.113.7, 2001:db8::/32)" >&2
    exit 1
}

# shellcheck disable=SC2046  # the entries are words
set -- $(printf '%s' "$allowed" | tr ',[:space:]' ' ')
strangers=0
if [ $# != 0 ]; then
    strangers=1
elif [ "$allowed" != "${allowed#*,}" ]; then
    refuse "$allowed" # whoever wrote that meant to close something
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
