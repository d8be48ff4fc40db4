#!/bin/sh
# Runs at each start, after the template is rendered: an nginx before 1.27.4 does not start with keepalive_min_timeout.
set -eu
version=$(nginx -v 2>&1)
version=${version##*/}
[ "$(printf '%s\n' 1.27.4 "$version" | sort -V | head -n 1)" = 1.27.4 ] && exit 0
sed -i '/^keepalive_min_timeout/d' /etc/nginx/conf.d/kadun.conf
echo "${0##*/}: nginx $version is older than 1.27.4; a reload closes keep-alive connections that are in use"
