#!/usr/bin/env bash
# 申请受信任的证书，并交给 certbot 自动续期；每次续期后自动启用。
# Gets a trusted certificate by ACME (Let's Encrypt) and installs it; certbot renews it from then on, and its deploy hook,
# scripts/deploy-certificate.sh, installs each renewal.
#
#   scripts/issue-certificate.sh DOMAIN [DOMAIN…] [OPTION…] [-- CERTBOT-OPTION…]
#
#   DOMAIN            域名，可多个 a name for the certificate, such as example.com; may be repeated
#   --dry-run         只演练，不产生证书 tries it with the staging authority and keeps nothing
#   --standalone      首次启动之前，或 80 端口不归 nginx 时：certbot 自己监听 80 端口
#                     certbot itself listens on port 80: before the first start, or if nginx does not use port 80
#   --dns PLUGIN      DNS-01：无需 80 端口，通配符可用；插件参数写在 -- 之后。DNS-01, which needs no open port and
#                     allows *.example.com: a certbot plugin (cloudflare, rfc2136, …, or manual), its options after --
#   --to [USER@]HOST[:/DIRECTORY]
#                     每次启用后经 SSH 发到其他主机，可多次；写入 .env 的 KADUN_CERTIFICATE_HOSTS
#                     sends the certificate on to another machine, now and after each renewal; may be repeated. It is
#                     written to .env as KADUN_CERTIFICATE_HOSTS; see deploy-certificate.sh
#
# certbot 的选项写在 -- 之后 certbot's own options follow --: --email ADDRESS, --server URL, --force-renewal.
# 使用即表示同意证书机构的条款。Running this means that you agree to the authority's terms of service.
# 再次运行可更换域名。Run it again to change the names.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/certificate.sh
source "$ROOT/scripts/lib/certificate.sh"

# check_domains DOMAIN…
check_domains() {
    local domain
    (($#)) || usage_error "需要域名 a domain is needed"
    for domain; do
        ! is_ip "$domain" || usage_error "IP 地址请用自有证书：scripts/init.sh --domain $domain。For an IP address use a certificate of your own: scripts/init.sh --domain $domain"
        [[ ${#domain} -le 253 && $domain =~ ^(\*\.)?([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z0-9-]+$ ]] \
            || usage_error "不是域名 not a domain name (write 中文 names as xn--…): $domain"
        [[ $domain != \** || -n ${OPTION[dns]:-} ]] || usage_error "通配符只能用 --dns a wildcard needs --dns: $domain"
    done
}

# check_webroot PORT: nginx serves what certbot will write. A failure at the authority would count against its limits.
check_webroot() {
    local name=kadun-$$-$RANDOM folder=data/acme/.well-known/acme-challenge said
    need curl curl
    nginx_runs || die "nginx 未运行：请先启动，或改用 --standalone。nginx is not running: docker compose up -d --wait starts it, or use --standalone"
    (umask 022 && mkdir -p "$folder" && echo "$name" >"$folder/$name")
    said=$(curl --silent --max-time 10 --noproxy '*' "http://127.0.0.1:$1/.well-known/acme-challenge/$name") || true
    rm -f "$folder/$name"
    [[ $said == "$name" ]] || die "nginx 未在端口 $1 提供验证文件。nginx does not serve data/acme on port $1: docker compose logs nginx"
}

# config_dir: certbot's folder, by default /etc/letsencrypt.
config_dir() {
    local named
    named=$(printf '%s\n' "${PASSED_ON[@]/#--config-dir=/--config-dir$'\n'}" | sed -n '/^--config-dir$/ { n; p }')
    printf '%s' "${named:-/etc/letsencrypt}"
}

# run_certbot LINEAGE DOMAIN…: the hook runs in sh, and its first word must be a program.
run_certbot() {
    local domain quote="'\\''" plugin=${OPTION[dns]:-}
    local -a options=(--non-interactive --agree-tos --register-unsafely-without-email --cert-name "$1" --keep-until-expiring
        --expand --renew-with-new-domains --key-type ecdsa
        --deploy-hook "bash '${ROOT//\'/"$quote"}/scripts/deploy-certificate.sh'" ${OPTION[dry-run]:+--dry-run})
    if [[ -n ${OPTION[standalone]:-} ]]; then options+=(--standalone)
    elif [[ $plugin == manual ]]; then options+=(--manual --preferred-challenges dns)
    elif [[ -n $plugin ]]; then options+=(--authenticator "dns-${plugin#dns-}")
    else options+=(--webroot --webroot-path "$ROOT/data/acme")
    fi
    for domain in "${@:2}"; do options+=(--domain "$domain"); done
    certbot certonly "${options[@]}" "${PASSED_ON[@]}"
}

# renew_by_webroot FILE PORT: a certificate that certbot fetched on nginx's port, before the first start, is renewed through nginx.
renew_by_webroot() {
    local port
    port=$(sed -n 's/^http01_port = //p' "$1")
    [[ -n ${OPTION[standalone]:-} && ${port:-80} == "$2" ]] || return 0
    FOLDER=$ROOT/data/acme awk '
        $0 != "authenticator = standalone" { print; next }
        { print "authenticator = webroot\nwebroot_path = \"" ENVIRON["FOLDER"] "\"," }' "$1" >"$1.new"
    mv -fT -- "$1.new" "$1"
}

# check_timer: warns if nothing renews the certificate.
check_timer() {
    systemctl list-unit-files --state=enabled 2>/dev/null </dev/null | grep -q 'certbot.*\.timer' || [[ -e /etc/cron.d/certbot ]] \
        || warn "未发现自动续期的定时任务。Nothing renews it automatically: have cron run 'certbot -q renew' twice a day"
}

parse_options "dry-run standalone dns= to=*" "$@"
check_domains "${OPERANDS[@]}"
exclusive standalone dns
cd "$ROOT"
require_prepared
need openssl openssl
need certbot certbot
config=$(config_dir)
[[ $config != /etc/letsencrypt ]] || require_root # where certbot writes
port=$(setting KADUN_HTTP_PORT 80)
lineage=$(setting COMPOSE_PROJECT_NAME kadun) # one for each stack, whatever its domains become
[[ -n ${OPTION[standalone]:-}${OPTION[dns]:-} ]] || check_webroot "$port"
warn_of_pinning
[[ -z ${OPTION[to]:-} || -n ${OPTION[dry-run]:-} ]] || set_setting KADUN_CERTIFICATE_HOSTS "${OPTION[to]//$'\n'/ }" # the hook reads it
run_certbot "$lineage" "${OPERANDS[@]}" || die "未能取得证书，原证书继续使用；请看上面 certbot 的说明。No certificate was issued; the old one stays in use. certbot says why above: does each domain point to this server, and is port 80 reachable from outside? (otherwise use --dns)"
if [[ -n ${OPTION[dry-run]:-} ]]; then
    say "演练成功，未改动任何内容。It works: nothing was changed. Run it again without --dry-run"
    exit
fi
renew_by_webroot "$config/renewal/$lineage.conf" "$port"
# certbot hides how its hook ended; it runs none where the certificate is not due yet.
RENEWED_LINEAGE=$config/live/$lineage RENEWED_DOMAINS=${OPERANDS[*]} "$ROOT/scripts/deploy-certificate.sh" \
    || die "证书已取得，但未能在各处启用。The certificate was issued but is not in use everywhere: see above, then run scripts/deploy-certificate.sh ${config@Q}/live/$lineage/{fullchain,privkey}.pem ${OPERANDS[*]/#/--domain }"
set_setting KADUN_DOMAIN "${OPERANDS[*]}" # scripts/cardctl doctor checks the certificate for these names
check_timer
say "完成：证书会自动续期并启用。Done: certbot renews it, and each renewal is installed automatically."
