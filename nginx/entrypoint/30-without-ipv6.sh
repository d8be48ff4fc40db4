#!/bin/sh
# Runs at each start, after the template is rendered: nginx does not start if it should listen on IPv6 and the kernel has none.
set -eu
[ -e /proc/net/if_inet6 ] && exit 0
sed -i '/listen \[::\]:/d' /etc/nginx/conf.d/kadun.conf
echo "${0##*/}: this machine has no IPv6; listening on IPv4 alone"
