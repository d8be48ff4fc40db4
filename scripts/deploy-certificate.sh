#!/usr/bin/env bash
# 启用证书：检查、就位、重新加载 nginx 并确认已生效；任何一步失败都恢复原证书。
# Installs a certificate: checks the pair, copies it into https_certificates/, reloads nginx and waits until it is served.
# After any failure the old pair is put back. Since certbot hides a hook's output, the failure is also reported to syslog
# (journalctl -t kadun-certificate), data/certificates.log and KADUN_BACKUP_WEBHOOK.
#
#   scripts/deploy-certificate.sh FULLCHAIN PRIVKEY [--domain NAME]… [--to HOST… | --here]
#
#   FULLCHAIN       证书链（PEM，服务器证书在前）the chain in PEM, the server's certificate first
#   PRIVKEY         无密码的 PEM 私钥 its private key in PEM, without a password
#   --domain NAME   证书必须包含的域名或 IP，可多次；默认至少含 .env 中 KADUN_DOMAIN 的一个 a host name or IP address that the
#                   certificate must name; may be repeated. By default it must name one of KADUN_DOMAIN in .env
#   --to [USER@]HOST[:/DIRECTORY]
#                   随后经 SSH 发到其他主机并在那里启用，可多次；默认为 .env 的 KADUN_CERTIFICATE_HOSTS，目录默认与此处相同
#                   sends it on to another machine over SSH, whose own script installs it; may be repeated. The default is
#                   KADUN_CERTIFICATE_HOSTS in .env, and the folder that of this checkout
#   --here          只在本机启用 installs it on this machine only, whatever .env says
#   --ssh-port N, --ssh-option OPTION
#                   传给 ssh 的端口与选项 the SSH port there, and options for ssh -o. Renewals take them from ~/.ssh/config
#
# 不带参数时由 certbot 调用（RENEWED_LINEAGE、RENEWED_DOMAINS）。Without arguments it is certbot's deploy hook.
# nginx 未运行时只放置文件。If nginx is not running, it only places the files.
# 有主机未收到时，其余主机照常启用，退出码 1。If a machine does not get it, the others do, and the exit status is 1.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/backups.sh
source "$ROOT/scripts/lib/backups.sh"
# shellcheck source=scripts/lib/certificate.sh
source "$ROOT/scripts/lib/certificate.sh"
# shellcheck source=scripts/lib/certificate-hosts.sh
source "$ROOT/scripts/lib/certificate-hosts.sh"

FOLDER=$ROOT/https_certificates
SECONDS_TO_SERVE=30
# shellcheck disable=SC2034 # for backups.sh: nothing is written to its log
BACKUP_FOLDER=''
work='' placed='' reloaded='' told=''

take_options() {
    parse_options "domain=* to=* here ssh-port= ssh-option=*" "$@"
    at_most 2
    [[ -z ${OPTION[to]:-} || -z ${OPTION[here]:-} ]] || usage_error "--to 与 --here 只能选一 choose one of --to and --here"
    take_hosts
    mapfile -t domains < <(printf '%s' "${OPTION[domain]:-}")
    chain=${OPERANDS[0]:-} key=${OPERANDS[1]:-}
    if [[ -n $key ]]; then return; fi
    [[ -z $chain && -n ${RENEWED_LINEAGE:-} ]] || usage_error "需要 FULLCHAIN 与 PRIVKEY FULLCHAIN and PRIVKEY are needed"
    chain=$RENEWED_LINEAGE/fullchain.pem key=$RENEWED_LINEAGE/privkey.pem
    read -ra domains <<<"${domains[*]} ${RENEWED_DOMAINS:-}"
}

# record OUTCOME TEXT PRIORITY: adds a line to the log and to syslog. certbot ignores a hook's exit status.
record() {
    printf '%s %s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$1" "$2" >>"$ROOT/data/certificates.log" || true
    if [[ $EUID == 0 ]]; then chown --reference="$FOLDER" -- "$ROOT/data/certificates.log" || true; fi
    if command -v logger >/dev/null; then
        logger --tag kadun-certificate --priority "daemon.$3" -- "$ROOT: $1 $2" 2>/dev/null || true
    fi
}

# refuse TEXT: puts the old certificate back, reports the failure and ends the script.
refuse() {
    put_back
    told=yes
    record FAILED "$1" err
    notify certificate failed "$1"
    printf '!!! 新证书未启用，原证书继续使用。The new certificate is NOT in use; the old one stays.\n' >&2
    die "$1"
}

# require_own_name: without --domain, the certificate names at least one of KADUN_DOMAIN's. --here heeds no setting.
require_own_name() {
    local name
    local -a names
    read -ra names <<<"$(setting KADUN_DOMAIN | tr '",' ' ')"
    [[ -z ${domains[*]}${OPTION[here]:-} && -n ${names[*]} ]] || return 0
    for name in "${names[@]}"; do
        if check_names "$work/new/fullchain.pem" "$name" >/dev/null; then return; fi
    done
    refuse "证书不含 .env 中 KADUN_DOMAIN 的任何名称；确要启用，请加 --domain。The certificate names none of KADUN_DOMAIN in .env (${names[*]}); to install it all the same, add --domain with one of its names: $(certificate_names "$work/new/fullchain.pem")"
}

# write_hsts: only with a certificate that every browser trusts: HSTS lets visitors not go past a warning.
write_hsts() {
    local value
    is_publicly_trusted "$work/new/fullchain.pem" || return 0
    value=$(setting KADUN_HSTS "$(grep -q '^KADUN_HSTS=' .env || echo max-age=63072000)")
    [[ -n $value ]] || return 0
    [[ $value =~ ^[A-Za-z0-9=\;\ -]+$ ]] || refuse ".env 中 KADUN_HSTS 无效 KADUN_HSTS in .env is not a valid value of that header: $value"
    printf 'add_header Strict-Transport-Security "%s" always;\n' "$value" >"$work/new/hsts.conf"
}

# install_from FOLDER: its files take their places, each by rename, and those that it lacks go. Fails where the disk is full.
install_from() {
    local name
    for name in fullchain.pem privkey.pem hsts.conf; do
        if [[ -e $1/$name ]]; then
            { cp -p -- "$1/$name" "$FOLDER/.$name.new" && mv -fT -- "$FOLDER/.$name.new" "$FOLDER/$name"; } || return 1
        else
            rm -f -- "$FOLDER/$name"
        fi
    done
    sync -f -- "$FOLDER"
}

# place: keeps the old files in $work/old. A self-signed pair stays beside the new one: programs may trust nothing else.
place() {
    local name
    chmod 644 "$work"/new/* && chmod 600 "$work/new/privkey.pem"
    if [[ $EUID == 0 ]]; then chown --reference="$FOLDER" -- "$work"/new/*; fi
    for name in fullchain.pem privkey.pem hsts.conf; do
        if [[ -e $FOLDER/$name ]]; then cp -pL -- "$FOLDER/$name" "$work/old/"; fi
    done
    if [[ -e $work/old/fullchain.pem && -e $work/old/privkey.pem ]] && is_self_signed "$work/old/fullchain.pem" \
        && ! cmp -s "$work/old/fullchain.pem" "$work/new/fullchain.pem"; then
        for name in fullchain.pem privkey.pem; do cp -p -- "$work/old/$name" "$FOLDER/self-signed-$name"; done
    fi
    placed=yes
    install_from "$work/new" || refuse "无法写入（磁盘满？）cannot write to $FOLDER: is the disk full?"
}

# put_back: installs the old files and reloads nginx.
put_back() {
    [[ -n $placed ]] || return 0
    placed=''
    install_from "$work/old" || warn "原证书未能放回：请再次执行。The old pair could not be put back: run this again"
    if [[ -n $reloaded ]]; then in_nginx nginx -s reload >/dev/null 2>&1 || true; fi
}

in_nginx() {
    compose exec -T nginx "$@" </dev/null
}

# served PORT: the SHA-256 of the certificate that is served on this port.
served() {
    timeout 5 openssl s_client -connect "127.0.0.1:$1" </dev/null 2>/dev/null | fingerprint
}

fingerprint() {
    openssl x509 -noout -fingerprint -sha256 2>/dev/null || true
}

# reload: waits until nginx has served the new certificate five times in a row: for some 100 ms workers of both
# configurations answer.
reload() {
    local said port wanted deadline seen=0
    said=$(in_nginx nginx -t 2>&1) || refuse "nginx 配置检查未通过 nginx -t fails: $(first_problem "$said")"
    reloaded=yes
    said=$(in_nginx nginx -s reload 2>&1) || refuse "nginx 无法重新加载 nginx cannot reload: $(first_problem "$said")"
    port=$(setting KADUN_HTTPS_PORT 443)
    wanted=$(fingerprint <"$FOLDER/fullchain.pem")
    deadline=$((SECONDS + SECONDS_TO_SERVE))
    until ((seen == 5)); do
        if [[ $(served "$port") == "$wanted" ]]; then seen=$((seen + 1)); else seen=0; fi
        ((SECONDS < deadline)) || refuse "重新加载后端口 $port 未使用新证书。Port $port does not serve the new certificate after the reload"
        sleep 0.1
    done
}

# first_problem TEXT: the line of nginx's output that explains a failure.
first_problem() {
    grep -m 1 -E '\[(emerg|alert|crit|error)\]' <<<"$1" || tail -n 1 <<<"$1"
}

# finish: reports an unexpected end, too, such as that of a full disk.
finish() {
    local status=$?
    if [[ -z $told ]]; then (refuse "意外中止 ended unexpectedly (status $status)") || true; fi
    rm -rf -- "$work"
}

take_options "$@"
if [[ -n $chain ]]; then chain=$(realpath -m -- "$chain") key=$(realpath -m -- "$key"); fi
cd "$ROOT"
umask 077
need openssl openssl
[[ -e .env && -d $FOLDER ]] || die "请先运行 scripts/init.sh。Run scripts/init.sh first"
[[ -w $FOLDER && -w data ]] || die "请以 root 运行。Run this as root, or as the owner of $FOLDER"
open_lock certificates
flock -w 120 "$LOCK" || die "另一张证书正在启用。Another certificate is being installed: try again when that is done"
rm -rf -- data/.deploying.* # with a private key, of a run that was killed
work=$(mktemp -d data/.deploying.XXXXXX)
mkdir "$work/new" "$work/old"
trap finish EXIT
trap 'refuse "被中断 interrupted"' HUP INT TERM
# -L: certbot's live/ holds links.
said=$(cp -L -- "$chain" "$work/new/fullchain.pem" 2>&1 && cp -L -- "$key" "$work/new/privkey.pem" 2>&1) || refuse "无法复制 cannot copy: $said"
problem=$(certificate_problem "$work/new/fullchain.pem" "$work/new/privkey.pem" "${domains[@]}")
[[ -z $problem ]] || refuse "$problem"
require_own_name
if [[ -z ${RENEWED_LINEAGE:-} ]]; then is_self_signed "$work/new/fullchain.pem" || warn_of_pinning; fi
write_hsts
place
if nginx_runs; then
    reload
    state="已启用 in use"
else
    state="已放置，下次启动时生效 placed; nginx is not running and will use it at its next start"
fi
placed=''
facts=$(openssl x509 -in "$FOLDER/fullchain.pem" -noout -serial -enddate -dateopt iso_8601 | sed 's/^notAfter=\([^ ]*\).*/until=\1/' | paste -sd ' ')
facts+=" names=$(certificate_names "$FOLDER/fullchain.pem" | tr ' ' ,) hsts=$([[ -e $FOLDER/hsts.conf ]] && echo yes || echo no)"
told=yes
record OK "$facts" info
echo "证书$state: $facts"
trap 'die "被中断，可能有主机未收到新证书。Interrupted: other machines may lack the new certificate"' HUP INT TERM
send_to_hosts "$FOLDER"
