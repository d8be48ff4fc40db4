# shellcheck shell=bash
# The other machines that get the certificate, over SSH. For scripts/deploy-certificate.sh, which has `record` and `notify`, and
# scripts/issue-certificate.sh. Sourced, never run.

HOSTS=() # [USER@]HOST[:/FOLDER], an IPv6 address in brackets
SSH_OPTIONS=()

# check_place TEXT: it says where to send the certificate.
check_place() {
    [[ $1 =~ ^([A-Za-z0-9._-]+@)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]*)(:/[^[:space:]]*)?$ ]] && [[ $1 != -* ]]
}

# take_hosts: sets HOSTS to those of --to, by default those of KADUN_CERTIFICATE_HOSTS in .env; to none with --here.
take_hosts() {
    local place
    [[ -z ${OPTION[here]:-} ]] || return 0
    read -rd '' -a HOSTS <<<"${OPTION[to]:-$(setting KADUN_CERTIFICATE_HOSTS)}" || true
    if [[ -n ${OPTION[to]:-} ]]; then
        for place in "${HOSTS[@]}"; do
            check_place "$place" || usage_error "--to 须为 [USER@]HOST[:/DIRECTORY]（IPv6 加方括号） --to must be [USER@]HOST[:/DIRECTORY], an IPv6 address in brackets: $place"
        done
    fi
    SSH_OPTIONS=(${OPTION[ssh-port]:+-p "${OPTION[ssh-port]}"})
    while IFS= read -r place; do [[ -z $place ]] || SSH_OPTIONS+=(-o "$place"); done <<<"${OPTION[ssh-option]:-}"
    SSH_OPTIONS+=(-o ServerAliveInterval=15 -o ServerAliveCountMax=8 -o ConnectTimeout=20) # for ssh, the first value counts
    [[ -z ${RENEWED_LINEAGE:-} ]] || SSH_OPTIONS+=(-o BatchMode=yes) # nobody is there to be asked
}

# send_to_hosts FOLDER: each host installs the pair in the folder by its own script. Ends the script, with the names of those that
# did not, once all others have.
send_to_hosts() {
    local place said
    local -a failed=()
    for place in "${HOSTS[@]}"; do
        if said=$(send_to "$place" "$1" 2>&1); then
            record OK "$place 已收到证书 has the certificate" info
            say "$place 已收到证书 has the certificate"
        else
            record FAILED "$place: $(last_line "$said")" err
            failed+=("$place ($(last_line "$said"))")
        fi
    done
    ((${#failed[@]})) || return 0
    said=$(printf '; %s' "${failed[@]}")
    notify certificate failed "未收到新证书 without the new certificate: ${said#; }"
    die "这些主机未收到新证书，修复后请再次执行：These machines did not get the new certificate. When that is mended, run this here: scripts/deploy-certificate.sh https_certificates/fullchain.pem https_certificates/privkey.pem --to HOST. ${said#; }"
}

# send_to PLACE FOLDER
send_to() {
    local host=$1 folder=$ROOT
    check_place "$1" || { echo "不是 not [USER@]HOST[:/DIRECTORY]: $1"; return 1; }
    if [[ $1 == *:/* ]]; then host=${1%%:/*} folder=/${1#*:/}; fi
    host=${host/[/} host=${host/]/}
    # shellcheck disable=SC2016,SC2029  # for the bash on the other side
    tar --create --file - --directory "$2" fullchain.pem privkey.pem | ssh "${SSH_OPTIONS[@]}" -- "$host" "$(quoted bash -c '
        [[ -e $1/scripts/deploy-certificate.sh ]] || { echo "没有卡盾的目录 no checkout of Kadun: $1 (--to HOST:/DIRECTORY)" >&2; exit 1; }
        cd -- "$1" && umask 077 && work=$(mktemp -d data/.certificate.XXXXXX) && trap "rm -rf -- $work" EXIT &&
            tar --extract --file - --directory "$work" --no-same-owner &&
            scripts/deploy-certificate.sh "$work/fullchain.pem" "$work/privkey.pem" --here >/dev/null' bash "$folder")"
}
