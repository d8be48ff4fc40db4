#!/usr/bin/env bash
# 升级：备份、取得新代码与镜像、升级数据库、切换；失败则自动退回原版本。
# Upgrades the service: backup, new code and image, migration, switch. After a failure the old image and the old code are put back,
# and where the old version cannot run on the migrated database, that too.
#
#   scripts/upgrade.sh [--no-pull] [--image-archive FILE] [--rolling [--drain-seconds 15]]
#
#   --no-pull             不执行 git pull：代码已由您更新 no git pull: you have put the new code here already. After a
#                         failure your code is left as it is; the image is put back
#   --image-archive FILE  从文件载入镜像而不构建（docker save 所存） loads the image from a file of docker save, instead of
#                         building it
#   --rolling             多台机器依次升级：先让负载均衡移出本机，再升级本机 for several machines, one after the other: the
#                         balancer takes this one out first
#   --drain-seconds N     等待负载均衡的秒数（15） how long the balancer may take to notice (15)
#
# 中断通常只有几秒，客户端会自动重试。The interruption is a few seconds, in which clients get a 503 and ask again.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
source "$ROOT/scripts/lib/archive.sh"
source "$ROOT/scripts/lib/replace.sh"

STEP='' OLD_ENV='' OLD_IMAGE='' OLD_COMMIT='' OLD_SCHEMA='' BACKUP='' SERVED=''
NEEDS_COPY='' # whether the old version cannot run on the new schema: the way back is the backup, which must hold everything

# get_code: pulls the newest code of this branch.
get_code() {
    [[ -z ${OPTION[no-pull]:-} ]] || return 0
    { OLD_COMMIT=$(git_here rev-parse HEAD) && git_here pull --quiet --ff-only </dev/null; } \
        || die "git pull 失败（原因见上），未作改动：请移走或还原所列文件；非 git 克隆请自行更新代码并加 --no-pull。git pull failed, see above, and nothing was changed: move the files that it names away, or restore them; where this is not a clone, put the new code here yourself and add --no-pull"
}

# get_image: builds or loads the new image.
get_image() {
    local said schema
    local -a get=(compose build --quiet app)
    [[ -z $1 ]] || get=(docker load --quiet --input "$1")
    STEP=image
    docker tag "$OLD_IMAGE" "$PREVIOUS_IMAGE"
    say "正在构建或载入镜像… Building or loading the image …"
    said=$("${get[@]}" 2>&1 </dev/null) || die "镜像无法构建或载入。The image could not be built or loaded: $(last_line "$said")"
    schema=$(docker run --rm --network none --read-only "$APP_IMAGE" \
        python -c 'from app.storage.schema import expected_version as v; print(v())' 2>&1 </dev/null) || true
    [[ $schema == "$(own_schema)" && ! $OLD_SCHEMA > $schema ]] \
        || die "镜像无法运行、与代码（$(own_schema)）不是同一版本，或比数据库（$OLD_SCHEMA）旧。The image does not run, is not of this code ($(own_schema)), or is older than the database ($OLD_SCHEMA): $(last_line "$schema")"
}

# find_way_back: sets NEEDS_COPY. Version 1.0, whose last migration is 0004, runs on its own schema alone.
find_way_back() {
    local migration
    [[ $OLD_SCHEMA > 0004_z || $OLD_SCHEMA == "$(own_schema)" ]] || NEEDS_COPY=yes
    for migration in "$ROOT"/app/storage/migrations/[0-9]*.sql; do
        [[ ! $(basename -- "$migration" .sql) > $OLD_SCHEMA || $(head -n 1 "$migration") != '-- Takes away '* ]] \
            || NEEDS_COPY=yes
    done
    [[ -z $NEEDS_COPY || -z ${OPTION[rolling]:-} ]] \
        || die "旧版程序（$OLD_SCHEMA）无法使用新的数据库结构，不能逐台升级：请停止其他机器，再执行不带 --rolling 的升级。Programs of $OLD_SCHEMA cannot run on the new schema, so the machines cannot be upgraded one after the other: stop the others, and upgrade without --rolling"
}

# back_up BYTES: where the backup is the way back, the service stops first, so that it holds everything that was acknowledged.
back_up() {
    [[ $(own_schema) == "$OLD_SCHEMA" ]] \
        || say "数据库将从 $OLD_SCHEMA 升级到 $(own_schema)。The database goes from $OLD_SCHEMA to $(own_schema)"
    if [[ -n $NEEDS_COPY ]]; then
        require_database_space "$1"
        STEP=switch
        stop_app
    fi
    BACKUP=$BACKUP_FOLDER/kadun-before-upgrade-$(date --utc +%Y%m%dT%H%M%SZ).tar.age
    take_archive "$BACKUP" ''
    keep_newest kadun-before-upgrade- "$BACKUP"
}

# start_stack: starts the app first: together with it Compose would recreate nginx, which answers 503 meanwhile. Prints what went wrong.
start_stack() {
    local said
    come_up app && await database app && serve || return
    nginx_changed || return 0
    # Not `up --no-deps`: the next `up` would then recreate nginx.
    said=$({ compose run --rm --no-deps -T nginx nginx -t && compose restart --no-deps nginx; } 2>&1 </dev/null) \
        || { last_line "$said" && return 1; }
    await nginx
}

# nginx_changed: its templates are newer than its start, when it read them; Compose does not notice.
nginx_changed() {
    local started
    started=$(inspect nginx '{{.State.StartedAt}}')
    [[ -n $started && -n $(find "$ROOT/nginx" -type f -newermt "$started" -print -quit) ]]
}

# finish: after a failure everything is put back.
finish() {
    local status=$?
    trap - EXIT
    trap '' INT TERM HUP
    if [[ -n $STEP && -z ${DONE:-} ]]; then
        ((status)) || status=1
        (roll_back) & # not as a condition itself, in which `set -e` would not count
        wait $! || warn "未能完全退回（原因见上），服务可能已停止：请手工退回，见 docs/backups.zh-CN.md《可供退回的》。The way back failed, see above, and the service may be down: go back by hand, docs/backups.md, 'What stays for the way back'${OLD_COMMIT:+ (COMMIT: $OLD_COMMIT)}"
        [[ ! -e $BACKUP ]] || warn "升级前的备份 the backup from before the upgrade: $BACKUP"
    fi
    remove_leftovers
    exit "$status"
}

roll_back() {
    local said folder files
    files=$(setting COMPOSE_FILE)
    [[ -z $OLD_COMMIT || $(git_here rev-parse HEAD) == "$OLD_COMMIT" ]] || git_here reset --quiet --keep "$OLD_COMMIT"
    if [[ -n ${OPTION[no-pull]:-} && -n $files ]]; then export COMPOSE_FILE=$files; fi # those of the code, which stays
    if ! cmp --silent -- "$OLD_ENV" "$ROOT/.env"; then cp -p -- "$OLD_ENV" "$ROOT/.env.new"; mv -fT -- "$ROOT/.env.new" "$ROOT/.env"; fi
    if [[ $STEP == code ]]; then return 0; fi
    docker tag "$OLD_IMAGE" "$APP_IMAGE"
    if [[ $STEP == image ]]; then warn "未作改动${SERVED:+，原版本照常服务}。Nothing was changed${SERVED:+; the old version goes on serving}"; return 0; fi
    if [[ -n $NEEDS_COPY && -e $BACKUP && $(schema_of "$LIVE") != "$OLD_SCHEMA" ]]; then
        folder=$(mktemp -d "$ROOT/data/.backup.XXXXXX")
        open_archive "$BACKUP" "$folder" "$OWN_IDENTITY"
        replace_database "$folder" >/dev/null
        warn "数据库已恢复到升级前，升级后的保留到 scripts/restore.sh --drop-old。The database is as before the upgrade; the migrated one is kept until scripts/restore.sh --drop-old"
    fi
    compose exec -T app python -m app drain --end >/dev/null 2>&1 </dev/null || true
    said=$(start_stack) || said=${said:-?}
    warn "升级失败，已退回原版本${said:+，但未就绪}。The upgrade failed; the old version is back and ${said:+not ready: }${said:-serves}${OPTION[no-pull]:+. 代码未动：请自行放回旧代码。The code is as you put it: put the old code back yourself}"
}

umask 077
parse_options "no-pull rolling image-archive= drain-seconds=" "$@"
at_most 0
check_option drain-seconds '[0-9]{1,3}' "0–999 的整数 a number from 0 to 999"
require_stack
lock_stack 5
claim_folder
find_live
APP_IMAGE=$(setting KADUN_APP_IMAGE kadun-app)
[[ $APP_IMAGE =~ ^(.*/)?[^:/]+ ]] && PREVIOUS_IMAGE=${BASH_REMATCH[0]}:previous # the old one's name from now on
trap finish EXIT
trap 'exit 130' INT TERM HUP
OLD_ENV=$(mktemp "$ROOT/data/.backup.XXXXXX")
cp -p -- "$ROOT/.env" "$OLD_ENV"
STEP=code
# Until release 1.0 the file for an external database lay at the top.
sed -i '/^COMPOSE_FILE=/ s|docker-compose\.external-database|deploy/external-database|' "$ROOT/.env"
require_database
settle_replacement
[[ -n ${OPTION[rolling]:-} ]] || require_alone "请逐台升级：scripts/upgrade.sh --rolling。Upgrade one after the other: scripts/upgrade.sh --rolling"
OLD_IMAGE=$(inspect app '{{.Image}}') # what the app's container runs, or would run
[[ -n $OLD_IMAGE ]] || OLD_IMAGE=$(docker image inspect --format '{{.Id}}' "$APP_IMAGE" 2>/dev/null) \
    || die "从未启动过：docker compose up -d --wait。There is no older version here: docker compose up -d --wait starts this one"
if answers nginx; then SERVED=yes; else warn "服务目前未就绪，继续升级。The service is not ready now; the upgrade goes on"; fi
need age age
bytes=$(owner_sql "$LIVE" "SELECT pg_database_size('$LIVE')")
require_space "$BACKUP_FOLDER" "$bytes" # before anything is built
OLD_SCHEMA=$(schema_of "$LIVE")
get_code
[[ -e $OWN_IDENTITY ]] || warn "从此版本起，备份总是加密，并含全部密钥：以新生成的 secrets/backup_identity 解密。From this version on, backups are always encrypted, and hold all keys: the new secrets/backup_identity opens them"
"$ROOT/scripts/init.sh" >/dev/null </dev/null # folders and secrets that the new version adds
get_image "${OPTION[image-archive]:-}"
# git pull has brought nothing, and neither image nor nginx's configuration is newer than what serves.
if [[ -n $SERVED && -n $OLD_COMMIT && $(git_here rev-parse HEAD) == "$OLD_COMMIT" && $OLD_SCHEMA == "$(own_schema)" ]] \
    && [[ $(docker image inspect --format '{{.Id}}' "$APP_IMAGE") == "$OLD_IMAGE" ]] && ! nginx_changed; then
    STEP=''
    say "已是最新版本，未作改动。Already the newest version; nothing was changed"
    exit
fi
find_way_back
back_up "$bytes"
STEP=switch
if [[ -n ${OPTION[rolling]:-} ]]; then # requests that still come are served until the app ends
    if compose exec -T app python -m app drain >/dev/null 2>&1 </dev/null; then
        say "本机已排空，等待负载均衡 ${OPTION[drain-seconds]:-15} 秒… Draining; the balancer has ${OPTION[drain-seconds]:-15} s …"
        sleep "${OPTION[drain-seconds]:-15}"
    fi
    stop_app
fi
said=$(start_stack) || die "新版本未就绪。The new version is not ready: $said"
STEP=''
version=$(git_here rev-parse --short=12 HEAD 2>/dev/null || true)
say "升级完成${version:+（$version）}。Upgraded${version:+ to $version}"
say "升级前的备份 the backup before: $BACKUP"
say "升级前的镜像 the image before: $PREVIOUS_IMAGE"
remind_to_copy
