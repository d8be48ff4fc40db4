# shellcheck shell=bash
# restore.sh --new-server: the whole service from an archive, on a server without data. Sourced by restore.sh, never run.

# Settings of a machine, which stay as they are here.
MACHINE_SETTINGS=(COMPOSE_PROJECT_NAME COMPOSE_FILE KADUN_HTTP_PORT KADUN_HTTPS_PORT KADUN_HOST KADUN_UID KADUN_APP_IMAGE
    KADUN_FUNCTION_FIRST_UID KADUN_CERTIFICATE_HOSTS)

# new_server FILE FOLDER IDENTITY
new_server() {
    open_archive "$1" "$2" "$3"
    [[ -s $2/env && -s $2/secrets/kernal_data_key && (-s $2/data/keys/keyring.json || -s $2/secrets/keys_identity) ]] \
        || die "$1 不含密钥与设置，不能用于新服务器。It holds no keys and settings (a backup of version 1.0 has the database alone)"
    trust_archive "$@"
    prepare_checkout "$2"
    find_live
    start_database
    if has_tables "$LIVE" && [[ $(owner_sql "$LIVE" "SELECT EXISTS (SELECT FROM card) OR EXISTS (SELECT FROM event)") != f ]]; then
        die "此处的服务已有数据，不会覆盖：请在新的目录恢复。The service here has data and will not be overwritten: restore into another checkout, or empty this one: docker compose down, then move .env, secrets and data away"
    fi
    compose rm --force --stop app functions migrate nginx webhooks >/dev/null 2>&1 </dev/null || true # they hold the old secrets
    take_settings "$2"
    place_files "$2" "$ROOT/data/.replaced-$(date --utc +%Y%m%dT%H%M%SZ)" # customers' programs may depend on the keys that were here
    if ! docker image inspect "$(setting KADUN_APP_IMAGE kadun-app)" >/dev/null 2>&1; then
        say "正在构建镜像（首次需几分钟）… Building the image (the first time: minutes) …"
        compose build --quiet app </dev/null
    fi
    replace_database "$2"
    if [[ -e $ROOT/data/functions/requirements.txt ]]; then # packages do not travel; without them some functions fail
        "$ROOT/scripts/cardctl" function install >/dev/null </dev/null \
            || warn "核心功能所需的包未能安装：请执行 scripts/cardctl function install。What the functions require could not be installed: run scripts/cardctl function install"
    fi
    say "已恢复，服务正常 restored, and the service is ready: $(rows_in "$2"), $(fact taken "$2")"
    say "下一步 next:"
    say "  1. 域名解析改为本机地址。Point the domain's DNS records (A, AAAA) at this machine."
    say "  2. 解析生效后签发证书。When they have taken effect: scripts/issue-certificate.sh DOMAIN"
    say "  3. 定时备份、检查。Backups and a check: scripts/install-cron.sh; scripts/cardctl doctor"
}

# trust_archive FILE FOLDER IDENTITY: an archive that the identity within it has opened was made here: its recipient is published
# nowhere. Of any other a person is shown what they take, keys and programs included.
trust_archive() {
    if [[ $(kind_of "$1") == identity ]] && cmp --silent -- "$2/secrets/backup_identity" "$3"; then return; fi
    say "备份时间 made at: $(fact taken "$2")；卡密 cards: $(rows_in "$2")"
    say "签名密钥 signing keys: $(tr '\n' ' ' <"$2/key-ids")"
    say "核心功能及其包 functions and their packages: $(cd "$2/data/functions" 2>/dev/null && find . -type f -printf '%P ' ; cat requirements.txt 2>/dev/null | tr '\n' ' ')"
    confirm "此文件并非由其中的私钥解密，无法确认由谁制作。It was not opened by the identity within it, so nothing shows who made it. Restore it?"
}

# prepare_checkout FOLDER: runs init.sh, where it has never run with the ports and the name in the archive unless others are given.
prepare_checkout() {
    local name value folder
    local -a options=()
    for name in project:COMPOSE_PROJECT_NAME http-port:KADUN_HTTP_PORT https-port:KADUN_HTTPS_PORT; do
        value=${OPTION[${name%%:*}]:-}
        if [[ -z $value && ! -e $ROOT/.env ]]; then value=$(setting_in "$1/env" "${name#*:}"); fi
        [[ -z $value ]] || options+=("--${name%%:*}" "$value")
    done
    name=${OPTION[project]:-$(setting COMPOSE_PROJECT_NAME "$(setting_in "$1/env" COMPOSE_PROJECT_NAME)")}
    folder=$(docker ps --all --filter "label=com.docker.compose.project=$name" \
        --format '{{.Label "com.docker.compose.project.working_dir"}}' | grep -vxFm 1 -- "$ROOT") || folder=''
    [[ -z $folder ]] \
        || die "项目名 $name 已被 $folder 使用：请用 --project 另选。Project $name runs from $folder on this machine: choose another with --project"
    "$ROOT/scripts/init.sh" "${options[@]}" >/dev/null
}

# take_settings FOLDER: the archive's settings take the place of those here, except those of the machine.
take_settings() {
    local name value new=$ROOT/.env.new
    cp -p -- "$ROOT/.env" "$new" # its owner and mode
    {
        grep --invert-match --extended-regexp "^($(IFS='|'; printf '%s' "${MACHINE_SETTINGS[*]}"))=" "$1/env"
        for name in "${MACHINE_SETTINGS[@]}"; do
            value=$(setting "$name")
            [[ -z $value ]] || printf '%s=%s\n' "$name" "$value"
        done
    } >"$new"
    mv -fT -- "$new" "$ROOT/.env"
}

# place_files FOLDER KEPT: secrets, keys, certificates, functions and files take their places, with the owners and modes that they
# have here. What they replace is kept in folder KEPT. Passwords of the database stay.
place_files() {
    local uid name entry
    uid=$(setting KADUN_UID "$EUID")
    rm -f -- "$1"/secrets/{db_password,owner_url,backup_url,database_url}
    for entry in "$1"/secrets/* "$1"/https_certificates/*.pem "$1"/data/*; do
        [[ -e $entry ]] || continue
        name=${entry#"$1"/}
        chmod -R u=rwX,go= -- "$entry"
        case $name in
            secrets/backup_identity | *privkey.pem) own 0 "$entry" ;; # the host's scripts read it, not the service
            secrets/* | data/keys) own "$uid" "$entry" ;;
            data/files) own "$uid" "$entry" && chmod -R a+rX -- "$entry" ;; # nginx's workers read them
            *) own 0 "$entry" && chmod -R a+rX -- "$entry" ;;
        esac
        if [[ -e $ROOT/$name ]]; then
            mkdir -p -- "$(dirname -- "$2/$name")"
            if [[ -d $ROOT/$name ]]; then mv -T -- "$ROOT/$name" "$2/$name"; else cp -a -- "$ROOT/$name" "$2/$name"; fi # a file is never missing
        fi
        mv -fT -- "$entry" "$ROOT/$name"
    done
    sync -f -- "$ROOT/data"
}

own() { if [[ $EUID == 0 ]]; then chown -R "$1:0" -- "$2"; fi; }
