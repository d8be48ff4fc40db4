#!/bin/sh
# Run by the image at each start, after the template: where the kernel has no IPv6, listening on it would stop nginx.
set -eu
[ -e /proc/net/if_inet6 ] && exit 0
sed -i '/listen \[::\]:/d' /etc/nginx/conf.d/kadun.conf
echo "${0##*/}: this machine has no IPv6; listening on IPv4 alone"
