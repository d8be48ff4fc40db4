#!/usr/bin/env bash
# 一次性准备：生成密钥、.env、数据目录与自签名的首张证书；再次运行不改动任何内容。
# Prepares this checkout for `docker compose up -d --wait`: secrets, .env, the data folders and a self-signed first
# certificate. A second run changes nothing; it only adds what an interrupted run left out.
#
#   scripts/init.sh [--domain NAME]… [--http-port 80] [--https-port 443] [--project kadun] [--host NAME] [--database-host HOST]
#
#   --domain NAME       证书中的域名或 IP，可多次 a host name or IP address for the certificate; may be repeated
#   --http-port PORT    HTTP 端口 the port of HTTP (80), which only redirects
#   --https-port PORT   HTTPS 端口 the port of HTTPS (443)
#   --project NAME      项目名 the Compose project (kadun): two stacks on one machine need two names
#   --host NAME         本机在各主机中的名称，默认为机器名 this machine's name among several (KADUN_HOST): by default its own
#   --database-host HOST[:PORT][,HOST[:PORT]…]
#                       使用本机（127.0.0.1）或别处的 PostgreSQL，而非容器中的
#                       PostgreSQL on this machine (127.0.0.1) or elsewhere, instead of the one in a container
#
# .env 丢失时，项目名与端口取自此目录的容器。If .env is lost, project and ports are those of this folder's containers.
# 其余设置见 docs/reference.md。All other settings: docs/reference.md. 需要 openssl、python3、age。Needs openssl, python3 and age.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/common.sh
source "$ROOT/scripts/lib/common.sh"
# shellcheck source=scripts/lib/secrets.sh
source "$ROOT/scripts/lib/secrets.sh"

readonly CONTAINER=database:5432 EXTERNAL_FILES=docker-compose.yml:deploy/external-database.yml
declare -A wanted=() # settings that were asked for
made=()

# check_options DOMAIN…: what was asked for can be written.
check_options() {
    local name host='(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)(:[1-9][0-9]{0,4})?'
    for name; do
        [[ ${#name} -le 253 && $name =~ ^(\*\.)?[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$ ]] || is_ipv6 "$name" \
            || usage_error "不是域名或 IP not a host name (write 中文 names as xn--…) or IP address: $name"
    done
    for name in "${wanted[KADUN_HTTP_PORT]:-80}" "${wanted[KADUN_HTTPS_PORT]:-443}"; do
        if [[ ! $name =~ ^[1-9][0-9]{0,4}$ ]] || ((name > 65535)); then
            usage_error "端口须为 1–65535 a port must be a number from 1 to 65535: $name"
        fi
    done
    [[ ${wanted[KADUN_HTTP_PORT]:-80} != "${wanted[KADUN_HTTPS_PORT]:-443}" ]] || usage_error "两个端口不能相同 the two ports must differ"
    [[ ${wanted[COMPOSE_PROJECT_NAME]:-kadun} =~ ^[a-z0-9][a-z0-9_-]*$ ]] \
        || usage_error "项目名只能含小写字母、数字、- 和 _ a project name consists of a–z, 0–9, - and _: ${wanted[COMPOSE_PROJECT_NAME]}"
    is_host_name "${wanted[KADUN_HOST]:-unnamed}" \
        || usage_error "--host 须为 1–57 个字母、数字、.、- 或 _ --host must be 1 to 57 letters, digits, dots, dashes or underscores: ${wanted[KADUN_HOST]}"
    name=${OPTION[database-host]:-}
    [[ -z $name || ($name =~ ^$host(,$host)*$ && $name != database && $name != database:*) ]] \
        || usage_error "不是 HOST[:PORT][,HOST[:PORT]…]。Not HOST[:PORT][,HOST[:PORT]…]: $name"
}

# find_lost_settings: without .env, or with one that was cut off, project and ports are those of this folder's containers; without
# these they are those of the note in data/, and so are the names of the certificate.
find_lost_settings() {
    local id name value
    if [[ -e .env && (-z $(setting KADUN_APP_IMAGE) || -z $(setting KADUN_UID)) ]]; then
        mv -- .env ".env.cut-off-$(date --utc +%Y%m%dT%H%M%SZ)"
        warn ".env 不完整，已移到旁边：请把您改过的设置抄回。.env was cut off and is kept beside the new one: copy your own settings back"
    elif [[ ! -e .env && -e data/.project ]]; then
        warn ".env 丢失，已按原项目、端口与域名重新生成：其余设置请从备份抄回。.env was lost and is made anew with project, ports and domain: copy your other settings back from a backup"
    fi
    [[ ! -e .env ]] || return 0
    id=$(docker ps --all --quiet --filter "label=com.docker.compose.project.working_dir=$ROOT" \
        --filter label=com.docker.compose.service=nginx 2>/dev/null </dev/null | head -n 1) || id=''
    while IFS='=' read -r name value; do
        [[ $name =~ ^(COMPOSE_PROJECT_NAME|KADUN_HTTPS?_PORT|KADUN_DOMAIN)$ && -n $value ]] || continue
        [[ $name == KADUN_DOMAIN && -n ${OPTION[domain]:-} ]] || wanted[$name]=${wanted[$name]:-$value}
    done < <([[ -z $id ]] || docker inspect --format 'COMPOSE_PROJECT_NAME={{index .Config.Labels "com.docker.compose.project"}}
{{range .Config.Env}}{{println .}}{{end}}' "$id" 2>/dev/null; cat data/.project 2>/dev/null || true)
    [[ -z $id ]] || return 0
    for value in "${wanted[KADUN_HTTP_PORT]:-80}" "${wanted[KADUN_HTTPS_PORT]:-443}"; do
        # Bash opens the connection: if that succeeds, another server listens there.
        ! (: <"/dev/tcp/127.0.0.1/$value") 2>/dev/null \
            || die "端口 $value 已被占用：请停止占用者，或用 --http-port、--https-port 另选。Port $value is taken on this machine: stop the program that listens there, or choose other ports with --http-port and --https-port"
    done
}

# check_state HOSTS DOMAIN…: refuses before anything is written.
check_state() {
    local name check
    [[ -w . && (! -e secrets || -x secrets) ]] \
        || die "此目录属于其他用户：请以其身份运行。This checkout belongs to another user: run as $(stat -c %U .), or as root"
    for name in "${!wanted[@]}"; do
        [[ ! -e .env || $(setting "$name") == "${wanted[$name]}" ]] \
            || die ".env 已存在且 $name 不同，请直接修改 .env。.env exists and says $name=$(setting "$name"): edit it there"
    done
    [[ $(setting COMPOSE_FILE) != *docker-compose.external-database.yml* ]] \
        || die ".env 的 COMPOSE_FILE 是旧文件名：请执行 git pull && scripts/upgrade.sh --no-pull。COMPOSE_FILE in .env has a file of an older version: run git pull && scripts/upgrade.sh --no-pull"
    check_database "$1"
    [[ -e https_certificates/privkey.pem || ! -e https_certificates/fullchain.pem ]] \
        || die "https_certificates/ 有证书而无 privkey.pem：请补上或移走证书。https_certificates/ holds fullchain.pem without privkey.pem: add the key, or move the certificate away"
    if [[ ! -e https_certificates/fullchain.pem ]]; then # OpenSSL checks the names' form
        self_signed <(new_key) "${@:2}" >/dev/null 2>&1 \
            || die "无法生成证书：请检查 --domain。Cannot make a certificate: is each --domain a host name or an IP address?"
        return
    fi
    for name in "${@:2}"; do
        check=-checkhost
        if is_ip "$name"; then check=-checkip; fi
        openssl x509 -in https_certificates/fullchain.pem -noout "$check" "$name" | grep -q 'does match' \
            || die "已有证书不含 $name：如需重新生成，请先移走 https_certificates/ 中的两个 .pem。The certificate here does not name $name: move both .pem files away to have a new one made"
    done
}

# check_database HOSTS: .env and the secrets agree on where the database is, and one that exists keeps its passwords.
check_database() {
    local name files
    files=$(setting COMPOSE_FILE)
    [[ $1 == "$CONTAINER" || ! -e .env || $files == *external-database* ]] \
        || die "secrets/ 的数据库在 $1：请修改 .env。secrets/ says that the database is at $1: add this to .env: COMPOSE_FILE=$EXTERNAL_FILES"
    if [[ $1 == "$CONTAINER" && $files == *external-database* ]]; then
        [[ -e secrets/owner_url ]] || die "缺少 secrets/owner_url：请从备份恢复。secrets/owner_url is missing: put it back from a backup, or remove COMPOSE_FILE from .env"
        die "secrets/ 用容器中的数据库：请删除 .env 中的 COMPOSE_FILE。secrets/ says that the database is in its container: remove COMPOSE_FILE from .env"
    fi
    # Once PostgreSQL has run, its folder is closed to others or holds its files.
    [[ -d data/postgres && (! -r data/postgres || ! -x data/postgres || -n $(ls -A data/postgres)) ]] || return 0
    for name in db_password owner_url backup_url database_url kernal_data_key; do
        [[ -e secrets/$name ]] || die "data/postgres 已有数据库，但缺少 secrets/$name：请从备份恢复，不会另行生成。data/postgres already holds a database, but secrets/$name is missing: put it back from a backup; a new one would not fit"
    done
}

# env_text UID HOSTS DOMAIN…: .env, of the template.
env_text() {
    local line name
    local -A values=([KADUN_DOMAIN]="${*:3}" [KADUN_HOST]=$(host_name) [KADUN_UID]=$1 [KADUN_FUNCTION_FIRST_UID]=$(first_user_id)
        [COMPOSE_PROJECT_NAME]=kadun [KADUN_HTTP_PORT]=80 [KADUN_HTTPS_PORT]=443)
    for name in "${!wanted[@]}"; do values[$name]=${wanted[$name]}; done
    values[KADUN_APP_IMAGE]=${values[COMPOSE_PROJECT_NAME]}-app
    while IFS= read -r line; do
        name=${line%%=*}
        if [[ -n $name && -n ${values[$name]:-} ]]; then line=$name=${values[$name]}; fi
        if [[ $name == COMPOSE_PROJECT_NAME && $2 != "$CONTAINER" ]]; then line+=$'\n'COMPOSE_FILE=$EXTERNAL_FILES; fi
        printf '%s\n' "$line"
    done <scripts/lib/env.template
}

# host_name: the machine's name, as the service takes it (app/domain/hosts.py).
host_name() {
    local name
    name=$(uname -n | tr -c 'A-Za-z0-9._-' - | cut -c 1-57 | sed 's/^[._-]*//; s/[._-]*$//')
    printf '%s' "${wanted[KADUN_HOST]:-${name:-unnamed}}"
}

# user_id: the service's user inside: the owner of existing keys, or one that no account has, which could read them; an
# ordinary user prepares for themselves.
user_id() {
    local uid=10001
    if [[ $EUID != 0 ]]; then uid=$EUID
    elif [[ -e .env ]]; then uid=$(setting KADUN_UID)
    elif [[ $(stat -c %u data/keys 2>/dev/null) != 0 && -e data/keys ]]; then uid=$(stat -c %u data/keys)
    else while [[ -n $(getent passwd "$uid" 2>/dev/null) ]] && ((uid < 10100)); do uid=$((uid + 1)); done
    fi
    printf '%s' "$uid"
}

# first_user_id: of 129 for calls of core functions. Two checkouts on one machine get different ones: the kernel counts the
# processes of a user ID across containers.
first_user_id() { printf '%d' $((20001 + 200 * ($(cksum <<<"$ROOT" | cut -d ' ' -f 1) % 190))); }

report() {
    if ((${#made[@]})); then
        printf '已生成 made: %s\n' "${made[*]}"
    else
        echo "一切就绪，未作改动。Everything is there already: nothing changed."
    fi
    remind_to_copy
    [[ $1 == "$CONTAINER" ]] \
        || echo "先在数据库中建立角色（可重复执行）first make the roles in the database (as often as you like): $(printf '%q' "$ROOT")/scripts/database-roles.sh | sudo -u postgres psql"
    echo "下一步 next: cd $(printf '%q' "$ROOT") && docker compose up -d --wait"
}

parse_options "domain=* http-port= https-port= project= host= database-host=" "$@"
at_most 0
mapfile -t domains < <(printf '%s' "${OPTION[domain]:-}")
for name in http-port:KADUN_HTTP_PORT https-port:KADUN_HTTPS_PORT project:COMPOSE_PROJECT_NAME host:KADUN_HOST; do
    [[ -z ${OPTION[${name%%:*}]:-} ]] || wanted[${name#*:}]=${OPTION[${name%%:*}]}
done
check_options "${domains[@]}"
cd "$ROOT"
umask 077
need openssl openssl
need python3 python3
need age-keygen age
# The first run writes nothing before all is checked.
if [[ -e data/.setup.lock ]]; then open_lock setup; else exec {LOCK}<"$ROOT"; fi
flock -w 30 "$LOCK" || die "另一个脚本正在此运行，请稍候再试。Another script is at work here: try again when it is done"
hosts=$(sed 's|.*@||; s|/.*||' secrets/owner_url 2>/dev/null) || hosts=''
[[ -z $hosts || -z ${OPTION[database-host]:-} || $hosts == "${OPTION[database-host]}" ]] \
    || die "secrets/ 已存在且数据库在 $hosts，请直接修改其中三个 URL。secrets/ exists and says that the database is at $hosts: edit the three URLs there"
hosts=${hosts:-${OPTION[database-host]:-$CONTAINER}}
find_lost_settings
check_state "$hosts" "${domains[@]}"
uid=$(user_id)
mkdir -p data
[[ -e .env ]] || chmod go= data               # it may have been made by hand
[[ -e data/.setup.lock ]] || open_lock setup  # for the next run
make_folder https_certificates 755 0
make_folder secrets 700 0
make_folder data/keys 700 "$uid"               # the service's signing keys
make_folder data/acme 755 0                    # certbot writes, nginx's workers read
make_folder data/files 755 "$uid"              # cardctl file add writes, nginx's workers read
make_folder data/functions 755 0               # the vendor's code, which the service cannot change
make_folder data/functions-packages 755 "$uid" # cardctl function install writes
[[ $hosts != "$CONTAINER" ]] || make_folder data/postgres 700 0 # PostgreSQL's own user takes it over at its first start
open_to_containers
[[ $hosts != "$CONTAINER" ]] || place secrets/db_password 600 0 openssl rand -hex 24 # the administrator's, in the container only
place secrets/owner_url 600 "$uid" new_url kadun_owner "$hosts"
place secrets/backup_url 600 "$uid" new_url kadun_backup "$hosts"
place secrets/database_url 600 "$uid" new_url kadun_app "$hosts"
place secrets/kernal_data_key 600 "$uid" age_identity
place secrets/sealing_key 600 "$uid" openssl rand -hex 32 # an upgrade makes this one and the next two, too
place secrets/keys_identity 600 "$uid" age_identity
place secrets/backup_identity 600 0 age_identity
place https_certificates/privkey.pem 600 0 new_key
place https_certificates/fullchain.pem 644 0 self_signed https_certificates/privkey.pem "${domains[@]}"
# .env comes last: without it Compose starts nothing. It holds no secret, so anybody may read it.
place .env 644 0 env_text "$uid" "$hosts" "${domains[@]}"
if [[ -z $(setting KADUN_HOST) ]]; then # of an older version
    set_setting KADUN_HOST "$(host_name)"
    made+=("KADUN_HOST in .env")
fi
note=$(grep -E '^(COMPOSE_PROJECT_NAME|KADUN_HTTPS?_PORT|KADUN_DOMAIN)=' .env)
[[ $(cat data/.project 2>/dev/null) == "$note" ]] || printf '%s\n' "$note" >data/.project # should .env be lost
report "$hosts"
