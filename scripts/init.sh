#!/usr/bin/env bash
# 一次性准备：生成密钥、.env、数据目录与自签名的首张证书；再次运行不改动任何内容。
# Prepares this checkout for `docker compose up -d --wait`, once: secrets, .env, the data folders and a
# self-signed first certificate. Run again it changes nothing; what an interrupted run left out it adds.
#
#   scripts/init.sh [--domain NAME]… [--http-port 80] [--https-port 443] [--project kadun]
#
#   --domain NAME       证书中的域名或 IP，可多次 a host name or IP for the certificate; may be repeated
#   --http-port PORT    HTTP 端口 where HTTP listens (80); it only redirects
#   --https-port PORT   HTTPS 端口 where HTTPS listens (443)
#   --project NAME      项目名 the Compose project (kadun): two stacks on one machine need two names
#
# 其余设置见 .env。All other settings stand in .env, which this makes.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/common.sh
source "$ROOT/scripts/lib/common.sh"
# shellcheck source=scripts/lib/identity.sh
source "$ROOT/scripts/lib/identity.sh"
# shellcheck source=scripts/lib/dotenv.sh
source "$ROOT/scripts/lib/dotenv.sh"
# shellcheck source=scripts/lib/selfsigned.sh
source "$ROOT/scripts/lib/selfsigned.sh"

APP_UID=10001 # the user in the image, when root prepares; else whoever prepares is the container's user too
declare -A chosen=()
domains=()
made=()

parse_arguments() {
    while (($#)); do
        case $1 in
            -h | --help) print_help "$ROOT/scripts/init.sh"; exit ;;
            --domain | --http-port | --https-port | --project)
                [[ -n ${2:-} ]] || usage_error "缺少参数 a value is missing: $1"
                case $1 in
                    --domain) check_domain "$2"; domains+=("$2") ;;
                    --http-port) check_port "$2"; chosen[KADUN_HTTP_PORT]=$2 ;;
                    --https-port) check_port "$2"; chosen[KADUN_HTTPS_PORT]=$2 ;;
                    --project) check_project "$2"; chosen[COMPOSE_PROJECT_NAME]=$2 ;;
                esac
                shift 2
                ;;
            *) usage_error "未知参数 unknown argument: $1" ;;
        esac
    done
    [[ ${chosen[KADUN_HTTP_PORT]:-80} != "${chosen[KADUN_HTTPS_PORT]:-443}" ]] \
        || usage_error "两个端口不能相同 the two ports must differ"
}

check_port() {
    if [[ $1 =~ ^[1-9][0-9]{0,4}$ ]] && (($1 <= 65535)); then return; fi
    usage_error "端口须为 1–65535 a port is a number from 1 to 65535: $1"
}

check_project() {
    [[ $1 =~ ^[a-z0-9][a-z0-9_-]*$ ]] || usage_error "项目名只能含小写字母、数字、- 和 _ a project's name is of a–z, 0–9, - and _: $1"
}

check_domain() {
    [[ ${#1} -le 253 && $1 =~ ^(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$ ]] || is_ipv6 "$1" \
        || usage_error "不是域名或 IP neither a host name (write 中文 names as xn--…) nor an IP address: $1"
}

# Everything that could refuse comes before anything is written.
check_state() {
    local name
    need openssl openssl
    [[ -w . && ( ! -e secrets || -x secrets ) ]] \
        || die "此目录属于其他用户：请以其身份运行。This checkout is another user's: run as $(stat -c %U .), or as root"
    for name in "${!chosen[@]}"; do
        [[ ! -e .env || $(dotenv_value .env "$name") == "${chosen[$name]}" ]] \
            || die ".env 已存在且 $name 不同，请直接修改 .env。.env exists and says $name=$(dotenv_value .env "$name"): edit it there"
    done
    if has_cluster; then
        for name in db_password kernal_data_key; do
            [[ -e secrets/$name ]] || die "data/postgres 已有数据库，但缺少 secrets/$name：请从备份恢复，不会另行生成。data/postgres already holds a database, but secrets/$name is missing: put it back from a backup; a new one would not fit"
        done
    fi
    [[ -e secrets/db_password || ! -e secrets/database_url ]] \
        || die "缺少 secrets/db_password：请恢复，或删除 secrets/database_url 后重试。secrets/db_password is missing: put it back, or remove secrets/database_url as well"
    [[ -e https_certificates/privkey.pem || ! -e https_certificates/fullchain.pem ]] \
        || die "https_certificates/ 有证书而无 privkey.pem：请补上或移走证书。https_certificates/ holds fullchain.pem without privkey.pem: add the key, or move the certificate away"
    check_certificate
    [[ -e .env ]] || check_ports_free
}

# A folder that its owner has closed is PostgreSQL's, once it has run.
has_cluster() {
    [[ -d data/postgres ]] || return 1
    [[ ! -r data/postgres || ! -x data/postgres || -n $(ls -A data/postgres) ]]
}

# The names go into the certificate, or stand there already. OpenSSL knows best what a name is.
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
    for port in "${chosen[KADUN_HTTP_PORT]:-80}" "${chosen[KADUN_HTTPS_PORT]:-443}"; do
        # Bash itself opens the connection; one that succeeds has found somebody else's server.
        if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
            die "端口 $port 已被占用：请停止占用者，或用 --http-port、--https-port 另选。Port $port is taken on this machine: stop what listens there, or choose others with --http-port and --https-port"
        fi
    done
}

# place FILE MODE OWNER COMMAND…: what the command prints becomes FILE, whole or not at all.
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

# make_folder FOLDER MODE OWNER
make_folder() {
    [[ ! -d $1 ]] || return 0
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
    make_folder data/acme 755 0          # nginx's workers read what certbot writes here
    make_folder data/postgres 700 0      # PostgreSQL's own user takes it over at its first start
}

make_secrets() {
    [[ -e secrets/db_password ]] || place secrets/db_password 600 0 openssl rand -hex 24
    [[ -e secrets/database_url ]] || place secrets/database_url 600 "$APP_UID" database_url
    [[ -e secrets/kernal_data_key ]] || place secrets/kernal_data_key 600 "$APP_UID" new_identity
}

database_url() {
    printf 'postgresql://kadun:%s@database:5432/kadun\n' "$(<secrets/db_password)"
}

make_certificate() {
    local folder=https_certificates
    [[ -e $folder/privkey.pem ]] || place $folder/privkey.pem 600 0 new_key
    [[ -e $folder/fullchain.pem ]] || place $folder/fullchain.pem 644 0 self_signed $folder/privkey.pem "${domains[@]}"
}

# Last of all: without it Compose starts nothing. It holds no secret, so anybody may read it.
make_env() {
    [[ -e .env ]] || place .env 644 0 env_text
}

env_text() {
    local project=${chosen[COMPOSE_PROJECT_NAME]:-kadun}
    cat <<END
# 由 scripts/init.sh 生成；修改后执行 docker compose up -d --wait 生效。此处不放任何密码。
# Made by scripts/init.sh; after an edit run: docker compose up -d --wait. No secret belongs here.

COMPOSE_PROJECT_NAME=$project
KADUN_HTTP_PORT=${chosen[KADUN_HTTP_PORT]:-80}
KADUN_HTTPS_PORT=${chosen[KADUN_HTTPS_PORT]:-443}

# 容器内运行服务的用户，须能读取 secrets/ 与 data/keys。
# The service's user inside; secrets/ and data/keys are this user's.
KADUN_UID=$APP_UID

# 镜像与 Python 包的来源，国内可换成镜像站；PIP_INDEX_URL 留空为默认。
# Where images and Python packages come from; an empty PIP_INDEX_URL is pip's default.
KADUN_APP_IMAGE=$project-app
KADUN_PYTHON_IMAGE=python:3.13-slim-trixie
KADUN_POSTGRES_IMAGE=postgres:17-trixie
KADUN_NGINX_IMAGE=nginx:1.28-trixie
PIP_INDEX_URL=

# 每个客户地址每秒的请求数与突发数。Requests a second from one address, and how many more at once.
KADUN_RATE=10
KADUN_BURST=40
# HSTS 响应头，留空则不发送。The Strict-Transport-Security header; empty: none.
KADUN_HSTS=max-age=63072000

# 服务的设置，此处为默认值；KADUN_OFFLINE_GRACE（如 12h）默认不允许离线启动。
# The service's settings with their defaults; KADUN_OFFLINE_GRACE, such as 12h, allows offline starts.
#KADUN_ISSUER=kadun
#KADUN_REQUIRE_SEALED=false
#KADUN_OFFLINE_GRACE=
#KADUN_TIMEZONE=Asia/Shanghai
#KADUN_JOURNAL_KEEP_DAYS=365
#KADUN_LOG_LEVEL=info
#KADUN_WORKERS=2
#KADUN_THREADS=8
END
}

report() {
    if ((${#made[@]})); then
        printf '已生成 made: %s\n' "${made[*]}"
    else
        echo "一切就绪，未作改动。Everything was there already: nothing changed."
    fi
    if [[ " ${made[*]-} " == *" secrets/kernal_data_key "* ]]; then
        echo "请备份 secrets/ 与 data/keys/：丢失后已发出的程序将无法解密。Back up secrets/ and data/keys/: programs in the field depend on them."
    fi
    echo "下一步 next: cd $(printf '%q' "$ROOT") && docker compose up -d --wait"
}

parse_arguments "$@"
cd "$ROOT"
umask 077
if [[ $EUID != 0 ]]; then APP_UID=$EUID; fi
if [[ -e .env ]]; then APP_UID=$(dotenv_value .env KADUN_UID); fi
exec {lock}<"$ROOT"
flock -w 30 "$lock" || die "另一个脚本正在此运行，请稍候再试。Another script is at work here: try again when it is done"
check_state
mkdir -p data
make_folders
trap 'rm -f secrets/.new' EXIT
make_secrets
make_certificate
make_env
report
