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

FOLDER=$ROOT/https_certificates
SECONDS_TO_SERVE=30
# shellcheck disable=SC2034 # for backups.sh: nothing is written to its log
BACKUP_FOLDER=''
WORK='' PLACED='' DONE=''

# finish: after a failure the old pair is put back, and the failure is reported: certbot ignores how a hook ends.
finish() {
    local status=$?
    trap - EXIT
    if [[ -z $DONE ]]; then
        ((status)) || status=1
        if [[ -n $PLACED ]]; then
            install_from "$WORK/old" || warn "原证书未能放回：请再次执行。The old pair could not be put back: run this again"
            in_nginx nginx -s reload >/dev/null 2>&1 || true
        fi
        record FAILED "${REASON:-被中断或出错 interrupted or failed (status $status)}" err
        notify certificate failed "${REASON:-被中断或出错 interrupted or failed (status $status)}"
        printf '!!! 新证书未启用，原证书继续使用。The new certificate is NOT in use; the old one stays.\n' >&2
    fi
    rm -rf -- "$WORK"
    exit "$status"
}

# record OUTCOME TEXT PRIORITY: adds a line to the log and to syslog.
record() {
    printf '%s %s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$1" "$2" >>"$ROOT/data/certificates.log" || true
    if [[ $EUID == 0 ]]; then chown --reference="$FOLDER" -- "$ROOT/data/certificates.log" || true; fi
    logger --tag kadun-certificate --priority "daemon.$3" -- "$ROOT: $1 $2" 2>/dev/null || true
}

# require_own_name CHAIN: it names at least one of KADUN_DOMAIN's.
require_own_name() {
    local name
    local -a names
    read -ra names <<<"$(setting KADUN_DOMAIN | tr '",' ' ')"
    for name in "${names[@]}"; do
        if [[ -z $(names_problem "$1" "$name") ]]; then return; fi
    done
    ((${#names[@]} == 0)) || die "证书不含 .env 中 KADUN_DOMAIN 的任何名称；确要启用，请加 --domain。The certificate names none of KADUN_DOMAIN in .env (${names[*]}); to install it all the same, add --domain with one of its names: $(certificate_names "$1")"
}

# write_hsts CHAIN FILE: only with a certificate that every browser trusts: HSTS lets visitors not go past a warning.
write_hsts() {
    local value
    is_publicly_trusted "$1" || return 0
    value=$(setting KADUN_HSTS "$(grep -q '^KADUN_HSTS=' .env || echo max-age=63072000)")
    [[ -n $value ]] || return 0
    [[ $value =~ ^[A-Za-z0-9=\;\ -]+$ ]] || die ".env 中 KADUN_HSTS 无效 KADUN_HSTS in .env is not a valid value of that header: $value"
    printf 'add_header Strict-Transport-Security "%s" always;\n' "$value" >"$2"
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

# place NEW OLD: keeps the present files in OLD. A self-signed pair stays beside the new one: programs may trust nothing else.
place() {
    local name
    chmod 644 "$1"/* && chmod 600 "$1/privkey.pem"
    if [[ $EUID == 0 ]]; then chown --reference="$FOLDER" -- "$1"/*; fi
    for name in fullchain.pem privkey.pem hsts.conf; do
        if [[ -e $FOLDER/$name ]]; then cp -pL -- "$FOLDER/$name" "$2/"; fi
    done
    if [[ -e $2/fullchain.pem && -e $2/privkey.pem ]] && is_self_signed "$2/fullchain.pem" \
        && ! cmp -s "$2/fullchain.pem" "$1/fullchain.pem"; then
        for name in fullchain.pem privkey.pem; do cp -p -- "$2/$name" "$FOLDER/self-signed-$name"; done
    fi
    PLACED=yes
    install_from "$1" || die "无法写入（磁盘满？）cannot write to $FOLDER: is the disk full?"
}

in_nginx() { compose exec -T nginx "$@" </dev/null; }

# fingerprint: of the certificate that comes on standard input.
fingerprint() { openssl x509 -noout -fingerprint -sha256 2>/dev/null || true; }

# reload PORT: waits until nginx has served the new certificate five times in a row: for some 100 ms workers of both
# configurations answer.
reload() {
    local said wanted deadline=$((SECONDS + SECONDS_TO_SERVE)) seen=0
    said=$(in_nginx nginx -t 2>&1) || die "nginx 配置检查未通过 nginx -t fails: $(first_problem "$said")"
    said=$(in_nginx nginx -s reload 2>&1) || die "nginx 无法重新加载 nginx cannot reload: $(first_problem "$said")"
    wanted=$(fingerprint <"$FOLDER/fullchain.pem")
    until ((seen == 5)); do
        if [[ $(timeout 5 openssl s_client -connect "127.0.0.1:$1" </dev/null 2>/dev/null | fingerprint) == "$wanted" ]]; then
            seen=$((seen + 1))
        else
            seen=0
        fi
        ((SECONDS < deadline)) || die "重新加载后端口 $1 未使用新证书。Port $1 does not serve the new certificate after the reload"
        sleep 0.1
    done
}

# first_problem TEXT: the line of nginx's output that explains a failure.
first_problem() { grep -m 1 -E '\[(emerg|alert|crit|error)\]' <<<"$1" || tail -n 1 <<<"$1"; }

# is_place TEXT: it says where to send the certificate.
is_place() { [[ $1 =~ ^([A-Za-z0-9._-]+@)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]*)(:/[^[:space:]]*)?$ && $1 != -* ]]; }

# ssh_options: for whom no option is given, ~/.ssh/config counts.
ssh_options() {
    local option
    [[ -z ${OPTION[ssh-port]:-} ]] || printf '%s\n' -p "${OPTION[ssh-port]}"
    while IFS= read -r option; do [[ -z $option ]] || printf '%s\n' -o "$option"; done <<<"${OPTION[ssh-option]:-}"
    printf '%s\n' -o ServerAliveInterval=15 -o ServerAliveCountMax=8 -o ConnectTimeout=20 # for ssh, the first value counts
    [[ -z ${RENEWED_LINEAGE:-} ]] || printf '%s\n' -o BatchMode=yes # nobody is there to be asked
}

# send_to PLACE: its own script installs the pair of this machine.
send_to() {
    local host=$1 folder=$ROOT
    local -a options
    is_place "$1" || { echo "不是 not [USER@]HOST[:/DIRECTORY]: $1"; return 1; }
    if [[ $1 == *:/* ]]; then host=${1%%:/*} folder=/${1#*:/}; fi
    host=${host/[/} host=${host/]/}
    mapfile -t options < <(ssh_options)
    # shellcheck disable=SC2016,SC2029  # for the bash on the other side
    tar --create --file - --directory "$FOLDER" fullchain.pem privkey.pem | ssh "${options[@]}" -- "$host" "$(quoted bash -c '
        [[ -e $1/scripts/deploy-certificate.sh ]] || { echo "没有卡盾的目录 no checkout of Kadun: $1 (--to HOST:/DIRECTORY)" >&2; exit 1; }
        cd -- "$1" && umask 077 && work=$(mktemp -d data/.certificate.XXXXXX) && trap "rm -rf -- $work" EXIT &&
            tar --extract --file - --directory "$work" --no-same-owner &&
            scripts/deploy-certificate.sh "$work/fullchain.pem" "$work/privkey.pem" --here >/dev/null' bash "$folder")"
}

# send_to_all PLACE…: ends the script, with the names of those that did not get it, once all others have.
send_to_all() {
    local place said failed=''
    for place; do
        if said=$(send_to "$place" 2>&1); then
            record OK "$place 已收到证书 has the certificate" info
            say "$place 已收到证书 has the certificate"
        else
            record FAILED "$place: $(last_line "$said")" err
            failed+="; $place ($(last_line "$said"))"
        fi
    done
    [[ -n $failed ]] || return 0
    notify certificate failed "未收到新证书 without the new certificate: ${failed#; }"
    die "这些主机未收到新证书，修复后请再次执行：These machines did not get the new certificate. When that is mended, run this here: scripts/deploy-certificate.sh https_certificates/fullchain.pem https_certificates/privkey.pem --to HOST. ${failed#; }"
}

parse_options "domain=* to=* here ssh-port= ssh-option=*" "$@"
at_most 2
exclusive to here
read -rd '' -a places <<<"${OPTION[to]:-}" || true
for place in "${places[@]}"; do
    is_place "$place" || usage_error "--to 须为 [USER@]HOST[:/DIRECTORY]（IPv6 加方括号） --to must be [USER@]HOST[:/DIRECTORY], an IPv6 address in brackets: $place"
done
if [[ -z ${OPTION[to]:-}${OPTION[here]:-} ]]; then read -rd '' -a places <<<"$(setting KADUN_CERTIFICATE_HOSTS)" || true; fi
mapfile -t domains < <(printf '%s' "${OPTION[domain]:-}")
chain=${OPERANDS[0]:-} key=${OPERANDS[1]:-}
if [[ -z $chain && -n ${RENEWED_LINEAGE:-} ]]; then
    chain=$RENEWED_LINEAGE/fullchain.pem key=$RENEWED_LINEAGE/privkey.pem
    read -ra domains <<<"${domains[*]} ${RENEWED_DOMAINS:-}"
fi
[[ -n $key ]] || usage_error "需要 FULLCHAIN 与 PRIVKEY FULLCHAIN and PRIVKEY are needed"
chain=$(realpath -m -- "$chain") key=$(realpath -m -- "$key")
cd "$ROOT"
umask 077
need openssl openssl
require_prepared
[[ -w $FOLDER && -w data ]] || die "请以 root 运行。Run this as root, or as the owner of $FOLDER"
hold_lock certificates 120
rm -rf -- data/.deploying.* # with a private key, of a run that was killed
WORK=$(mktemp -d data/.deploying.XXXXXX)
mkdir "$WORK/new" "$WORK/old"
trap finish EXIT
trap 'die "被中断 interrupted"' HUP INT TERM
# -L: certbot's live/ holds links.
said=$(cp -L -- "$chain" "$WORK/new/fullchain.pem" 2>&1 && cp -L -- "$key" "$WORK/new/privkey.pem" 2>&1) || die "无法复制 cannot copy: $said"
problem=$(certificate_problem "$WORK/new/fullchain.pem" "$WORK/new/privkey.pem" "${domains[@]}")
[[ -z $problem ]] || die "$problem"
[[ -n ${domains[*]}${OPTION[here]:-} ]] || require_own_name "$WORK/new/fullchain.pem"
if [[ -z ${RENEWED_LINEAGE:-} ]]; then is_self_signed "$WORK/new/fullchain.pem" || warn_of_pinning; fi
write_hsts "$WORK/new/fullchain.pem" "$WORK/new/hsts.conf"
place "$WORK/new" "$WORK/old"
if nginx_runs; then
    reload "$(setting KADUN_HTTPS_PORT 443)"
    state="已启用 in use"
else
    state="已放置，下次启动时生效 placed; nginx is not running and will use it at its next start"
fi
DONE=yes
facts=$(openssl x509 -in "$FOLDER/fullchain.pem" -noout -serial -enddate -dateopt iso_8601 | sed 's/^notAfter=\([^ ]*\).*/until=\1/' | paste -sd ' ')
facts+=" names=$(certificate_names "$FOLDER/fullchain.pem" | tr ' ' ,) hsts=$([[ -e $FOLDER/hsts.conf ]] && echo yes || echo no)"
record OK "$facts" info
echo "证书$state: $facts"
send_to_all "${places[@]}"
