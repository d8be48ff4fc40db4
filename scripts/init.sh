#!/usr/bin/env bash
# 一次性准备：生成密钥、.env、数据目录与自签名的首张证书；再次运行不改动任何内容。
# Prepares this checkout for `docker compose up -d --wait`: secrets, .env, the data folders and a self-signed first
# certificate. A second run changes nothing; it only adds what an interrupted run left out.
#
#   scripts/init.sh [--domain NAME]… [--http-port 80] [--https-port 443] [--project kadun] [--host NAME] [--database-host HOST]
#
#   --domain NAME       证书中的域名或 IP，可多次 a host name or IP address for the certificate; may be repeated
#   --http-port PORT, --https-port PORT
#                       端口，默认 80 与 443 the ports (80, which only redirects, and 443)
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
source "$ROOT/scripts/lib/common.sh"
source "$ROOT/scripts/lib/secrets.sh"

readonly CONTAINER=database:5432
# The settings of .env that are options here. A lost .env gets them back.
declare -rA OPTION_OF=([COMPOSE_PROJECT_NAME]=project [KADUN_HTTP_PORT]=http-port [KADUN_HTTPS_PORT]=https-port [KADUN_DOMAIN]=domain)

# require_same FILE NAME VALUE WANTED: what is asked for, if anything, is what the file says already.
require_same() { [[ -z $4 || $4 == "$3" ]] || die "$1 已存在且 $2=$3：请直接修改。$1 exists and says $2=$3: edit it there"; }

# lost_settings: NAME=VALUE of this folder's containers, then those of the note in data/.
lost_settings() {
    docker ps --all --quiet --filter "label=com.docker.compose.project.working_dir=$ROOT" --filter label=com.docker.compose.service=nginx \
        </dev/null | head -n 1 | xargs -r docker inspect --format 'COMPOSE_PROJECT_NAME={{index .Config.Labels "com.docker.compose.project"}}
{{range .Config.Env}}{{println .}}{{end}}' || true # the engine may be down
    cat data/.project
} 2>/dev/null

# check_secrets HOSTS: where there is a database, its passwords and keys are not made anew.
check_secrets() {
    local name
    # Without .env there is one once PostgreSQL's folder holds files, or is closed to others.
    [[ (-e .env && -z ${OPTION[database-host]:-}) || (-d data/postgres && -n $(ls -A data/postgres 2>&1)) ]] || return 0
    for name in owner_url backup_url database_url kernal_data_key db_password; do
        [[ -e secrets/$name || ($name == db_password && $1 != "$CONTAINER") ]] \
            || die "已有数据库，但缺少 secrets/$name：请从备份恢复，不会另行生成。There is a database already, but secrets/$name is missing: put it back from a backup; a new one would not fit"
    done
}

# check_certificate NAME…: an existing one has its key and these names; a new one can be made. OpenSSL checks the addresses.
check_certificate() {
    local name check missing=''
    if [[ ! -e https_certificates/fullchain.pem ]]; then
        self_signed <(new_key) "$@" >/dev/null 2>&1 \
            || die "无法生成证书：请检查 --domain。Cannot make a certificate: is each --domain a host name or an IP address?"
        return
    fi
    [[ -e https_certificates/privkey.pem ]] || missing=privkey.pem
    for name; do
        if is_ip "$name"; then check=-checkip; else check=-checkhost; fi
        [[ $(openssl x509 -in https_certificates/fullchain.pem -noout "$check" "$name") == *'does match'* ]] || missing=$name
    done
    [[ -z $missing ]] \
        || die "https_certificates/ 已有证书，但缺少 $missing；要重新生成，请移走其中两个 .pem。There is a certificate in https_certificates/, without $missing: move both .pem files away to have new ones made"
}

# env_text NAME VALUE…: the template with these settings.
env_text() { sed "$(printf 's|^%s=$|&%s|\n' "$@")" scripts/lib/env.template; }

# change NAME VALUE: adds a setting to .env.
change() { set_setting "$1" "$2" && made+=("$1 in .env"); }

parse_options "domain=* http-port= https-port= project= host= database-host=" "$@"
at_most 0
name='[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?' ipv6='[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*'
place="(\[$ipv6\]|$name)(:$PORT)?"
check_option domain "(\*\.)?$name|$ipv6" "域名或 IP a host name (中文 names as xn--…) or an IP address"
check_option http-port "$PORT" "端口 a port"
check_option https-port "$PORT" "端口 a port"
check_option project '[a-z0-9][a-z0-9_-]*' "小写字母、数字、- 或 _ letters a–z, digits, - or _"
check_option host "$HOST_NAME" "1–57 个字母、数字、.、- 或 _ 1 to 57 letters, digits, dots, dashes or underscores"
check_option database-host "$place(,$place)*" "HOST[:PORT][,HOST[:PORT]…]"
mapfile -t domains < <(printf '%s' "${OPTION[domain]:-}")
OPTION[domain]=${domains[*]}
cd "$ROOT"
umask 077
need openssl openssl
need age-keygen age
[[ ! -e secrets ]] || ls secrets >/dev/null # another user sees nothing of what is there, and must go no further
hosts=$(sed 's|.*@||; s|/.*||' secrets/owner_url 2>/dev/null) || hosts=''
require_same secrets/owner_url host "$hosts" "${hosts:+${OPTION[database-host]:-}}"
hosts=${hosts:-${OPTION[database-host]:-$CONTAINER}}
[[ $(setting COMPOSE_FILE) != *docker-compose.external-database.yml* ]] \
    || die ".env 的 COMPOSE_FILE 是旧文件名：请执行 git pull && scripts/upgrade.sh --no-pull。COMPOSE_FILE in .env has a file of an older version: run git pull && scripts/upgrade.sh --no-pull"
if env_is_whole; then
    for name in COMPOSE_PROJECT_NAME:project KADUN_HTTP_PORT:http-port KADUN_HTTPS_PORT:https-port KADUN_HOST:host; do
        require_same .env "${name%:*}" "$(setting "${name%:*}")" "${OPTION[${name#*:}]:-}"
    done
else
    while IFS='=' read -r name value; do
        name=${OPTION_OF[${name:-none}]:-none}
        OPTION[$name]=${OPTION[$name]:-$value}
    done < <(lost_settings)
fi
check_secrets "$hosts"
check_certificate "${domains[@]}"
project=${OPTION[project]:-kadun}
host=${OPTION[host]:-$(uname -n)}
is_host_name "$host" || host=unnamed
# The service's user inside: the owner of existing keys, or one that no account has, which could read them; an ordinary user
# prepares for themselves.
uid=$EUID
[[ $uid != 0 ]] || uid=$(setting KADUN_UID "$(stat -c %u data/keys 2>/dev/null)")
if [[ ${uid:-0} == 0 ]]; then
    uid=10001
    while getent passwd "$uid" >/dev/null; do uid=$((uid + 1)); done
fi
hold_lock setup 30 # nothing was written before this
env_is_whole || chmod go= data # it may have been made by hand
make_folder https_certificates 755 "$EUID"
make_folder secrets 700 "$EUID"
make_folder data/keys 700 "$uid"               # the service's signing keys
make_folder data/acme 755 "$EUID"              # certbot writes, nginx's workers read
make_folder data/files 755 "$uid"              # cardctl file add writes, nginx's workers read
make_folder data/functions 755 "$EUID"         # the vendor's code, which the service cannot change
make_folder data/functions-packages 755 "$uid" # cardctl function install writes
open_to_containers
if [[ $hosts == "$CONTAINER" ]]; then
    make_folder data/postgres 700 "$EUID" # PostgreSQL's own user takes it over at its first start
    place secrets/db_password 600 "$EUID" openssl rand -hex 24 # the administrator's, in the container only
fi
place secrets/owner_url 600 "$uid" new_url kadun_owner "$hosts"
place secrets/backup_url 600 "$uid" new_url kadun_backup "$hosts"
place secrets/database_url 600 "$uid" new_url kadun_app "$hosts"
place secrets/kernal_data_key 600 "$uid" age_identity
place secrets/sealing_key 600 "$uid" openssl rand -hex 32 # an upgrade makes this one and the next two, too
place secrets/keys_identity 600 "$uid" age_identity
place secrets/backup_identity 600 "$EUID" age_identity
place https_certificates/privkey.pem 600 "$EUID" new_key
place https_certificates/fullchain.pem 644 "$EUID" self_signed https_certificates/privkey.pem "${domains[@]}"
if ! env_is_whole && [[ -e .env || -e data/.project ]]; then
    [[ ! -e .env ]] || mv -- .env ".env.cut-off-$(date --utc +%Y%m%dT%H%M%SZ)"
    warn ".env 丢失或不完整，已重新生成：请从 .env.cut-off-… 或备份抄回您改过的设置。.env was lost or cut off and is made anew: copy your own settings back, from .env.cut-off-… or a backup"
fi
# Calls of core functions have 129 user IDs. Two checkouts on one machine get different ones: the kernel counts the processes of
# a user ID across containers.
first=$((20001 + 200 * ($(cksum <<<"$ROOT" | cut -d ' ' -f 1) % 190)))
# .env comes last: without it Compose starts nothing. It holds no secret, so anybody may read it.
place .env 644 "$EUID" env_text COMPOSE_PROJECT_NAME "$project" KADUN_APP_IMAGE "$project-app" KADUN_HTTP_PORT "${OPTION[http-port]:-80}" \
    KADUN_HTTPS_PORT "${OPTION[https-port]:-443}" KADUN_DOMAIN "${OPTION[domain]}" KADUN_HOST "$host" KADUN_UID "$uid" \
    KADUN_FUNCTION_FIRST_UID "$first"
[[ -n $(setting KADUN_HOST) ]] || change KADUN_HOST "$host" # of an older version
files=$(setting COMPOSE_FILE docker-compose.yml)
[[ $hosts == "$CONTAINER" || $files == *external-database* ]] || change COMPOSE_FILE "$files:deploy/external-database.yml"
note=$(grep -E '^(COMPOSE_PROJECT_NAME|KADUN_HTTPS?_PORT|KADUN_DOMAIN)=' .env)
[[ $(cat data/.project 2>/dev/null) == "$note" ]] || printf '%s\n' "$note" >data/.project # should .env be lost
report_made
remind_to_copy
[[ $hosts == "$CONTAINER" ]] \
    || say "先在数据库中建立角色（可重复执行）first make the roles in the database (as often as you like): $(printf '%q' "$ROOT")/scripts/database-roles.sh | sudo -u postgres psql"
say "下一步 next: cd $(printf '%q' "$ROOT") && docker compose up -d --wait"
