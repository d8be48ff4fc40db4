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
#                     每次启用后经 SSH 发到其他主机，可多次；写入 .env 的 KADUN_CERTIFICATE_HOSTS sends it to another machine,
#                     now and after each renewal; may be repeated. Written to .env as KADUN_CERTIFICATE_HOSTS
#
# certbot 的选项写在 -- 之后 certbot's own options follow --: --email ADDRESS, --server URL, --force-renewal.
# 使用即表示同意证书机构的条款。再次运行可更换域名。Running this means that you agree to the authority's terms of service.
# Run it again to change the names.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
source "$ROOT/scripts/lib/certificate.sh"

# run_certbot LINEAGE DOMAIN…: the hook runs in sh, and its first word must be a program.
run_certbot() {
    local plugin=${OPTION[dns]:-}
    local -a options=(--non-interactive --agree-tos --register-unsafely-without-email --cert-name "$1" --keep-until-expiring
        --expand --renew-with-new-domains --key-type ecdsa --domains "$(IFS=, && printf '%s' "${*:2}")"
        --deploy-hook "bash $(quoted "$ROOT/scripts/deploy-certificate.sh")" ${OPTION[dry-run]:+--dry-run})
    if [[ -n ${OPTION[standalone]:-} ]]; then options+=(--standalone)
    elif [[ $plugin == manual ]]; then options+=(--manual --preferred-challenges dns)
    elif [[ -n $plugin ]]; then options+=(--authenticator "dns-${plugin#dns-}")
    else options+=(--webroot --webroot-path "$ROOT/data/acme")
    fi
    certbot certonly "${options[@]}" "${PASSED_ON[@]}"
}

parse_options "dry-run standalone dns= to=*" "$@"
((${#OPERANDS[@]})) || usage_error "需要域名 a domain is needed"
exclusive standalone dns
cd "$ROOT"
require_prepared
need certbot certbot
config=$(printf '%s\n' --config-dir=/etc/letsencrypt "${PASSED_ON[@]}" \
    | sed -n '/^--config-dir$/ { n; p }; s/^--config-dir=//p' | tail -n 1) # certbot's folder
port=$(setting KADUN_HTTP_PORT 80)
lineage=$(setting COMPOSE_PROJECT_NAME kadun) # one for each stack, whatever its domains become
warn_of_pinning
hosts=${OPTION[to]:-}
[[ -z $hosts || -n ${OPTION[dry-run]:-} ]] || set_setting KADUN_CERTIFICATE_HOSTS "${hosts//$'\n'/ }" # for the hook
run_certbot "$lineage" "${OPERANDS[@]}" || die "未能取得证书，原证书继续使用；请看上面 certbot 的说明。No certificate was issued; the old one stays in use. certbot says why above: does each domain point to this server, and is port 80 reachable from outside? (otherwise use --dns)"
if [[ -n ${OPTION[dry-run]:-} ]]; then
    say "演练成功，未改动任何内容。It works: nothing was changed. Run it again without --dry-run"
    exit
fi
renewal=$config/renewal/$lineage.conf
fetched_at=$(sed -n 's/^http01_port = //p' "$renewal")
if [[ -n ${OPTION[standalone]:-} && ${fetched_at:-80} == "$port" ]]; then # it is nginx's port from the first start on
    sed -i "s|^authenticator = standalone\$|authenticator = webroot\nwebroot_path = \"$ROOT/data/acme\",|" "$renewal"
fi
set_setting KADUN_DOMAIN "${OPERANDS[*]}" # scripts/cardctl doctor checks the certificate for these names
# certbot hides how its hook ended; it runs none where the certificate is not due yet.
RENEWED_LINEAGE=$config/live/$lineage RENEWED_DOMAINS=${OPERANDS[*]} "$ROOT/scripts/deploy-certificate.sh" \
    || die "证书已取得，但未能在各处启用：排除上述问题后，再次执行同一命令。The certificate was issued but is not in use everywhere: mend what stands above, then run the same command again"
say "完成：certbot 的定时任务会续期，每次续期自动启用。Done: certbot's timer renews it, and each renewal is installed automatically"
