#!/usr/bin/env bash
# 启用证书：检查、就位、重新加载 nginx 并确认已生效；任何一步失败都恢复原证书。
# Installs a certificate: checks the pair, copies it into https_certificates/, reloads nginx and waits until it is served.
# After any failure the old pair is put back, and the failure is reported to syslog (journalctl -t kadun-certificate),
# data/certificates.log and KADUN_BACKUP_WEBHOOK.
#
#   scripts/deploy-certificate.sh FULLCHAIN PRIVKEY [--domain NAME]… [--to HOST… | --here]
#
#   FULLCHAIN       证书链（PEM，服务器证书在前）the chain in PEM, the server's certificate first
#   PRIVKEY         无密码的 PEM 私钥 its private key in PEM, without a password
#   --domain NAME   证书必须包含的域名或 IP，可多次；默认为 .env 的 KADUN_DOMAIN a host name or IP address that the
#                   certificate must name; may be repeated. The default is KADUN_DOMAIN in .env
#   --to [USER@]HOST[:/DIRECTORY]
#                   随后经 SSH 在其他主机启用，可多次；默认为 .env 的 KADUN_CERTIFICATE_HOSTS，目录默认与此处相同
#                   then has another machine install it, over SSH; may be repeated. One that fails does not stop the
#                   others. The default is KADUN_CERTIFICATE_HOSTS in .env, and the folder that of this checkout
#   --here          只在本机启用 installs it on this machine only, whatever .env says
#   --ssh-port N, --ssh-option OPTION
#                   传给 ssh 的端口与选项 the SSH port there, and options for ssh -o. Renewals take them from ~/.ssh/config
#
# 不带参数时由 certbot 调用（RENEWED_LINEAGE、RENEWED_DOMAINS）。Without arguments it is certbot's deploy hook.
# nginx 未运行时只放置文件。If nginx is not running, it only places the files.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
source "$ROOT/scripts/lib/backups.sh"
source "$ROOT/scripts/lib/certificate.sh"

FOLDER=$ROOT/https_certificates
STEP=checked # then placed, in use, done

# finish WORK: after a failure the old pair is put back, and the failure is reported: certbot ignores how a hook ends.
finish() {
    local status=$? outcome="新证书未启用，原证书继续使用。The new certificate is NOT in use; the old one stays."
    trap '' EXIT HUP INT TERM
    if [[ $STEP == placed ]]; then
        install_from "$1/old" || outcome="原证书未能放回：请再次执行。The old pair could not be put back: run this again."
        compose exec -T nginx nginx -s reload >/dev/null 2>&1 </dev/null || true
    elif [[ $STEP == 'in use' ]]; then
        outcome="本机已启用，其他主机可能没有；修复后请再次执行同一命令。It is in use here, but other machines may lack it. When that is mended, run the same command again (after certbot's own renewal: scripts/deploy-certificate.sh https_certificates/{fullchain,privkey}.pem)"
    fi
    if [[ $STEP != 'done' ]]; then
        REASON="$(failure_reason "$status"). $outcome"
        record FAILED "$REASON" err
        notify certificate failed "$REASON"
        printf '!!! %s\n' "$outcome" >&2
    fi
    rm -rf -- "$1"
    exit "$status"
}

# record OUTCOME TEXT PRIORITY: adds a line to the log and to syslog.
record() {
    printf '%s %s %s\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "$1" "$2" >>"$ROOT/data/certificates.log" || true
    logger --tag kadun-certificate --priority "daemon.$3" -- "$ROOT: $1 $2" 2>/dev/null || true
}

# prepare CHAIN KEY WORK: the new files in WORK/new, the present ones in WORK/old. A self-signed pair stays beside the new
# one: programs may trust nothing else. Fails where the disk is full.
prepare() {
    local file new=$3/new old=$3/old
    mkdir -- "$new" "$old" && write_hsts "$1" "$new/hsts.conf" \
        && install -m 644 -- "$1" "$new/fullchain.pem" && install -m 600 -- "$2" "$new/privkey.pem" || return 1
    if [[ $EUID == 0 ]]; then chown --reference="$FOLDER" -- "$new"/*; fi
    for file in "$FOLDER"/{fullchain.pem,privkey.pem,hsts.conf}; do
        [[ ! -e $file ]] || cp -pL -- "$file" "$old/" || return 1
    done
    [[ -e $old/privkey.pem ]] && is_self_signed "$old/fullchain.pem" && ! cmp -s {"$old","$new"}/*chain.pem || return 0
    for file in fullchain.pem privkey.pem; do cp -p -- "$old/$file" "$FOLDER/self-signed-$file" || return 1; done
}

# write_hsts CHAIN FILE: only with a certificate that every browser trusts: HSTS lets visitors not go past a warning.
write_hsts() {
    local value
    value=$(setting KADUN_HSTS "$(grep -q '^KADUN_HSTS=' "$ROOT/.env" || echo max-age=63072000)")
    [[ -n $value ]] && openssl verify -purpose sslserver -untrusted "$1" "$1" >/dev/null 2>&1 || return 0
    printf 'add_header Strict-Transport-Security "%s" always;\n' "$value" >"$2" && chmod 644 -- "$2"
}

# install_from FOLDER: its files take their places, each by rename; hsts.conf goes where it has none.
install_from() {
    [[ -e $1/hsts.conf ]] || rm -f -- "$FOLDER/hsts.conf"
    mv -f -- "$1"/* "$FOLDER/" && sync -f -- "$FOLDER"
}

# reload PORT: waits until nginx has served the new certificate five times in a row: for some 100 ms workers of both
# configurations answer.
reload() {
    local said served seen=0 deadline=$((SECONDS + 30))
    said=$(compose exec -T nginx sh -c 'nginx -t && nginx -s reload' 2>&1 </dev/null) \
        || die "nginx 拒绝其配置 nginx -t fails: ${said//$'\n'/ }"
    until ((seen == 5)); do
        served=$(timeout 5 openssl s_client -connect "127.0.0.1:$1" </dev/null 2>&1 | openssl x509 2>&1) || true
        if [[ $served == "$(openssl x509 -in "$FOLDER/fullchain.pem")" ]]; then seen=$((seen + 1)); else seen=0; fi
        ((SECONDS < deadline)) || die "重新加载后端口 $1 未使用新证书。Port $1 does not serve the new certificate after the reload"
        sleep 0.1
    done
}

# send_to PLACE [SSH-OPTION…]: the script there installs the pair of this machine.
send_to() {
    local host=${1%%:/*} folder=$ROOT
    [[ $1 != *:/* ]] || folder=/${1#*:/}
    # shellcheck disable=SC2016,SC2029  # for the bash on the other side
    tar -cf - -C "$FOLDER" fullchain.pem privkey.pem | ssh "${@:2}" -- "${host//[][]/}" "$(quoted bash -c '
        cd -- "$1" && umask 077 && work=$(mktemp -d data/.certificate.XXXXXX) && trap "rm -rf -- $work" EXIT &&
            tar --extract --file - --directory "$work" --no-same-owner &&
            scripts/deploy-certificate.sh "$work/fullchain.pem" "$work/privkey.pem" --here >/dev/null' bash "$folder")"
}

# send_to_all PLACE…: ends the script, with the names of those that did not get it, once all others have.
send_to_all() {
    local place said failed=''
    local -a options
    mapfile -t options < <(ssh_words "${OPTION[ssh-port]:-}" "${OPTION[ssh-option]:-}")
    options+=(-o ServerAliveInterval=15 -o ServerAliveCountMax=8 -o ConnectTimeout=20) # for ssh, the first value counts
    [[ -z ${RENEWED_LINEAGE:-} ]] || options+=(-o BatchMode=yes) # nobody is there to be asked
    for place; do
        if said=$(send_to "$place" "${options[@]}" 2>&1); then
            record OK "$place 已收到证书 has the certificate" info
            say "$place 已收到证书 has the certificate"
        else
            failed+="; $place (${said//$'\n'/ })"
        fi
    done
    [[ -z $failed ]] || die "这些主机未收到新证书 these machines did not get the new certificate: ${failed#; }"
}

parse_options "domain=* to=* here ssh-port= ssh-option=*" "$@"
at_most 2
exclusive to here
chain=${OPERANDS[0]:-${RENEWED_LINEAGE:+$RENEWED_LINEAGE/fullchain.pem}}
key=${OPERANDS[1]:-${RENEWED_LINEAGE:+$RENEWED_LINEAGE/privkey.pem}}
[[ -n $key ]] || usage_error "需要 FULLCHAIN 与 PRIVKEY FULLCHAIN and PRIVKEY are needed"
umask 077
require_prepared
hold_lock certificates 120
rm -rf -- "$FOLDER"/.deploying.* # with a private key, of a run that was killed
work=$(mktemp -d "$FOLDER/.deploying.XXXXXX")
trap 'finish "$work"' EXIT
trap 'exit 130' HUP INT TERM
names="${OPTION[domain]:-} ${RENEWED_DOMAINS:-}" places=${OPTION[to]:-}
if [[ -z ${OPTION[here]:-} ]]; then
    [[ $names == *[!\ ]* ]] || names=$(setting KADUN_DOMAIN)
    places=${places:-$(setting KADUN_CERTIFICATE_HOSTS)}
fi
read -rd '' -a names <<<"${names//[\",]/ }" || true
read -rd '' -a places <<<"$places" || true
require_servable "$chain" "$key" "${names[@]}"
[[ -n ${RENEWED_LINEAGE:-} ]] || is_self_signed "$chain" || warn_of_pinning
prepare "$chain" "$key" "$work" || die "无法写入（磁盘满？）cannot write to $FOLDER: is the disk full?"
STEP=placed
install_from "$work/new"
state="已放置，下次启动时生效 placed; nginx is not running and will use it at its next start"
if [[ -n $(compose ps --quiet --status running nginx 2>/dev/null </dev/null) ]]; then
    reload "$(setting KADUN_HTTPS_PORT 443)"
    state="已启用 in use"
fi
STEP='in use'
facts=$(openssl x509 -in "$chain" -noout -serial -enddate -dateopt iso_8601 | paste -sd ' ')
facts+=" names=$(certificate_names "$chain" | tr ' ' ,) hsts=$([[ -e $FOLDER/hsts.conf ]] && echo yes || echo no)"
record OK "$facts" info
echo "证书$state: $facts"
send_to_all "${places[@]}"
STEP='done'
