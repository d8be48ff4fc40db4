#!/usr/bin/env bash
# 申请受信任的证书，并交给 certbot 自动续期；每次续期后自动启用。
# Gets a trusted certificate by ACME (Let's Encrypt) and installs it; certbot renews it from then on, and its deploy hook,
# scripts/deploy-certificate.sh, installs each renewal.
#
#   scripts/issue-certificate.sh DOMAIN [DOMAIN…] [OPTION…] [-- CERTBOT-OPTION…]
#
#   DOMAIN            域名，可多个 a name for the certificate, such as example.com; may be repeated
#   --email ADDRESS   证书机构的联系邮箱（可省略）your address for the authority; optional
#   --dry-run         只演练，不产生证书 tries it with the staging authority and keeps nothing
#   --staging         演练机构的证书（不受信任）gets a certificate from the staging authority, which nobody trusts
#   --standalone      首次启动之前，或 80 端口不归 nginx 时：certbot 自己监听 80 端口
#                     certbot itself listens on port 80: before the first start, or if nginx does not use port 80
#   --dns PLUGIN      DNS-01：无需 80 端口，通配符可用；插件参数写在 -- 之后。DNS-01, which needs no open port and
#                     allows *.example.com: a certbot plugin (cloudflare, rfc2136, …, or manual), its options after --
#   --to [USER@]HOST[:/DIRECTORY]
#                     每次启用后经 SSH 发到其他主机，可多次；写入 .env 的 KADUN_CERTIFICATE_HOSTS，续期时同样发送
#                     sends the certificate on to another machine, now and after each renewal; may be repeated. Writes
#                     KADUN_CERTIFICATE_HOSTS into .env; see deploy-certificate.sh
#   --server URL      其他证书机构的 ACME 地址 the ACME directory of another authority
#
# 使用即表示同意证书机构的条款。Running this means that you agree to the authority's terms of service.
# 再次运行可更换域名；强制续期：-- --force-renewal。Run it again to change the names; -- --force-renewal renews at once.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/certificate.sh
source "$ROOT/scripts/lib/certificate.sh"
# shellcheck source=scripts/lib/certificate-hosts.sh
source "$ROOT/scripts/lib/certificate-hosts.sh"

take_options() {
    parse_options "email= dry-run staging standalone dns= server= to=*" "$@"
    take_hosts
    domains=("${OPERANDS[@]}")
    ((${#domains[@]})) || usage_error "需要域名 a domain is needed"
    [[ -z ${OPTION[standalone]:-} || -z ${OPTION[dns]:-} ]] || usage_error "--standalone 与 --dns 只能选一个 --standalone and --dns exclude each other"
    [[ -z ${OPTION[staging]:-} || -z ${OPTION[server]:-} ]] || usage_error "--staging 与 --server 只能选一个 --staging and --server exclude each other"
    way=webroot plugin=${OPTION[dns]:-} plugin=${plugin#dns-} server=${OPTION[server]:-}
    if [[ -n ${OPTION[standalone]:-} ]]; then way=standalone; elif [[ -n $plugin ]]; then way=dns; fi
    staging=${OPTION[staging]:-} dry_run=${OPTION[dry-run]:-}
    check_domains
}

check_domains() {
    local domain
    for domain in "${domains[@]}"; do
        ! is_ip "$domain" || usage_error "IP 地址请用自有证书：scripts/init.sh --domain $domain。For an IP address use a certificate of your own: scripts/init.sh --domain $domain"
        [[ ${#domain} -le 253 && $domain =~ ^(\*\.)?([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z0-9-]+$ ]] \
            || usage_error "不是域名 not a domain name (write 中文 names as xn--…): $domain"
        [[ $domain != \** || $way == dns ]] || usage_error "通配符只能用 --dns a wildcard needs --dns: $domain"
    done
}

# option_of NAME DEFAULT: the value of an option that is passed on to certbot.
option_of() {
    local i value=$2
    for ((i = 0; i < ${#PASSED_ON[@]}; i++)); do
        case ${PASSED_ON[i]} in
            "$1") value=${PASSED_ON[i + 1]:-} ;;
            "$1="*) value=${PASSED_ON[i]#*=} ;;
        esac
    done
    printf '%s' "$value"
}

check_machine() {
    [[ -e .env && -d https_certificates ]] || die "请先运行 scripts/init.sh。Run scripts/init.sh first"
    need openssl openssl
    need certbot certbot
    [[ $EUID == 0 || -n $(option_of --config-dir '') ]] || die "请以 root 运行：certbot 需要写 /etc/letsencrypt。Run this as root: certbot writes to /etc/letsencrypt"
    if [[ -n $staging && -z $dry_run ]] && is_publicly_trusted https_certificates/fullchain.pem; then
        die "正在使用受信任的证书，不会以演练证书替换；请用 --dry-run。A trusted certificate is in use and a staging one would replace it: use --dry-run"
    fi
}

# check_webroot: nginx serves what certbot will write. A failure at the authority would count against its limits.
check_webroot() {
    local name folder=data/acme/.well-known/acme-challenge said
    need curl curl
    nginx_runs || die "nginx 未运行：请先启动，或改用 --standalone。nginx is not running: docker compose up -d --wait starts it, or use --standalone"
    name=kadun-$$-$RANDOM
    (umask 022 && mkdir -p "$folder" && echo "$name" >"$folder/$name")
    said=$(curl --silent --max-time 10 --noproxy '*' "http://127.0.0.1:$http_port/.well-known/acme-challenge/$name") || true
    rm -f "$folder/$name"
    [[ $said == "$name" ]] || die "nginx 未在端口 $http_port 提供验证文件。nginx does not serve data/acme on port $http_port: docker compose logs nginx"
    [[ $http_port == 80 || -n $server ]] || warn "证书机构只访问 80 端口，而 nginx 在 $http_port：须由外部转发，否则请用 --standalone 或 --dns。The authority asks at port 80 while nginx listens on $http_port: forward that port, or use --standalone or --dns"
}

# check_names_resolve: a name without a DNS record is the most common failure.
check_names_resolve() {
    local domain
    for domain in "${domains[@]}"; do
        getent ahosts "$domain" >/dev/null || warn "无法解析 $domain，请检查 DNS。$domain does not resolve here: is its DNS record set?"
    done
}

# hook: the command that certbot runs in sh after each renewal. Its first word must be a program.
hook() {
    local quote="'\\''"
    printf "bash '%s'" "${ROOT//\'/"$quote"}/scripts/deploy-certificate.sh"
}

run_certbot() {
    local domain
    local -a options=(--non-interactive --agree-tos --cert-name "$lineage_name" --keep-until-expiring --expand
        --renew-with-new-domains --key-type ecdsa --deploy-hook "$(hook)")
    if [[ -n ${OPTION[email]:-} ]]; then options+=(--email "${OPTION[email]}"); else options+=(--register-unsafely-without-email); fi
    if [[ -n $staging ]]; then options+=(--staging); fi
    if [[ -n $dry_run ]]; then options+=(--dry-run); fi
    if [[ -n $server ]]; then options+=(--server "$server"); fi
    if authority_changes; then options+=(--force-renewal); fi
    case $way in
        webroot) options+=(--webroot --webroot-path "$ROOT/data/acme") ;;
        standalone) options+=(--standalone) ;;
        dns) if [[ $plugin == manual ]]; then
            options+=(--manual --preferred-challenges dns)
        else
            options+=(--authenticator "dns-$plugin")
        fi ;;
    esac
    for domain in "${domains[@]}"; do options+=(--domain "$domain"); done
    certbot certonly "${options[@]}" "${PASSED_ON[@]}"
}

# authority_changes: the present certificate is valid, but from another authority, such as the staging one.
authority_changes() {
    local wanted=${server:-https://acme-v02.api.letsencrypt.org/directory}
    [[ -z $staging && -e $renewal && $(renewal_value server) != "$wanted" ]]
}

renewal_value() {
    sed -n "s/^$1 = //p" "$renewal"
}

# renew_by_webroot: a certificate that certbot fetched on nginx's port, before the first start, is renewed through nginx.
renew_by_webroot() {
    local port
    port=$(renewal_value http01_port)
    [[ $way == standalone && ${port:-80} == "$http_port" ]] || return 0
    FOLDER=$ROOT/data/acme awk '
        $0 != "authenticator = standalone" { print; next }
        { print "authenticator = webroot\nwebroot_path = \"" ENVIRON["FOLDER"] "\"," }' "$renewal" >"$renewal.new"
    mv -fT -- "$renewal.new" "$renewal"
}

# deploy: installs the certificate unless the hook has done so. Nobody has seen whether other machines got it.
deploy() {
    local lineage=$config_dir/live/$lineage_name
    if ((${#HOSTS[@]} == 0)) && cmp -s "$lineage/fullchain.pem" https_certificates/fullchain.pem \
        && cmp -s "$lineage/privkey.pem" https_certificates/privkey.pem; then return; fi
    RENEWED_LINEAGE=$lineage RENEWED_DOMAINS=${domains[*]} "$ROOT/scripts/deploy-certificate.sh"
}

# check_timer: warns if nothing renews the certificate.
check_timer() {
    local timer
    for timer in certbot.timer certbot-renew.timer snap.certbot.renew.timer; do
        if systemctl is-enabled --quiet "$timer" 2>/dev/null; then return; fi
    done
    [[ -e /etc/cron.d/certbot ]] || warn "未发现自动续期的定时任务。Nothing renews it automatically: have cron run 'certbot -q renew' twice a day"
}

take_options "$@"
cd "$ROOT"
check_machine
http_port=$(setting KADUN_HTTP_PORT 80)
lineage_name=$(setting COMPOSE_PROJECT_NAME kadun) # one for each stack, whatever its domains become
config_dir=$(option_of --config-dir /etc/letsencrypt)
renewal=$config_dir/renewal/$lineage_name.conf
if [[ $way == webroot ]]; then check_webroot; fi
if [[ $way != dns ]]; then check_names_resolve; fi
warn_of_pinning
[[ -z ${OPTION[to]:-} || -n $dry_run ]] || set_setting KADUN_CERTIFICATE_HOSTS "${HOSTS[*]}" .env # the hook reads it
run_certbot || die "未能取得证书，原证书继续使用；请看上面 certbot 的说明。No certificate was issued; the old one stays in use. certbot says why above: does each domain point to this server, and is port 80 reachable from outside? (otherwise use --dns)"
if [[ -n $dry_run ]]; then
    say "演练成功，未改动任何内容。It works: nothing was changed. Run it again without --dry-run"
    exit
fi
renew_by_webroot
deploy || die "证书已取得，但未能在各处启用。The certificate was issued but is not in use everywhere: see above, then run scripts/deploy-certificate.sh ${config_dir@Q}/live/$lineage_name/{fullchain,privkey}.pem ${domains[*]/#/--domain }"
set_setting KADUN_DOMAIN "${domains[*]}" .env # scripts/cardctl doctor checks the certificate for these names
check_timer
say "完成：证书会自动续期并启用。Done: certbot renews it, and each renewal is installed automatically."
