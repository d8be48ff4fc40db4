# shellcheck shell=bash
# The steps of scripts/import.sh: the bundle in the folder STAGED becomes this checkout's stack.
# Sourced, never run.

# shellcheck source=scripts/lib/archive.sh
source "$ROOT/scripts/lib/archive.sh"

APP_FOLDERS=(keys files functions) # those in data/ that belong to the service's user
ARRIVED=$ROOT/data/.arrived        # names the bundle whose database stands here
ARRIVING=kadun_arriving            # the database's name until it is checked
AGAIN=''                           # an earlier run's database is being replaced

# check_bundle: it holds all that a server needs, this code can take it, and its settings are one value each. Rows as SQL are for
# psql, whose backslash commands run programs in the database's container: they are taken only from the trial's folder here.
check_bundle() {
    local schema ours said keys=data/keys/keyring.json
    if [[ -e $STAGED/env ]]; then
        said=$(env_file check "$STAGED/env" 2>&1) || die "迁移包无法使用。The bundle cannot be used: $(last_line "$said")"
    fi
    [[ -n ${trial:-} || ! -e $STAGED/database.sql ]] \
        || die "迁移包含有 database.sql，不予导入：export.sh 只导出 database.dump。The bundle has database.sql, whose SQL could run programs: a bundle made by export.sh has database.dump. A trial's data comes with --trial"
    if [[ $(env_file get "$STAGED/env" KADUN_KEYS folder) == database ]]; then keys=secrets/keys_identity; fi
    [[ -s $STAGED/secrets/kernal_data_key && -s $STAGED/$keys ]] \
        && [[ -s $STAGED/database.dump || -s $STAGED/database.sql ]] \
        || die "迁移包不完整。The bundle lacks the database, KERNAL_DATA_KEY or the signing keys"
    schema=$(fact schema)
    ours=$(own_schema)
    [[ ! $schema > $ours ]] \
        || die "迁移包来自更新的版本（$schema，本机为 $ours）：请先更新代码。The bundle is from a newer version (schema $schema, here $ours): update the code here first"
}

# require_own_project NAME: no other checkout's containers have this project name; Compose would take them over.
require_own_project() {
    local folder
    while read -r folder; do
        [[ -z $folder || $folder -ef $ROOT ]] \
            || die "项目名 $1 已被 $folder 使用：请用 --project 另选。Project $1 runs from $folder on this machine: choose another with --project"
    done < <(docker ps --all --filter "label=com.docker.compose.project=$1" \
        --format '{{.Label "com.docker.compose.project.working_dir"}}' | sort -u)
}

# prepare_checkout ENV OPTION…: runs init.sh with these options, by default with the ports and the name in the other server's
# .env. Prints the names of the settings that were taken over.
prepare_checkout() {
    local env=$1 name option fresh='' from=''
    local -a options=("${@:2}")
    if [[ ! -e $ROOT/.env ]]; then fresh=yes; fi
    if [[ -n $env && -n $fresh ]]; then
        for name in project:COMPOSE_PROJECT_NAME http-port:KADUN_HTTP_PORT https-port:KADUN_HTTPS_PORT; do
            option=--${name%%:*}
            [[ " ${options[*]-} " != *" $option "* && -n $(env_file get "$env" "${name#*:}") ]] || continue
            options+=("$option" "$(env_file get "$env" "${name#*:}")")
        done
    fi
    name=$(setting COMPOSE_PROJECT_NAME kadun)
    for ((option = 0; option < ${#options[@]}; option++)); do
        if [[ ${options[option]} == --project ]]; then name=${options[option + 1]}; fi
    done
    require_own_project "$name"
    "$ROOT/scripts/init.sh" "${options[@]}" >/dev/null || exit 1
    [[ -n ${prepare:-} ]] || from=--bundled # or it comes over the person's own connection
    [[ -z $env ]] || env_file merge "$env" "$ROOT/.env" ${fresh:+--fresh} ${from:+"$from"}
}

# start_database: starts it and waits until it answers.
start_database() {
    local said
    said=$(come_up --quiet-pull database && await database_ready database) \
        || die "数据库未能启动：docker compose logs database。The database did not start, see docker compose logs database: $(last_line "$said")"
    find_live
}

# make_image: builds the service's image unless it is here already.
make_image() {
    local log
    docker image inspect "$(setting KADUN_APP_IMAGE kadun-app)" >/dev/null 2>&1 && return
    say "正在构建镜像（首次需几分钟）… Building the image (the first time: minutes) …"
    log=$(compose build --quiet app 2>&1 </dev/null) \
        || die "镜像构建失败：请检查网络与 .env 中的镜像站。The image could not be built, check the network and the mirrors in .env: $(last_line "$log")"
}

# holds_data DATABASE: it has cards or a journal. Ends the script where that cannot be read: such a database is not empty.
holds_data() {
    local found
    found=$(owner_sql "$1" "SELECT to_regclass('public.card') IS NOT NULL") && [[ $found == [tf] ]] \
        || die "无法读取数据库 $1，未作改动。Database $1 cannot be read; nothing was changed"
    [[ $found == t ]] || return 1
    found=$(owner_sql "$1" "SELECT EXISTS (SELECT FROM card) OR EXISTS (SELECT FROM event)") && [[ $found == [tf] ]] \
        || die "无法读取数据库 $1，未作改动。Database $1 cannot be read; nothing was changed"
    [[ $found == t ]]
}

# discard_replaced [AGAIN]: drops the database that an import replaced if it is empty, or came with an earlier run of the same
# import; otherwise it is kept.
discard_replaced() {
    local aside
    aside=kadun_before_import_$(date -u +%Y%m%dt%H%M%Sz)
    exists kadun_was_empty || return 0
    if [[ -z ${1:-} ]] && holds_data kadun_was_empty; then
        owner_sql postgres "ALTER DATABASE kadun_was_empty RENAME TO $aside" \
            || die "无法改名 cannot rename database kadun_was_empty, which has data"
        warn "被替换的数据库中有数据，保留为 $aside。The database that was replaced has data: it is kept as $aside"
    else
        drop_database kadun_was_empty >/dev/null 2>&1 || die "无法删除 cannot drop database kadun_was_empty"
    fi
}

# arrived_untouched: the database here came with an import, and its journal has not grown since.
arrived_untouched() {
    local end now
    [[ -e $ARRIVED ]] || return 1
    end=$(sed -n 's/^journal //p' "$ARRIVED")
    now=$(journal_end "$LIVE") || die "无法读取数据库 cannot read database $LIVE"
    [[ -n $end && $now == "$end" ]]
}

# same_data_key: the bundle comes from the service that is here.
same_data_key() {
    cmp -s "$STAGED/secrets/kernal_data_key" "$ROOT/secrets/kernal_data_key"
}

# bundle_name: tells one bundle from another. A trial's is made anew by each run, so its folder names it.
bundle_name() {
    local trial
    trial=$(fact trial)
    if [[ -n $trial ]]; then printf 'trial %s' "$trial"; else printf 'bundle %s' "$(fact number)"; fi
}

# stands_already: an earlier run has restored this bundle's database.
stands_already() {
    [[ -e $ARRIVED && $(head -n 1 "$ARRIVED") == "$(bundle_name)" ]] || same_contents "$LIVE" >/dev/null
}

# keep_newer_keys: signing keys here that continue the chain of the bundle's are newer: clients refuse older ones, so they stay.
keep_newer_keys() {
    local said
    [[ $(keys_are_in) == folder && -e $ROOT/data/keys/keyring.json ]] || return 0
    make_image
    said=$(restore_keys "$STAGED/data/keys/keyring.json" 2>&1) \
        || die "无法放置签名密钥。The signing keys cannot be put in place: $(last_line "$said")"
    say "$(last_line "$said")"
    # The folder takes the other's place as a whole.
    read_file "$ROOT/data/keys/keyring.json" >"$STAGED/data/keys/keyring.json" && [[ -s $STAGED/data/keys/keyring.json ]] \
        || die "无法读取 cannot read $ROOT/data/keys/keyring.json"
}

# place_files KEPT: moves secrets, keys, certificates and files to their places, with the owners and modes that they have
# here. What they replace is kept in folder KEPT.
place_files() {
    local kept=$1 uid entry
    uid=$(setting KADUN_UID "$EUID")
    for entry in "$STAGED"/secrets/* "$STAGED"/https_certificates/* "$STAGED"/data/*; do
        [[ -e $entry ]] || continue
        if [[ $EUID == 0 ]]; then chown -R 0:0 -- "$entry"; fi
        case $entry in
            */secrets/backup_identity) chmod 600 -- "$entry" ;; # the host's scripts read it, not the service
            */secrets/*) own "$uid" "$entry"; chmod 600 -- "$entry" ;;
            */https_certificates/*) chmod 644 -- "$entry"; [[ $entry != *privkey.pem ]] || chmod 600 -- "$entry" ;;
            *) [[ " ${APP_FOLDERS[*]} " != *" ${entry##*/} "* ]] || own "$uid" "$entry" ;;
        esac
        if [[ $entry == */data/keys ]]; then chmod 700 -- "$entry" && chmod -R go= -- "$entry"; fi
        if [[ $entry == */data/files ]]; then chmod -R a+rX -- "$entry"; fi # nginx's workers read them
        swap_in "$entry" "$ROOT/${entry#"$STAGED"/}" "$kept"
    done
    sync -f -- "$ROOT/data"
}

own() { if [[ $EUID == 0 ]]; then chown -R "$1:0" -- "$2"; fi; }

# swap_in NEW PATH KEPT: NEW takes PATH's place, and the old PATH is kept in folder KEPT.
swap_in() {
    local kept=$3/${2#"$ROOT"/}
    if [[ -e $2 ]]; then
        mkdir -p -- "$(dirname -- "$kept")"
        if [[ -d $2 ]]; then mv -T -- "$2" "$kept"; else cp -a -- "$2" "$kept"; fi # a file is never missing
    fi
    mv -fT -- "$1" "$2"
}

# restore_database: restores into a new database, which replaces the empty one once its content is compared.
restore_database() {
    local said
    make_image
    said=$(drop_database "$ARRIVING" 2>&1) \
        || die "无法准备数据库。Cannot prepare the database: $(last_line "$said")"
    if [[ -e $STAGED/database.dump ]]; then
        restore_dump "$ARRIVING" cat "$STAGED/database.dump"
    else
        load_rows "$STAGED/database.sql"
    fi
    require_same_contents "$ARRIVING"
    prepare_database "$ARRIVING" || die "无法设置数据库 cannot set up the database"
    said=$(swap_databases "$LIVE" kadun_was_empty "$ARRIVING" 2>&1) \
        || die "无法启用恢复的数据库。Cannot put the restored database in place: $(last_line "$said")"
    migrate_and_carry_keys kadun_was_empty
    discard_replaced "$AGAIN"
    printf '%s\njournal %s\n' "$(bundle_name)" "$(journal_end "$LIVE")" >"$ARRIVED"
}

# load_rows FILE: loads a trial's plain rows, from a PostgreSQL of any version, into tables that this version's migrations make.
load_rows() {
    local said
    said=$(compose run --rm -T migrate 2>&1 </dev/null) || die "无法建立数据表。Cannot make the tables: $(last_line "$said")"
    said=$(owner_sql postgres "CREATE DATABASE \"$ARRIVING\" TEMPLATE \"$LIVE\"" 2>&1) \
        || die "无法创建数据库。Cannot make the database: $(last_line "$said")"
    said=$(in_database as-role owner --database "$ARRIVING" psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 \
        --single-transaction --output=/dev/null <"$1" 2>&1) \
        || die "数据载入失败，未改动任何数据。The rows could not be loaded; nothing was changed: $(last_line "$said")"
}

# start_all: starts the service and waits until it is ready.
start_all() {
    local log
    make_image
    log=$(serve) \
        || die "服务未就绪，修复后可重新运行本命令：docker compose logs。The service is not ready; when it is mended run this again. See docker compose logs: $log"
}

# install_requirements: packages do not travel. Without them some functions fail, and everything else works.
install_requirements() {
    [[ -e $ROOT/data/functions/requirements.txt ]] || return 0
    say "正在安装核心功能所需的包… Installing what the functions require …"
    "$ROOT/scripts/cardctl" function install >/dev/null </dev/null \
        || warn "核心功能所需的包未能安装：请执行 scripts/cardctl function install。What the functions require could not be installed: run scripts/cardctl function install"
}
