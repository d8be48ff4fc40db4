#!/usr/bin/env bash
# 申请受信任的证书，并交给 certbot 自动续期；每次续期后自动启用。
# Gets a trusted certificate by ACME (Let's Encrypt) and puts it to use; certbot renews it from then on, and
# scripts/deploy-certificate.sh, its deploy hook, puts each renewal to use.
#
#   scripts/issue-certificate.sh DOMAIN [DOMAIN…] [OPTION…] [-- CERTBOT-OPTION…]
#
#   DOMAIN            域名，可多个 the names for the certificate, such as example.com www.example.com
#   --email ADDRESS   证书机构的联系邮箱（可省略）where the authority writes to; none is needed
#   --dry-run         只演练，不产生证书 only tries it, at the staging authority, and keeps nothing
#   --staging         演练机构的证书（不受信任）a certificate from the staging authority, which nobody trusts
#   --standalone      首次启动之前，或 80 端口不归 nginx 时：certbot 自己监听 80 端口
#                     before the first start, or where port 80 is not nginx's: certbot itself listens there
#   --dns PLUGIN      DNS-01：无需 80 端口，通配符可用；插件参数写在 -- 之后。DNS-01, which needs no open port and
#                     allows *.example.com: a certbot plugin (cloudflare, rfc2136, …, or manual), its options after --
#   --server URL      其他证书机构的 ACME 地址 another authority's ACME directory
#
# 使用即表示同意证书机构的条款。To run this is to agree to the authority's terms of service.
# 再次运行可更换域名；强制续期：-- --force-renewal。Run it again to change the names; -- --force-renewal renews at once.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/common.sh
source "$ROOT/scripts/lib/common.sh"
# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"
# shellcheck source=scripts/lib/selfsigned.sh
source "$ROOT/scripts/lib/selfsigned.sh"
# shellcheck source=scripts/lib/certificate.sh
source "$ROOT/scripts/lib/certificate.sh"

domains=()
passed_on=()
email='' way=webroot plugin='' server='' staging='' dry_run=''

parse_arguments() {
    while (($#)); do
        case $1 in
            -h | --help) print_help "$ROOT/scripts/issue-certificate.sh"; exit ;;
            --email | --dns | --server)
                [[ -n ${2:-} && $2 != -* ]] || usage_error "缺少参数 a value is missing: $1"
                case $1 in
                    --email) email=$2 ;;
                    --dns) choose_way dns; plugin=${2#dns-} ;;
                    --server) server=$2 ;;
                esac
                shift
                ;;
            --standalone) choose_way standalone ;;
            --staging) staging=yes ;;
            --dry-run) dry_run=yes ;;
            --) shift; passed_on=("$@"); break ;;
            -*) usage_error "未知参数 unknown argument: $1" ;;
            *) domains+=("$1") ;;
        esac
        shift
    done
    ((${#domains[@]})) || usage_error "需要域名 a domain is needed"
    [[ -z $staging || -z $server ]] || usage_error "--staging 与 --server 只能选一个 --staging and --server exclude each other"
    check_domains
}

choose_way() {
    [[ $way == webroot || $way == "$1" ]] || usage_error "--standalone 与 --dns 只能选一个 --standalone and --dns exclude each other"
    way=$1
}

check_domains() {
    local domain
    for domain in "${domains[@]}"; do
        ! is_ip "$domain" || usage_error "IP 地址请用自有证书：scripts/init.sh --domain $domain。For an IP address use a certificate of your own: scripts/init.sh --domain $domain"
        [[ ${#domain} -le 253 && $domain =~ ^(\*\.)?([A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?\.)+[A-Za-z0-9-]+$ ]] \
            || usage_error "不是域名 no domain name (write 中文 names as xn--…): $domain"
        [[ $domain != \** || $way == dns ]] || usage_error "通配符只能用 --dns a wildcard needs --dns: $domain"
    done
}

# option_of NAME DEFAULT: the value of a certbot option among those that are passed on.
option_of() {
    local i value=$2
    for ((i = 0; i < ${#passed_on[@]}; i++)); do
        case ${passed_on[i]} in
            "$1") value=${passed_on[i + 1]:-} ;;
            "$1="*) value=${passed_on[i]#*=} ;;
        esac
    done
    printf '%s' "$value"
}

check_machine() {
    [[ -e .env && -d https_certificates ]] || die "请先运行 scripts/init.sh。Run scripts/init.sh first"
    need openssl openssl
    need certbot certbot
    [[ $EUID == 0 || -n $(option_of --config-dir '') ]] || die "请以 root 运行：certbot 需要写 /etc/letsencrypt。Run this as root: certbot writes to /etc/letsencrypt"
    if [[ -n $staging && -z $dry_run ]] && is_publicly_trusted https_certificates/fullchain.pem https_certificates/fullchain.pem; then
        die "正在使用受信任的证书，不会以演练证书替换；请用 --dry-run。A trusted certificate is in use and a staging one would replace it: use --dry-run"
    fi
}

# check_webroot: nginx really serves what certbot will write; a failure at the authority counts against its limits.
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

# check_names_resolve: a name that leads nowhere is the commonest failure.
check_names_resolve() {
    local domain
    for domain in "${domains[@]}"; do
        getent ahosts "$domain" >/dev/null || warn "无法解析 $domain，请检查 DNS。$domain does not resolve here: is its DNS record set?"
    done
}

# hook: what certbot has sh run after each renewal. Its first word must be a program; the path may hold anything.
hook() {
    local quote="'\\''"
    printf "bash '%s'" "${ROOT//\'/"$quote"}/scripts/deploy-certificate.sh"
}

run_certbot() {
    local domain
    local -a options=(--non-interactive --agree-tos --cert-name "$lineage_name" --keep-until-expiring --expand
        --renew-with-new-domains --key-type ecdsa --deploy-hook "$(hook)")
    if [[ -n $email ]]; then options+=(--email "$email"); else options+=(--register-unsafely-without-email); fi
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
    certbot certonly "${options[@]}" "${passed_on[@]}"
}

# authority_changes: the certificate here is in date, but another authority's, the staging one's perhaps.
authority_changes() {
    local wanted=${server:-https://acme-v02.api.letsencrypt.org/directory}
    [[ -z $staging && -e $renewal && $(renewal_value server) != "$wanted" ]]
}

renewal_value() {
    sed -n "s/^$1 = //p" "$renewal"
}

# renew_by_webroot: a certificate that certbot fetched on nginx's port, before nginx was there, is renewed through nginx.
renew_by_webroot() {
    local port
    port=$(renewal_value http01_port)
    [[ $way == standalone && ${port:-80} == "$http_port" ]] || return 0
    FOLDER=$ROOT/data/acme awk '
        $0 != "authenticator = standalone" { print; next }
        { print "authenticator = webroot\nwebroot_path = \"" ENVIRON["FOLDER"] "\"," }' "$renewal" >"$renewal.new"
    mv -fT -- "$renewal.new" "$renewal"
}

# deploy: the hook has done it, unless it failed, or nothing was due and yet something else is served.
deploy() {
    local lineage=$config_dir/live/$lineage_name
    if cmp -s "$lineage/fullchain.pem" https_certificates/fullchain.pem; then return; fi
    RENEWED_LINEAGE=$lineage RENEWED_DOMAINS=${domains[*]} "$ROOT/scripts/deploy-certificate.sh"
}

# check_timer: who renews it.
check_timer() {
    local timer
    for timer in certbot.timer certbot-renew.timer snap.certbot.renew.timer; do
        if systemctl is-enabled --quiet "$timer" 2>/dev/null; then return; fi
    done
    [[ -e /etc/cron.d/certbot ]] || warn "未发现自动续期的定时任务。Nothing here renews it: have cron run 'certbot -q renew' twice a day"
}

parse_arguments "$@"
cd "$ROOT"
check_machine
http_port=$(setting KADUN_HTTP_PORT 80)
lineage_name=$(setting COMPOSE_PROJECT_NAME kadun) # one for each stack, whatever its domains become
config_dir=$(option_of --config-dir /etc/letsencrypt)
renewal=$config_dir/renewal/$lineage_name.conf
if [[ $way == webroot ]]; then check_webroot; fi
if [[ $way != dns ]]; then check_names_resolve; fi
run_certbot || die "未能取得证书，原证书继续使用；请看上面 certbot 的说明。No certificate; the old one stays in use. certbot says why above: does each domain lead here, and is port 80 open to the world? (else --dns)"
if [[ -n $dry_run ]]; then
    say "演练成功，未改动任何内容。It works: nothing was changed. Run it again without --dry-run"
    exit
fi
renew_by_webroot
deploy || die "证书已取得，但未能启用。The certificate is there but not in use: see above, then run scripts/deploy-certificate.sh ${config_dir@Q}/live/$lineage_name/{fullchain,privkey}.pem"
env_file set .env KADUN_DOMAIN "${domains[*]}" # whom scripts/cardctl doctor expects the certificate to name
check_timer
say "完成：证书会自动续期并启用。Done: certbot renews it, and each renewal is put to use by itself."
