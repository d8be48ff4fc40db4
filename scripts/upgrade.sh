#!/usr/bin/env bash
# 升级：备份、取得新代码与镜像、升级数据库、切换；失败则自动退回原版本。
# Upgrades the service: backup, new code and image, migration, switch. After a failure the old image, the old code and, if it
# was migrated, the old database are put back.
#
#   scripts/upgrade.sh [--no-pull] [--image-archive FILE] [--rolling [--drain-seconds 15]]
#
#   --no-pull             不执行 git pull：代码已由您更新 no git pull: you have put the new code here already. After a
#                         failure your code is left as it is; the image is put back
#   --image-archive FILE  从文件载入镜像而不构建（scripts/save-images.sh 所存） loads the image from a file that
#                         scripts/save-images.sh made, instead of building it
#   --rolling             多台机器依次升级：先让负载均衡移出本机，再升级本机；数据库只升级一次，失败时不退回数据库 for several
#                         machines, one after the other: the balancer takes this one out first; the database is migrated
#                         once, and never put back, since the others write to it
#   --drain-seconds N     等待负载均衡的秒数（15） how long the balancer may take to notice (15)
#
# 中断通常只有几秒，客户端会自动重试；实际时长写入 data/upgrade.log。The interruption is a few seconds, in which clients get
# a 503 and ask again; its length is printed and written to data/upgrade.log.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/upgrade-steps.sh
source "$ROOT/scripts/lib/upgrade-steps.sh"

STEP='' WATCH='' SERVED='' OLD_IMAGE='' OLD_COMMIT='' OLD_SCHEMA='' NEW_SCHEMA='' DUMP='' GAPS=''
TIME=$(date -u +%Y%m%dT%H%M%SZ)

# get_code: pulls the newest code of this branch.
get_code() {
    local said
    [[ -z ${OPTION[no-pull]:-} ]] || return 0
    need git git
    OLD_COMMIT=$(git_here rev-parse HEAD 2>/dev/null) \
        || die "此目录不是 git 克隆：更新代码后加 --no-pull。This is no git clone: put the new code here and use --no-pull"
    STEP=code
    said=$(git_here pull --quiet --ff-only 2>&1 </dev/null) \
        || die "git pull 失败，未作改动。git pull failed, and nothing was changed: $(last_line "$said")"
    open_to_containers
}

# make_folders: makes the folders and secrets that the new version adds.
make_folders() { "$ROOT/scripts/init.sh" >/dev/null </dev/null || exit 1; }

# find_old: sets OLD_IMAGE, what the app's container runs or would run, kept under another name too; and SERVED.
find_old() {
    local container
    container=$(container_of app) || die "无法查询容器 cannot ask for the containers"
    # Two commands: what one prints before it fails does not count.
    OLD_IMAGE=$(docker container inspect --format '{{.Image}}' "$container" 2>/dev/null) \
        || OLD_IMAGE=$(docker image inspect --format '{{.Id}}' "$APP_IMAGE" 2>/dev/null) \
        || die "从未启动过：docker compose up -d --wait。There is no older version here: docker compose up -d --wait starts this one"
    docker tag "$OLD_IMAGE" "$(previous_image "$APP_IMAGE")"
    SERVED=yes
    is_ready >/dev/null 2>&1 \
        || { SERVED='' && warn "服务目前未就绪，继续升级。The service is not ready now; the upgrade goes on"; }
}

# get_image: builds or loads the new image.
get_image() {
    local said
    STEP=image
    if [[ -n $archive ]]; then
        "$ROOT/scripts/load-images.sh" "$archive" >/dev/null || exit 1
    else
        say "正在构建镜像… Building the image …"
        said=$(compose build --quiet app 2>&1 </dev/null) || die "镜像构建失败。The image could not be built: $(last_line "$said")"
    fi
    NEW_SCHEMA=$(docker run --rm --network none --read-only "$APP_IMAGE" \
        python -c 'from app.storage.schema import expected_version as v; print(v())' 2>&1 </dev/null) \
        || die "新镜像无法运行。The new image does not run: $(last_line "$NEW_SCHEMA")"
    [[ $NEW_SCHEMA == "$(own_schema)" ]] \
        || die "镜像（$NEW_SCHEMA）与代码（$(own_schema)）不是同一版本。Image ($NEW_SCHEMA) and code ($(own_schema)) are of different versions"
    [[ ! $OLD_SCHEMA > $NEW_SCHEMA ]] \
        || die "新版本比数据库旧（$OLD_SCHEMA）。This version is older than its database ($OLD_SCHEMA)"
}

# require_kept: no new migration takes away what the programs of other machines still use; it would say so in its first line.
require_kept() {
    local migration
    [[ -n $ROLLING ]] || return 0
    for migration in "$ROOT"/app/storage/migrations/[0-9]*.sql; do
        [[ ! $(basename -- "$migration" .sql) > $OLD_SCHEMA ]] || [[ $(head -n 1 "$migration") != '-- Takes away '* ]] \
            || die "旧版程序（$OLD_SCHEMA）无法使用新的数据库结构，不能逐台升级：请停止其他机器，再执行不带 --rolling 的升级。Programs of $OLD_SCHEMA cannot run on the new schema, so the machines cannot be upgraded one after the other: stop the others, and upgrade without --rolling ($migration)"
    done
}

# drain: the balancer takes this machine out; requests that still come are served until the app ends.
drain() {
    [[ -n $ROLLING ]] || return 0
    STEP=switch
    if compose exec -T app python -m app drain >/dev/null 2>&1 </dev/null; then
        say "本机已排空，等待负载均衡 $DRAIN_SECONDS 秒… Draining; the balancer has $DRAIN_SECONDS s …"
        sleep "$DRAIN_SECONDS"
    fi
    compose stop app >/dev/null 2>&1 </dev/null || die "无法停止服务 could not stop the service"
}

# require_room: for the backup, while nothing has been changed. Sets BYTES, the database's size.
require_room() {
    BYTES=$(owner_sql "$LIVE" "SELECT pg_database_size('$LIVE')") && [[ $BYTES =~ ^[0-9]+$ ]] \
        || die "数据库没有响应 the database does not answer"
    require_space "$BACKUP_FOLDER" $((BYTES + 1048576))
}

# back_up: before a migration the service stops first, so that the backup holds everything it acknowledged. It can be
# restored here without asking for an identity.
back_up() {
    if [[ $NEW_SCHEMA != "$OLD_SCHEMA" ]]; then
        say "数据库将从 $OLD_SCHEMA 升级到 $NEW_SCHEMA。The database goes from $OLD_SCHEMA to $NEW_SCHEMA"
        if [[ -z $ROLLING ]]; then
            require_database_space "$BYTES" # for the way back
            STEP=switch
            compose stop app >/dev/null 2>&1 </dev/null || die "无法停止服务 could not stop the service"
        fi
    fi
    take_archive "$BACKUP_FOLDER/kadun-before-upgrade-$TIME.tar" "$RECIPIENT"
    DUMP=$TAKEN
    retention keep-newest "$BACKUP_FOLDER" kadun-before-upgrade- 3
}

switch() {
    local said
    STEP=switch
    said=$(start_stack) \
        || die "新版本未就绪。The new version is not ready: $said"
    said=$(renew_nginx) || die "nginx 未能启动。nginx does not start: $said"
}

# finish: after a failure everything is put back.
finish() {
    local status=$?
    trap - EXIT
    trap '' INT TERM HUP
    if [[ -n $STEP ]]; then
        ((status)) || status=1
        if ! (roll_back); then
            warn "退回未完成，请按上面的提示处理，备份在 $DUMP。The old version could not be put back completely; the backup is $DUMP"
        elif [[ -n $DUMP ]]; then
            DUMP=$(encrypt_archive "$DUMP")
            warn "升级前的备份 the backup from before the upgrade: $DUMP"
        fi
    fi
    remove_leftovers
    stop_watch
    exit "$status"
}

roll_back() {
    local aside=${LIVE}_failed_upgrade_${TIME,,} now said
    code_back "$OLD_COMMIT"
    if [[ $STEP == code ]]; then return; fi
    docker tag "$OLD_IMAGE" "$APP_IMAGE" || die "无法恢复旧镜像：docker tag $OLD_IMAGE $APP_IMAGE。The old image could not be put back"
    if [[ $STEP == image ]]; then warn "未作改动${SERVED:+，原版本照常服务}。Nothing was changed${SERVED:+; the old version goes on serving}"; return; fi
    # The others write to a database that several machines share; it may be away, too.
    if [[ -z $ROLLING && -n $DUMP ]]; then
        now=$(schema_of "$LIVE") || die "数据库没有响应 the database does not answer"
        if [[ $now != "$OLD_SCHEMA" ]]; then
            compose stop app >/dev/null 2>&1 </dev/null
            database_back "$DUMP" "$aside"
            warn "数据库已恢复到升级前，升级后的保留为 $aside（其中多 $NEWER 条日志）。The database is as before the upgrade; the migrated one is kept as $aside, with $NEWER journal entries more"
        fi
    fi
    [[ -z $ROLLING ]] || compose exec -T app python -m app drain --end >/dev/null 2>&1 </dev/null || true
    if said=$(start_stack && renew_nginx); then
        warn "升级失败，已退回原版本并正常服务。The upgrade failed; the old version is back and serves"
    elif [[ -n $SERVED ]]; then
        die "原版本也未就绪：docker compose logs。The old version is not ready either, see docker compose logs: $said"
    else
        warn "升级失败，已退回原版本，它与升级前一样未就绪。The upgrade failed; the old version is back and, as before, not ready: $said"
    fi
    [[ -z ${OPTION[no-pull]:-} ]] || warn "代码未动：请自行放回旧代码。The code is as you put it: put the old code back yourself"
}

stop_watch() {
    if [[ -n $WATCH ]]; then kill "$WATCH" 2>/dev/null || true; fi
    if [[ -n $GAPS ]]; then rm -f -- "$GAPS"; fi
}

# start_watch: measures the interruption, if there is curl.
start_watch() {
    command -v curl >/dev/null || return 0
    GAPS=$(mktemp)
    watch_gap "$GAPS" </dev/null >/dev/null 2>&1 &
    WATCH=$!
}

report() {
    local gap='?' version
    if [[ -n $GAPS ]]; then
        sleep 0.5 # until watch_gap has seen the answer
        gap=$(gap_in "$GAPS")
    fi
    version=$(git_here rev-parse --short=12 HEAD 2>/dev/null || true)
    printf '%s %s %s gap=%ss\n' "$(date -u +%Y-%m-%dT%H:%M:%SZ)" "${version:--}" "$NEW_SCHEMA" "$gap" >>"$ROOT/data/upgrade.log"
    say "升级完成${version:+（$version）}，中断 $gap 秒。Upgraded${version:+ to $version}; the service was away for $gap s"
    say "升级前的备份 the dump before: $DUMP"
    say "升级前的镜像 the image before: $(previous_image "$APP_IMAGE")"
    is_copied || say "请把 secrets/backup_identity 复制到别的机器并确认：没有它，备份无法解密（docs/operations.zh-CN.md，开头）。Copy secrets/backup_identity to another machine and confirm that: nothing else decrypts the backups (docs/operations.md, at the top)"
}

umask 077
parse_options "no-pull rolling image-archive= drain-seconds=" "$@"
at_most 0
ROLLING=${OPTION[rolling]:-}
DRAIN_SECONDS=${OPTION[drain-seconds]:-15}
[[ $DRAIN_SECONDS =~ ^[0-9]{1,3}$ ]] || usage_error "--drain-seconds 须为 0–999 的整数 must be a number from 0 to 999: $DRAIN_SECONDS"
[[ -n $ROLLING || -z ${OPTION[drain-seconds]:-} ]] || usage_error "--drain-seconds 只用于 --rolling is for --rolling"
archive=${OPTION[image-archive]:-}
if [[ -n $archive ]]; then
    [[ -r $archive ]] || die "无法读取 cannot read $archive"
    archive=$(realpath -- "$archive")
fi
require_stack
lock_stack 5
find_folder
find_live
APP_IMAGE=$(setting KADUN_APP_IMAGE kadun-app)
said=$(come_up database && await database_ready database) \
    || die "数据库无法启动。The database does not start: $said"
[[ -n $ROLLING ]] || require_alone "请逐台升级：scripts/upgrade.sh --rolling。Upgrade one after the other: scripts/upgrade.sh --rolling"
find_old
[[ $(setting KADUN_BACKUP_RECIPIENT) == none ]] || need age age
claim_folder
require_room
OLD_SCHEMA=$(schema_of "$LIVE")
trap finish EXIT
trap 'exit 130' INT TERM HUP
get_code
make_folders
find_safety_recipient
get_image
require_kept
start_watch
back_up
drain
switch
STEP=''
DUMP=$(encrypt_archive "$DUMP")
report
