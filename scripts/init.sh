#!/usr/bin/env bash
# 一次性准备：生成密钥、.env、数据目录与自签名的首张证书；再次运行不改动任何内容。
# Prepares this checkout for `docker compose up -d --wait`: secrets, .env, the data folders and a self-signed first
# certificate. A second run changes nothing; it only adds what an interrupted run left out.
#
#   scripts/init.sh [--domain NAME]… [--http-port 80] [--https-port 443] [--project kadun] [--host NAME] [--database-host HOST]
#   scripts/init.sh --join FILE --fingerprint KEY [--identity FILE] [--http-port N] [--https-port N] [--project NAME] [--host NAME]
#
#   --domain NAME       证书中的域名或 IP，可多次 a host name or IP address for the certificate; may be repeated
#   --http-port PORT    HTTP 端口 the port of HTTP (80), which only redirects
#   --https-port PORT   HTTPS 端口 the port of HTTPS (443)
#   --project NAME      项目名 the Compose project (kadun): two stacks on one machine need two names
#   --host NAME         本机在各主机中的名称，默认为机器名 this machine's name among several (KADUN_HOST): by default its own
#   --database-host HOST[:PORT][,HOST[:PORT]…]
#                       使用本机（127.0.0.1）或别处的 PostgreSQL，而非容器中的
#                       PostgreSQL on this machine (127.0.0.1) or elsewhere, instead of the one in a container
#   --join FILE         作为又一台主机加入：FILE 由另一台的 scripts/export.sh --join 导出，- 为标准输入。检查能否访问同一个数据库
#                       joins as one more machine: FILE is of scripts/export.sh --join on another; - is standard input. Checks
#                       that this machine reaches the same database. Ports and project are by default those of the other
#   --fingerprint KEY   包须由此签名密钥签名，见 export.sh 打印的命令 the key that must have signed the bundle: export.sh prints it
#   --identity FILE     解密用的 age 私钥 the age identity, where the bundle was encrypted to a recipient
#
# 其余设置见 .env。All other settings are in .env, which this script creates.
# 需要 openssl、python3、age。Needs openssl, python3 and age.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/common.sh
source "$ROOT/scripts/lib/common.sh"
# shellcheck source=scripts/lib/secrets.sh
source "$ROOT/scripts/lib/secrets.sh"
# shellcheck source=scripts/lib/selfsigned.sh
source "$ROOT/scripts/lib/selfsigned.sh"
# shellcheck source=scripts/lib/init-options.sh
source "$ROOT/scripts/lib/init-options.sh"
if [[ " $* " == *' --join '* ]]; then
    # shellcheck source=scripts/lib/join-steps.sh
    source "$ROOT/scripts/lib/join-steps.sh"
fi

APP_UID=10001 # if root prepares, unless an account has it; otherwise the container runs as the user who prepares
declare -A wanted=()
domains=()
made=()
DOTENV=.env # or a bundle's
MORE_FILES='' # of Compose

# check_state: refuses before anything is written. A machine that has .env has joined: that comes last.
check_state() {
    local name
    need openssl openssl
    need python3 python3
    need age-keygen age
    [[ ! -e data/.joining || -n $join || -e .env ]] \
        || die "加入未完成：请再次执行 scripts/init.sh --join，或移走 secrets/ 与 data/。This machine has not joined yet: run scripts/init.sh --join again, or move secrets/ and data/ away"
    for name in KADUN_APP_IMAGE KADUN_UID; do
        [[ ! -e .env || -n $(env_file get .env "$name") ]] \
            || die ".env 不完整（缺少 $name）：请移走 .env，再以原来的 --project、端口与 --domain 执行 scripts/init.sh，并把您改过的设置抄回。.env is incomplete ($name is missing): move it away, run scripts/init.sh with the same --project, ports and --domain as before, and copy your own settings back"
    done
    [[ -w . && ( ! -e secrets || -x secrets ) ]] \
        || die "此目录属于其他用户：请以其身份运行。This checkout belongs to another user: run as $(stat -c %U .), or as root"
    for name in "${!wanted[@]}"; do
        [[ ! -e .env || $(env_file get .env "$name") == "${wanted[$name]}" ]] \
            || die ".env 已存在且 $name 不同，请直接修改 .env。.env exists and says $name=$(env_file get .env "$name"): edit it there"
    done
    check_database
    [[ -e https_certificates/privkey.pem || ! -e https_certificates/fullchain.pem ]] \
        || die "https_certificates/ 有证书而无 privkey.pem：请补上或移走证书。https_certificates/ holds fullchain.pem without privkey.pem: add the key, or move the certificate away"
    check_certificate
    [[ -e .env ]] || check_ports_free
}

# check_certificate: the names can go into a new certificate, or are in the one that is there. OpenSSL checks their form.
check_certificate() {
    local name check
    if [[ ! -e https_certificates/fullchain.pem ]]; then
        self_signed <(new_key) "${domains[@]}" >/dev/null 2>&1 \
            || die "无法生成证书：请检查 --domain。Cannot make a certificate: is each --domain a host name or an IP address?"
        return
    fi
    for name in "${domains[@]}"; do
        check=-checkhost
        if is_ip "$name"; then check=-checkip; fi
        openssl x509 -in https_certificates/fullchain.pem -noout "$check" "$name" | grep -q 'does match' \
            || die "已有证书不含 $name：如需重新生成，请先移走 https_certificates/ 中的两个 .pem。The certificate here does not name $name: move both .pem files away to have a new one made"
    done
}

check_ports_free() {
    local port
    for port in "${wanted[KADUN_HTTP_PORT]:-80}" "${wanted[KADUN_HTTPS_PORT]:-443}"; do
        # Bash opens the connection: if that succeeds, another server listens there.
        if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            die "端口 $port 已被占用：请停止占用者，或用 --http-port、--https-port 另选。Port $port is taken on this machine: stop the program that listens there, or choose other ports with --http-port and --https-port"
        fi
    done
}

# place FILE MODE OWNER COMMAND…: writes what the command prints into FILE, whole or not at all.
place() {
    local file=$1 mode=$2 owner=$3 new=secrets/.new
    shift 3
    { "$@" >"$new" && [[ -s $new ]]; } || die "无法生成 could not make $file"
    chmod "$mode" "$new"
    if [[ $EUID == 0 ]]; then chown "$owner:0" "$new"; fi
    sync "$new"
    mv -f "$new" "$file"
    made+=("$file")
}

# make_folder FOLDER MODE OWNER: makes a folder. An empty one of root's, which the engine made to mount it, gets this owner.
make_folder() {
    if [[ -d $1 ]]; then
        [[ $EUID == 0 && $3 != 0 && $(stat -c %u "$1") == 0 && -z $(ls -A "$1") ]] || return 0
        chown "$3:0" "$1"
        chmod "$2" "$1"
        made+=("$1/")
        return
    fi
    mkdir -p "$1.new"
    chmod "$2" "$1.new"
    if [[ $EUID == 0 ]]; then chown "$3:0" "$1.new"; fi
    mv -T "$1.new" "$1"
    made+=("$1/")
}

make_folders() {
    make_folder https_certificates 755 0
    make_folder secrets 700 0
    make_folder data/keys 700 "$APP_UID" # the service's signing keys
    make_folder data/acme 755 0           # certbot writes, nginx's workers read
    make_folder data/files 755 "$APP_UID" # cardctl file add writes, nginx's workers read
    make_folder data/functions 755 0      # the vendor's code, which the service cannot change
    make_folder data/functions-packages 755 "$APP_UID" # cardctl function install writes
    is_external || make_folder data/postgres 700 0 # PostgreSQL's own user takes it over at its first start
}

make_certificate() {
    local folder=https_certificates
    [[ -e $folder/privkey.pem ]] || place "$folder/privkey.pem" 600 0 new_key
    [[ -e $folder/fullchain.pem ]] || place "$folder/fullchain.pem" 644 0 self_signed "$folder/privkey.pem" "${domains[@]}"
}

# make_env [COMMAND]: with what the command prints. Comes last: without .env Compose starts nothing. It holds no secret, so anybody
# may read it. One of an older version lacks the host's name.
make_env() {
    [[ -e .env ]] || place .env 644 0 "${1:-env_text}"
    if [[ -z $(env_file get .env KADUN_HOST) ]]; then
        env_file set .env KADUN_HOST "$(host_name)"
        made+=("KADUN_HOST in .env")
    fi
}

# host_name: the machine's name, as the service takes it (app/domain/hosts.py).
host_name() {
    local name
    if [[ -n ${wanted[KADUN_HOST]:-} ]]; then printf '%s' "${wanted[KADUN_HOST]}" && return; fi
    name=$(uname -n | tr -c 'A-Za-z0-9._-' - | cut -c 1-57 | sed 's/^[._-]*//; s/[._-]*$//')
    printf '%s' "${name:-unnamed}"
}

env_text() {
    local files='' index=''
    if [[ -r data/pip-index-url ]]; then index=$(<data/pip-index-url); fi # from provision.sh --mirror-pip
    if is_external; then files=$'\n'COMPOSE_FILE=${EXTERNAL_FILES/:/$MORE_FILES:}; fi
    env_file render scripts/lib/env.template "project=${wanted[COMPOSE_PROJECT_NAME]:-kadun}" "compose_file=$files" \
        "http_port=${wanted[KADUN_HTTP_PORT]:-80}" "https_port=${wanted[KADUN_HTTPS_PORT]:-443}" "domains=${domains[*]-}" \
        "host=$(host_name)" "uid=$APP_UID" "function_first_uid=$(free_user_ids)" "pip_index_url=$index"
}

# find_user_id: sets APP_UID to the owner of existing keys, else to a user ID that no account has, which could read them.
find_user_id() {
    local owner
    owner=$(stat -c %u data/keys 2>/dev/null) || owner=0
    if ((owner)); then APP_UID=$owner && return; fi
    while [[ -n $(getent passwd "$APP_UID" 2>/dev/null) ]] && ((APP_UID < 10100)); do APP_UID=$((APP_UID + 1)); done
}

# free_user_ids: prints the first of 129 user IDs for calls of core functions. No account has one of them, and two checkouts on
# one machine get different ones: the kernel counts the processes of a user ID across containers.
free_user_ids() {
    local first tries
    first=$((20001 + 200 * ($(cksum <<<"$ROOT" | cut -d ' ' -f 1) % 190)))
    for ((tries = 0; tries < 190; tries++)); do
        # shellcheck disable=SC2046  # a list of numbers
        if [[ -z $(getent passwd $(seq "$first" $((first + 128)))) ]]; then break; fi
        first=$((20001 + (first - 20001 + 200) % 38000))
    done
    echo "$first"
}

report() {
    if ((${#made[@]})); then
        printf '已生成 made: %s\n' "${made[*]}"
    else
        echo "一切就绪，未作改动。Everything is there already: nothing changed."
    fi
    if [[ " ${made[*]-} " == *" secrets/kernal_data_key "* || " ${made[*]-} " == *" secrets/backup_identity "* ]]; then
        echo "请把以下内容复制到别的机器，备份中没有它们。Copy these to another machine: they are in no backup."
        echo "  secrets/kernal_data_key, data/keys/  缺少则无法再为已发出的程序提供服务 without them programs in the field cannot be served"
        echo "  secrets/backup_identity  缺少则备份无法解密 without it no backup can be decrypted"
        echo "  secrets/keys_identity  仅在 KADUN_KEYS=database 时需要 with KADUN_KEYS=database only: the signing keys do not open without it"
        echo "  secrets/sealing_key  启用过两步验证或 Webhook 后缺少则无法启动 without it the service does not start once there is two-step verification or a webhook"
        echo "启动后 scripts/export.sh -o kadun.tar.age --passphrase 会全部打包；如何确认见 docs/operations.zh-CN.md 开头。After the start scripts/export.sh -o kadun.tar.age --passphrase bundles them all; docs/operations.md says at its top how to confirm the copy."
    fi
    if is_external; then
        echo "先在数据库中建立角色（可重复执行）first make the roles in the database (as often as you like): $(printf '%q' "$ROOT")/scripts/database-roles.sh | sudo -u postgres psql"
    fi
    echo "下一步 next: cd $(printf '%q' "$ROOT") && docker compose up -d --wait"
}

take_options "$@"
cd "$ROOT"
umask 077
if [[ $EUID != 0 ]]; then APP_UID=$EUID; fi
if [[ -e .env ]]; then APP_UID=$(env_file get .env KADUN_UID); elif [[ $EUID == 0 ]]; then find_user_id; fi
# The first run writes nothing before all is checked.
if [[ -e data/.setup.lock ]]; then open_lock setup; else exec {LOCK}<"$ROOT"; fi
flock -w 30 "$LOCK" || die "另一个脚本正在此运行，请稍候再试。Another script is at work here: try again when it is done"
if [[ -n $join ]]; then
    begin_join "$join"
fi
check_state
if [[ -n $join ]]; then check_join_database; fi
mkdir -p data
[[ -e .env ]] || chmod go= data # provision.sh may have made it
[[ -e data/.setup.lock ]] || open_lock setup # for the next run
make_folders
open_to_containers
if [[ -n $join ]]; then
    place_joined
else
    trap 'rm -f secrets/.new' EXIT
fi
make_secrets
make_certificate
make_env ${join:+joined_env}
rm -f data/.joining
if [[ -n $join ]]; then report_join; else report; fi
