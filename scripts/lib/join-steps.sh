# shellcheck shell=bash
# The steps of scripts/init.sh --join: this checkout becomes one more machine of an installation. Sourced, never run.
# shellcheck disable=SC2034,SC2154 # made, wanted, APP_UID, DOTENV, MORE_FILES and DATABASE_HOSTS are init.sh's

# shellcheck source=scripts/lib/archive.sh
source "$ROOT/scripts/lib/archive.sh"

JOIN_SECRETS=(owner_url backup_url database_url kernal_data_key sealing_key keys_identity)
STAGED='' MADE_DATA='' identity=''

# begin_join FILE: receives the bundle into STAGED and checks it. Sets DATABASE_HOSTS, and the ports and the project in `wanted`
# as on the other machine, unless they were given.
begin_join() {
    local name
    if [[ -e .env || -e data/keys/keyring.json ]] || has_cluster; then
        die "此处已初始化，未作改动：请在新的目录加入。This checkout is initialised already, and nothing was changed: join with a new one"
    fi
    need age age
    require_docker
    identity=${OPTION[identity]:-}
    for name in "$1" "$identity"; do
        [[ -z $name || $name == - || -r $name ]] || die "无法读取 cannot read $name"
    done
    take_trust
    [[ -e data ]] || MADE_DATA=yes
    mkdir -p data
    trap end_join EXIT
    rm -rf -- "$ROOT"/data/.join.* # left by an interrupted run
    STAGED=$(mktemp -d "$ROOT/data/.join.XXXXXX")
    if [[ $1 == - ]]; then unpack unpack-join; else unpack unpack-join <"$1"; fi
    MANIFEST=$(<"$STAGED/manifest.json")
    DOTENV=$STAGED/env
    check_join_bundle
    for name in COMPOSE_PROJECT_NAME KADUN_HTTP_PORT KADUN_HTTPS_PORT; do
        # shellcheck disable=SC2004 # the keys are words
        wanted[$name]=${wanted[$name]:-$(env_file get "$STAGED/env" "$name")}
    done
    check_wanted
    take_user_id "$(env_file get "$STAGED/env" KADUN_UID)"
}

# take_user_id UID: the other machine's, if no account has it here: licensed files on a shared mount belong to it.
take_user_id() {
    [[ $EUID == 0 && ! -e data/keys && $1 =~ ^10[01][0-9]{2}$ && -z $(getent passwd "$1") ]] || return 0
    APP_UID=$1
}

# end_join: removes what is temporary; after a failure nothing else is there.
end_join() {
    rm -f -- secrets/.new
    [[ -z $STAGED ]] || rm -rf -- "$STAGED" "$STAGED".*
    [[ -z $MADE_DATA ]] || rmdir -- "$ROOT/data" 2>/dev/null || true
}

# check_join_bundle: all that can be checked without the database.
check_join_bundle() {
    local name said file
    said=$(env_file check "$STAGED/env" 2>&1) || die "此包无法使用。The bundle cannot be used: $(last_line "$said")"
    for name in "${JOIN_SECRETS[@]}"; do
        [[ -s $STAGED/secrets/$name ]] || die "此包不完整。The bundle is incomplete: it lacks secrets/$name"
    done
    [[ $(env_file get "$STAGED/env" KADUN_KEYS) == database ]] \
        || die "包中 KADUN_KEYS 须为 database。KADUN_KEYS in the bundle must be database"
    find_live "$STAGED/secrets"
    DATABASE_HOSTS=${URL_BEFORE#*@} DATABASE_HOSTS=${DATABASE_HOSTS%/}
    is_external || die "包中的数据库在那台主机的容器中。The bundle's database is in the other machine's container: $DATABASE_HOSTS"
    name=$(fact schema)
    [[ $name == "$(own_schema)" ]] \
        || die "两台主机的程序版本须相同：那边为 $(fact version)（$(fact commit)，$name），此处为 $(app_version)（$(own_schema)）。Both machines need the same version of the program: there it is $(fact version) ($(fact commit), schema $name), here $(app_version) (schema $(own_schema))"
    [[ $(host_name) != "$(fact host)" ]] || refuse_name
    while IFS= read -r -d '' file; do # an interrupted run has placed the same
        name=${file#"$STAGED"/}
        [[ ! -e $name ]] || cmp -s -- "$file" "$name" \
            || die "$name 已存在，且与包中的不同：请移走它。$name exists, and is not the bundle's: move it away"
    done < <(find "$STAGED/secrets" "$STAGED/https_certificates" "$STAGED/data" -type f -print0 2>/dev/null)
}

refuse_name() {
    die "KADUN_HOST 须与其他主机不同，而 $(host_name) 已在使用：请加 --host NAME。KADUN_HOST must differ from the other machines', and $(host_name) is one of them: give this machine another name with --host NAME"
}

# in_database COMMAND…: here from a container of its own, with the bundle's URL: this machine has no other yet.
in_database() {
    docker run --rm --interactive --network host --read-only --tmpfs /tmp --user "$EUID" \
        --cap-drop ALL --cap-add SETUID --cap-add SETGID --security-opt no-new-privileges \
        --mount "type=bind,source=$ROOT/postgres,target=/usr/local/lib/kadun,readonly" \
        --mount "type=bind,source=$ROOT/postgres/as-role,target=/usr/local/bin/as-role,readonly" \
        --mount "type=bind,source=$STAGED/secrets/owner_url,target=/run/secrets/owner_url,readonly" \
        --entrypoint "$1" "$POSTGRES_IMAGE" "${@:2}"
}

# check_join_database: this machine reaches the database, whose signing keys open with the bundle's secret, and no machine that
# serves it has this one's name.
check_join_database() {
    local said
    POSTGRES_IMAGE=$(env_file get scripts/lib/env.template KADUN_POSTGRES_IMAGE)
    said=$({ docker image inspect "$POSTGRES_IMAGE" || docker pull --quiet "$POSTGRES_IMAGE"; } 2>&1) \
        || die "无法取得镜像 $POSTGRES_IMAGE：可先以 docker pull 从镜像站取得，再用 docker tag 改名。The image $POSTGRES_IMAGE cannot be pulled: pull it from a mirror, and name it so by docker tag: $(last_line "$said")"
    open_to_containers
    said=$(schema_of "$LIVE" 2>"$STAGED.said") \
        || die "本机无法访问数据库 $DATABASE_HOSTS：请让防火墙与 pg_hba.conf 允许本机。This machine does not reach the database at $DATABASE_HOSTS: let its firewall and its pg_hba.conf admit this machine: $(error_line "$(<"$STAGED.said")")"
    [[ $said == "$(own_schema)" ]] \
        || die "数据库的结构为 ${said:-空}，本机程序为 $(own_schema)：须相同。The database's schema is ${said:-empty}, this program's $(own_schema): they must be the same"
    said=$(sealed_keys "$LIVE" 2>/dev/null) || said=''
    age --decrypt --identity "$STAGED/secrets/keys_identity" <<<"$said" >/dev/null 2>&1 \
        || die "数据库中没有能用包中 secrets/keys_identity 打开的签名密钥：不是同一个数据库，或包已过时。The database has no signing keys that open with the bundle's secrets/keys_identity: it is another database, or the bundle is out of date: $DATABASE_HOSTS"
    said=$(owner_sql "$LIVE" "SELECT count(*) FROM host
        WHERE name = '$(host_name)' AND $PRESENT") \
        || die "数据库没有响应。The database does not answer"
    [[ $said == 0 ]] || refuse_name
}

# place_joined: the bundle's secrets, certificates and functions take their places. Until .env is there, too, init.sh without --join
# refuses: with these secrets and other settings it would make signing keys of its own.
place_joined() {
    local file name owner mode
    : >data/.joining
    for file in "$STAGED"/secrets/* "$STAGED"/https_certificates/*; do
        [[ -f $file ]] || continue
        name=${file#"$STAGED"/} owner=0 mode=600
        case $name in
            secrets/backup_identity) ;; # the host's scripts read it, not the service
            secrets/*) owner=$APP_UID ;;
            *privkey.pem) ;;
            *) mode=644 ;;
        esac
        place "$name" "$mode" "$owner" cat "$file"
    done
    # A folder that is not empty has them all, from an interrupted run.
    [[ -d $STAGED/data/functions && -z $(ls -A data/functions) ]] || return 0
    chmod -R u=rwX,go=rX -- "$STAGED/data/functions"
    mv -T -- "$STAGED/data/functions" data/functions
}

# joined_env: what env_text prints, with the other machine's settings.
joined_env() {
    [[ -z $(env_file get "$STAGED/env" KADUN_FILES_BUCKET) ]] || MORE_FILES=:deploy/bucket.yml
    env_text >"$STAGED/.env" && env_file merge "$STAGED/env" "$STAGED/.env" --fresh --bundled >/dev/null && cat "$STAGED/.env"
}

# report_join: what is left to do.
report_join() {
    local left number=1
    printf '已生成 made: %s\n' "${made[*]}"
    if [[ $(fact hsts) == yes ]]; then
        scripts/deploy-certificate.sh https_certificates/fullchain.pem https_certificates/privkey.pem --here >/dev/null \
            || warn "未能写入 HSTS 设置。HSTS could not be set up here"
    fi
    left=$(env_file left "$STAGED/env" .env)
    [[ -z $left ]] || warn "包不能指定容器运行什么程序、访问什么网络，需要时请自行写入 .env。A bundle does not say which programs containers run, or what they reach. Write it into .env yourself if you want it: $left"
    say "本机以 $(env_file get .env KADUN_HOST) 之名加入，能访问同一个数据库。This machine joins as $(env_file get .env KADUN_HOST), and reaches the same database."
    say "下一步 next: cd $(printf '%q' "$ROOT")"
    next "docker compose up -d --wait"
    [[ ! -e data/functions/requirements.txt ]] || next "scripts/cardctl function install"
    next "scripts/cardctl hosts && scripts/cardctl doctor" "两台主机都应列出 lists both machines"
    next "scripts/install-cron.sh --backup-at 04:17" "比另一台晚一小时 an hour after the other"
    next "把本机加入负载均衡。Add this machine to the balancer"
    next "在续期证书的主机上 on the machine that renews the certificate: scripts/issue-certificate.sh DOMAIN --to root@HOST"
    next "删除此包：它含所有密钥。Delete the bundle, here and there: it holds every secret"
}

# next TEXT [NOTE]: one more step.
next() {
    printf '  %s. %s%s\n' "$number" "$1" "${2:+    # $2}"
    number=$((number + 1))
}
