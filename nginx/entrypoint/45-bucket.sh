#!/bin/sh
# Runs at each start, after the template is rendered: writes the location that fetches licensed files from the bucket, if .env
# names one (KADUN_FILES_BUCKET). nginx asks the machine's own name servers, again and again, for the bucket's address.
set -euf

refuse() {
    echo "${0##*/}: $1" >&2
    exit 1
}

# word SETTING VALUE PATTERN EXAMPLE: what goes into nginx's configuration must be nothing but what it should be.
word() {
    printf '%s' "$2" | grep -qxE -e "$3" && [ "$(printf '%s' "$2" | wc -l)" = 0 ] \
        || refuse "$1 in .env is '$2': it must be like $4"
}

rm -f /etc/nginx/conf.d/bucket.location
bucket=${KADUN_FILES_BUCKET-}
[ -n "$bucket" ] || exit 0
# As the app signs for it.
endpoint=$(printf '%s' "${KADUN_FILES_BUCKET_ENDPOINT-}" | tr '[:upper:]' '[:lower:]')
style=${KADUN_FILES_BUCKET_STYLE:-virtual}
word KADUN_FILES_BUCKET "$bucket" '[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]' my-files
word KADUN_FILES_BUCKET_ENDPOINT "$endpoint" 'https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]{1,5})?/?' \
    https://oss-cn-hangzhou.aliyuncs.com
word KADUN_FILES_BUCKET_STYLE "$style" 'virtual|path' virtual
host=${endpoint#https://} host=${host%/} host=${host%:443}
[ "$style" = path ] || host=$bucket.$host

servers=${KADUN_RESOLVER-}
[ -z "$servers" ] || word KADUN_RESOLVER "$servers" '[0-9A-Fa-f.:[ ]+([]0-9A-Fa-f.: ]*)' '10.0.0.2 10.0.0.3'
# shellcheck disable=SC2013  # words, in brackets where they are IPv6 addresses
[ -n "$servers" ] || for server in $(sed -n 's/^nameserver[[:space:]]\{1,\}\([0-9A-Fa-f.:]*\)[[:space:]]*$/\1/p' /etc/resolv.conf); do
    case $server in *:*) server="[$server]" ;; esac
    servers="$servers $server"
done
[ -n "$servers" ] || refuse "/etc/resolv.conf names no server that could resolve the name of the bucket's host"
ipv6=''
[ -e /proc/net/if_inet6 ] || ipv6=' ipv6=off'

# The bucket's own authority, else those that the system trusts.
trusted=${KADUN_FILES_BUCKET_CA-}
[ -n "$trusted" ] && [ -s "$trusted" ] || trusted=/etc/ssl/certs/ca-certificates.crt
[ -r "$trusted" ] || refuse "cannot read $trusted, the certificates that the bucket's is verified by"

cat >/etc/nginx/conf.d/bucket.location <<EOF
location /_kadun_bucket/ {
    resolver $servers valid=30s$ipv6;
    set \$kadun_bucket https://$host;
    proxy_set_header Host $host;
    proxy_ssl_name ${host%%:*};
    proxy_ssl_trusted_certificate $trusted;
    include /etc/nginx/kadun/bucket.conf;
    error_page $(seq -s ' ' 300 403) $(seq -s ' ' 405 498) $(seq -s ' ' 500 599) =503 /kadun-bucket-away;
    include $KADUN_CERTIFICATES/hsts[.]conf;
}
location = /kadun-bucket-away {
    internal;
    client_max_body_size 0;
    default_type application/problem+json;
    add_header Retry-After 5 always;  # whatever the bucket said
    add_header X-Request-ID \$request_id always;
    include $KADUN_CERTIFICATES/hsts[.]conf;
    return 503 '{"type":"about:blank",\$kadun_problem,"detail":"\$kadun_detail","request_id":"\$request_id"}';
}
EOF
