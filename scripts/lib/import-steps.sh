# shellcheck shell=bash
# The steps of scripts/import.sh: what arrived, in the folder STAGED, becomes this checkout's stack.
# Sourced after bundle.sh and swap.sh, never run.

APP_FOLDERS=(keys files functions) # in data/: the service's own
ARRIVED=$ROOT/data/.arrived        # which bundle's database stands here; written once it does
ARRIVING=kadun_arriving            # the database's name until it is checked
AGAIN=''                           # whether an earlier try's database is being replaced

# require_own_project NAME: no other checkout's containers bear this project name; Compose would take them over.
require_own_project() {
    local folder
    while read -r folder; do
        [[ -z $folder || $folder -ef $ROOT ]] \
            || die "项目名 $1 已被 $folder 使用：请用 --project 另选。Project $1 runs from $folder on this machine: choose another with --project"
    done < <(docker ps --all --filter "label=com.docker.compose.project=$1" \
        --format '{{.Label "com.docker.compose.project.working_dir"}}' | sort -u)
}

# prepare_checkout ENV OPTION…: init.sh has run here, with these options, and else for the ports and the name that the
# other server's .env has, if there is one. Prints the names of the settings that came over.
prepare_checkout() {
    local env=$1 name option fresh=''
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
    [[ -z $env ]] || env_file merge "$env" "$ROOT/.env" ${fresh:+--fresh}
}

# start_database: it runs and answers.
start_database() {
    come_up --quiet-pull database >/dev/null \
        || die "数据库未能启动：docker compose logs database。The database did not start: see docker compose logs database"
    find_live
}

# make_image: the service's image is here, built or loaded.
make_image() {
    local log
    docker image inspect "$(setting KADUN_APP_IMAGE kadun-app)" >/dev/null 2>&1 && return
    say "正在构建镜像（首次需几分钟）… Building the image (the first time: minutes) …"
    log=$(compose build --quiet app 2>&1 </dev/null) \
        || die "镜像构建失败：请检查网络与 .env 中的镜像站。The image could not be built, check the network and the mirrors in .env: $(last_line "$log")"
}

# holds_data DATABASE: it has cards or a journal. A database that cannot be asked is not an empty one: that ends the script.
holds_data() {
    local found
    found=$(owner_sql "$1" "SELECT to_regclass('public.card') IS NOT NULL") && [[ $found == [tf] ]] \
        || die "无法读取数据库 $1，未作改动。Database $1 cannot be read; nothing was changed"
    [[ $found == t ]] || return 1
    found=$(owner_sql "$1" "SELECT EXISTS (SELECT FROM card) OR EXISTS (SELECT FROM event)") && [[ $found == [tf] ]] \
        || die "无法读取数据库 $1，未作改动。Database $1 cannot be read; nothing was changed"
    [[ $found == t ]]
}

# discard_replaced [AGAIN]: what an import took the place of, or a killed one, was empty, or this house's earlier
# arrival; else it stays.
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

# arrived_untouched: the database here came in with an import, and nothing has entered its journal since.
arrived_untouched() {
    local end now
    [[ -e $ARRIVED ]] || return 1
    end=$(sed -n 's/^journal //p' "$ARRIVED")
    now=$(journal_end "$LIVE") || die "无法读取数据库 cannot read database $LIVE"
    [[ -n $end && $now == "$end" ]]
}

# same_house: what arrives has the key of what is here.
same_house() {
    cmp -s "$STAGED/secrets/kernal_data_key" "$ROOT/secrets/kernal_data_key"
}

# source_of FOLDER: what tells one bundle from another; a trial's, made anew for each try, by its folder.
source_of() {
    local trial
    trial=$(manifest_value "$1" trial)
    if [[ -n $trial ]]; then printf 'trial %s' "$trial"; else sha256_of "$1/manifest"; fi
}

# stands_already: an earlier try got as far as the database.
stands_already() {
    [[ -e $ARRIVED && $(head -n 1 "$ARRIVED") == "$(source_of "$STAGED")" ]] || same_contents "$LIVE"
}

# contents: of a manifest or a database, without what each database has for itself.
comparable() {
    grep -E '^(schema|table) ' | grep -v '^table schema_migration ' | LC_ALL=C sort
}

# same_contents DATABASE: it holds, row for row, what the manifest says.
same_contents() {
    cmp -s <(comparable <"$STAGED/database.manifest") <(contents_of "$1" 2>/dev/null | comparable)
}

# place_files: secrets, keys, certificates and files, each by rename, with the owners and modes that they have here.
# What they replace is kept in the folder that is named, if any.
place_files() {
    local kept=$1 uid entry
    uid=$(setting KADUN_UID "$EUID")
    for entry in "$STAGED"/secrets/* "$STAGED"/https_certificates/* "$STAGED"/data/*; do
        [[ -e $entry ]] || continue
        if [[ $EUID == 0 ]]; then chown -R 0:0 -- "$entry"; fi
        case $entry in
            */secrets/*) own "$uid" "$entry"; chmod 600 -- "$entry" ;;
            */https_certificates/*) chmod 644 -- "$entry"; [[ $entry != */privkey.pem ]] || chmod 600 -- "$entry" ;;
            *) [[ " ${APP_FOLDERS[*]} " != *" ${entry##*/} "* ]] || own "$uid" "$entry" ;;
        esac
        if [[ $entry == */data/keys ]]; then chmod 700 -- "$entry" && chmod -R go= -- "$entry"; fi
        if [[ $entry == */data/files ]]; then chmod -R a+rX -- "$entry"; fi # nginx's workers read them
        swap_in "$entry" "$ROOT/${entry#"$STAGED"/}" "$kept"
    done
    sync -f -- "$ROOT/data"
}

own() { if [[ $EUID == 0 ]]; then chown -R "$1:0" -- "$2"; fi; }

# swap_in NEW PATH KEPT: NEW takes PATH's place. A file is there all the time, a folder but for a moment.
swap_in() {
    local folder=${3:-$STAGED/replaced}
    if [[ -e $2 ]]; then
        mkdir -p -- "$folder/$(dirname -- "${2#"$ROOT"/}")"
        if [[ -d $2 ]]; then mv -T -- "$2" "$folder/${2#"$ROOT"/}"; else cp -a -- "$2" "$folder/${2#"$ROOT"/}"; fi
    fi
    mv -fT -- "$1" "$2"
}

# restore_database: into a database beside the empty one, which it replaces once it is what the manifest says.
restore_database() {
    local said
    said=$(drop_database "$ARRIVING" 2>&1) \
        || die "无法准备数据库。Cannot prepare the database: $(last_line "$said")"
    if [[ -e $STAGED/database.dump ]]; then
        restore_dump "$STAGED/database.dump" "$ARRIVING"
    else
        load_rows "$STAGED/database.sql"
    fi
    same_contents "$ARRIVING" \
        || die "恢复后的内容与迁移包不一致。What was restored differs from what the bundle says"
    prepare_database "$ARRIVING" || die "无法设置数据库 cannot set up the database"
    said=$(swap_databases "$LIVE" kadun_was_empty "$ARRIVING" 2>&1) \
        || die "无法启用恢复的数据库。Cannot put the restored database in place: $(last_line "$said")"
    discard_replaced "$AGAIN"
    printf '%s\njournal %s\n' "$(source_of "$STAGED")" "$(journal_end "$LIVE")" >"$ARRIVED"
}

# load_rows FILE: rows alone, from a PostgreSQL of whatever version, into the schema that this version makes.
load_rows() {
    local said
    make_image
    said=$(compose run --rm -T migrate 2>&1 </dev/null) || die "无法建立数据表。Cannot make the tables: $(last_line "$said")"
    said=$(owner_sql postgres "CREATE DATABASE \"$ARRIVING\" TEMPLATE \"$LIVE\"" 2>&1) \
        || die "无法创建数据库。Cannot make the database: $(last_line "$said")"
    said=$(in_database as-role owner --database "$ARRIVING" psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 \
        --single-transaction --output=/dev/null <"$1" 2>&1) \
        || die "数据载入失败，未改动任何数据。The rows could not be loaded; nothing was changed: $(last_line "$said")"
}

# start_all: and it is healthy.
start_all() {
    local log
    make_image
    log=$(come_up) \
        || die "服务未能启动，修复后可重新运行本命令：docker compose logs。The service did not start; when it is mended run this again. See docker compose logs: $(last_line "$log")"
}

# install_requirements: packages do not travel; without them functions are named as broken, and all else serves.
install_requirements() {
    [[ -e $ROOT/data/functions/requirements.txt ]] || return 0
    say "正在安装核心功能所需的包… Installing what the functions require …"
    "$ROOT/scripts/cardctl" function install >/dev/null </dev/null \
        || warn "核心功能所需的包未能安装：请执行 scripts/cardctl function install。What the functions require could not be installed: run scripts/cardctl function install"
}
