#!/usr/bin/env bash
# 通过 SSH（rsync）把整套服务搬到另一台服务器，或让另一台服务器加入。本机停顿期间回答 503，客户端自动重试，不丢任何数据。
# Moves the whole service to another server over SSH, by rsync, or adds an app machine. Only for the last part of a move this
# server answers 503 with Retry-After, and clients ask again: nothing is lost. After a failure this server serves again.
#
#   scripts/migrate-to.sh USER@HOST [--join] [OPTION…]
#   scripts/migrate-to.sh --resume-here
#
#   USER@HOST           新服务器：root，或可免密 sudo；须已装 Docker（scripts/provision.sh）
#                       the new server: root, or a user with sudo and no password; it has Docker
#   --join              使其与本机一起服务同一个（容器外的）数据库：复制密钥、设置、证书与核心功能，不复制数据
#                       it serves the same database, which is outside this stack, beside this machine: secrets, settings,
#                       certificates and functions are copied, no data
#   --directory DIR, --http-port N, --https-port N, --project NAME
#                       那里的目录（不存在、空或从未运行）、端口与项目名，默认与本机相同 the folder (missing, empty, or a checkout
#                       that never ran), ports and project name there; by default the same as here
#   --ssh-port N, --ssh-option OPTION
#                       传给 ssh 的端口与选项，选项可多次 the SSH port, and options for ssh -o, such as IdentityFile=…
#   --host NAME         那里的 KADUN_HOST KADUN_HOST there (the same as here; with --join that machine's own name)
#   --resume-here       撤销搬迁，本机恢复服务 undoes the move: this server serves again
#
# 中断后再次执行同一命令即可继续。After an interruption the same command goes on. What the new server has done since a finished
# move is not here: consider that before --resume-here.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
source "$ROOT/scripts/lib/keys.sh"
source "$ROOT/scripts/lib/ssh.sh"

FROM="from $(uname -n):$ROOT" # what the mark of an unfinished copy says
# Never copied: the marks, notes of the project, locks, folders of running scripts, and what belongs to this machine's Python.
readonly NEVER=('- /data/keys/moved-to*' '- /.env' '- /data/.project' '- /data/backups/.project' '- /data/.*.lock'
    '- /data/.*.??????' '- /.venv*' '- /.trial' '- /.*_cache')
# What a machine that joins gets of data/: the functions, and the other folders empty. The cluster's own files stay here.
readonly NO_DATA=('+ /data/functions/***' '+ /data/functions-packages/***' '+ /data/keys/' '+ /data/files/' '+ /data/acme/'
    '- /data/*' '- /data/*/**' '- deploy/cluster/data/' '- deploy/cluster/node/' '- deploy/cluster/nodes/' '- .env')

# require_outside: another machine can serve beside this one.
require_outside() {
    local hosts=${URL_BEFORE#*@}
    [[ $hosts != database/ && $hosts != database:* && $hosts != database ]] \
        || die "数据库在本机容器中，其他主机无法访问：先按《从容器迁到您自己的 PostgreSQL》迁出。The database is in this stack's container, which no other machine reaches: docs/installation.md, 'From the container to a PostgreSQL of your own'"
    [[ $(keys_are_in) == database ]] \
        || die "签名密钥只在本机：请执行 scripts/cardctl key store database，在 .env 中设置 KADUN_KEYS=database，再 docker compose up -d --wait。KADUN_KEYS must be database: run scripts/cardctl key store database, write KADUN_KEYS=database into .env, then docker compose up -d --wait"
    [[ $(schema_of "$LIVE") == "$(own_schema)" ]] \
        || die "代码与数据库的结构不同：请先执行 scripts/upgrade.sh --no-pull。The code here and the database have different schemas: run scripts/upgrade.sh --no-pull first"
    [[ ! $(stat --file-system --format=%T -- "$ROOT/data/files") =~ ^(ext|xfs|btrfs|zfs|f2fs|jfs|reiserfs|bcachefs|overlayfs|tmpfs|ramfs) \
        || -z $(find "$ROOT/data/files" -maxdepth 1 -type f ! -name '.*' -print -quit) ]] \
        || die "授权文件只在本机磁盘：设置 KADUN_FILES_BUCKET 后执行 scripts/cardctl file move-to bucket，或在 data/files 挂载共享存储。The licensed files in data/files are on this machine's own disk: set KADUN_FILES_BUCKET and run scripts/cardctl file move-to bucket, or mount shared storage there (docs/files-and-functions.md)"
}

# new_env FILE: this machine's .env with what is the new one's own.
new_env() {
    local name project=${OPTION[project]:-}
    cp -- "$ROOT/.env" "$1" && chmod 644 -- "$1"
    for name in http-port:KADUN_HTTP_PORT https-port:KADUN_HTTPS_PORT project:COMPOSE_PROJECT_NAME host:KADUN_HOST; do
        [[ -z ${OPTION[${name%:*}]:-} ]] || set_setting "${name#*:}" "${OPTION[${name%:*}]}" "$1"
    done
    [[ -z $project || $(setting KADUN_APP_IMAGE) != "$(setting COMPOSE_PROJECT_NAME kadun)-app" ]] \
        || set_setting KADUN_APP_IMAGE "$project-app" "$1"
    [[ -z ${OPTION[join]:-} ]] || set_setting KADUN_CERTIFICATE_HOSTS '' "$1" # one machine renews
}

# copy SSH FOLDER PATH [OPTION…]: what lies at the path in this checkout, an empty one for all of it.
copy() {
    local -a rules=("${NEVER[@]/#/--filter=}")
    [[ -z ${OPTION[join]:-} ]] || rules+=("${NO_DATA[@]/#/--filter=}")
    rsync --archive --hard-links --no-devices --no-specials --secluded-args --numeric-ids --delete -e "$1" "${rules[@]}" "${@:4}" \
        -- "$ROOT/$3" "there:$2/$3"
}

# evidence [SSH FOLDER]: what must be the same on both sides: the database's content, or with --join the signing keys in it.
evidence() {
    local -a what=(contents_of "$LIVE")
    [[ -z ${OPTION[join]:-} ]] || what=(sealed_keys "$LIVE")
    if (($#)); then remote_stack "$@" "${what[@]}"; else "${what[@]}"; fi
}

# move SSH FOLDER MARK: what customers wait for. Until serve_again the copy there cannot start, and this server can.
move() {
    local before
    say "本机暂停服务（503）… This server answers 503 from now on …"
    STEP=stopped since=${since:-$EPOCHSECONDS}
    move_away "$3"
    compose --progress quiet stop functions webhooks </dev/null
    require_database
    before=$(evidence)
    compose --progress quiet stop database </dev/null
    [[ $(inspect database '{{.State.ExitCode}}') == 0 ]] \
        || die "数据库未能正常停止：docker compose logs database。The database did not shut down cleanly, see docker compose logs database"
    copy "$1" "$2" '' --exclude=/data/postgres
    copy "$1" "$2" data/postgres/ --checksum
    serve_there "$1" "$2" "$before" handed
}

# serve_there SSH FOLDER EVIDENCE STEP: starts the copy, once it has shown the same as this server.
serve_there() {
    remote_stack "$1" "$2" require_database
    [[ -n $3 && $(evidence "$1" "$2") == "$3" ]] \
        || die "那里的数据库与本机不同。The database there does not hold what this server's does"
    STEP=$4
    remote_stack "$1" "$2" serve_again >&2 # it says what does not work
    STEP=''
}

# finish SSH FOLDER WORK: after a failure this server serves, and the new one does not; or nobody, where that is unknown.
finish() {
    local status=$? said=''
    trap - EXIT
    trap '' INT TERM HUP
    set +e
    [[ $STEP != handed && $STEP != joined ]] || remote_stack "$1" "$2" move_away "$FROM" >/dev/null 2>&1 || STEP+=' lost'
    [[ -z $STEP ]] || remote_stack "$1" "$2" compose stop >/dev/null 2>&1
    if [[ $STEP == 'handed lost' || -z $STEP && $status != 0 && -e $MOVED ]]; then
        warn "搬迁未完成，本机不提供服务。续搬：再次执行同一命令；撤销：先确认新服务器已停止，再执行 scripts/migrate-to.sh --resume-here。The move is not finished, and this server does not serve. To go on, run the same command again; to go back, see that the new server is stopped, then run scripts/migrate-to.sh --resume-here"
    elif [[ $STEP == stopped || $STEP == handed ]]; then
        said=$(serve_again) || said=${said:-?}
        warn "搬迁未完成，本机已恢复服务${said:+，但未就绪}。The move failed; this server ${said:+is not ready: }${said:-serves again}"
    fi
    ssh -O exit -o "ControlPath=$3/socket" -- there >/dev/null 2>&1
    rm -rf -- "$3"
    exit "$status"
}

umask 077
parse_options "resume-here join directory= ssh-port= ssh-option=* http-port= https-port= project= host=" "$@"
at_most 1
check_option directory '/.*' "绝对路径 an absolute path"
host=${OPERANDS[0]:-} folder=${OPTION[directory]:-$ROOT} STEP=''
[[ -n $host || -n ${OPTION[resume-here]:-} ]] || usage_error "请写明新服务器 name the new server: USER@HOST"
place=$(moved_to) since=''
[[ -z $place ]] || since=$(date -d "${place%% *}" +%s) || since=$EPOCHSECONDS # customers have waited since then
if [[ -n $place && ${place#* } != "$host:$folder" && -z ${OPTION[resume-here]:-} ]]; then require_home; fi
require_stack moved
lock_stack
if [[ -n ${OPTION[resume-here]:-} ]]; then
    [[ $place != *'Z from '* ]] || require_home
    said=$(serve_again) || die "服务未就绪：docker compose logs。The service is not ready, see docker compose logs: $said"
    say "本机已恢复服务。This server serves again."
    say "请停止新服务器：在那里执行 docker compose stop。如它已接待客户，其数据不在本机。Stop the new server, there: docker compose stop. If it has served customers, what it knows of them is not here."
    exit
fi
find_live
[[ -n $place ]] || require_running database app nginx
if [[ -n ${OPTION[join]:-} ]]; then
    require_outside
else
    [[ -n $place ]] || require_alone "一台机器才能搬迁。Only a single machine can move: stop the others first, there: docker compose stop app nginx"
    require_root # to read the database's files
    [[ -e $ROOT/data/postgres/PG_VERSION ]] \
        || die "数据库在本机之外：请以 --join 加入新服务器，再停用本机。The database is outside this stack: let the new server join with --join, then take this one down"
fi
work=$(mktemp -d)
trap 'finish "$work/ssh" "$folder" "$work"' EXIT
trap 'exit 130' INT TERM HUP
mapfile -t ssh_options < <(ssh_words "${OPTION[ssh-port]:-}" "${OPTION[ssh-option]:-}")
connect "$work" "$host" "${ssh_options[@]}"
if [[ -n ${OPTION[join]:-} ]]; then
    OPTION[host]=${OPTION[host]:-$(remote "$work/ssh" uname -n </dev/null)}
    check_option host "$HOST_NAME" "主机名 a host name"
    name=${OPTION[host]} taken=$(owner_sql "$LIVE" "SELECT count(*) FROM host WHERE name = '${OPTION[host]}' AND $PRESENT")
    [[ $name != "$(host_here)" && $taken == 0 ]] \
        || die "名称 $name 已在使用：请加 --host NAME。$name is the name of a machine that serves already: give the new one another with --host NAME"
fi
new_env "$work/env"
found=$(prepare_there "$work/ssh" "$folder" "$work/env" "$FROM") || exit 1
if [[ $found != served ]]; then
    [[ $found == empty ]] || remote_stack "$work/ssh" "$folder" compose stop >/dev/null 2>&1 || true # of an earlier attempt
    say "正在复制… Copying …"
    # While the service runs its files change and vanish (23, 24), which the last copy of a move makes good.
    said=$(copy "$work/ssh" "$folder" '' 2>&1) || [[ $? == 2[34] && -z ${OPTION[join]:-} ]] \
        || die "复制失败，本机照常服务。The copy failed; this server keeps serving: $(error_line "$said")"
    rsync --archive --secluded-args -e "$work/ssh" -- "$work/env" "there:$folder/.env"
    send_images "$work/ssh" "$work/env"
    if [[ -n ${OPTION[join]:-} ]]; then
        serve_there "$work/ssh" "$folder" "$(evidence)" joined
    else
        move "$work/ssh" "$folder" "$host:$folder"
    fi
elif [[ -n $place ]]; then # the last move came so far that the new server may have customers
    remote_stack "$work/ssh" "$folder" serve_again >&2
else
    die "那里已有一个服务，不会覆盖：请用 --directory 另选目录。A service is there already and will not be overwritten: choose another folder with --directory: $folder"
fi
if [[ -z ${OPTION[join]:-} ]]; then
    domain=$(setting KADUN_DOMAIN)
    say "搬迁完成，客户等待了 $((EPOCHSECONDS - since)) 秒。下一步 Moved; customers waited $((EPOCHSECONDS - since)) s. Next: $host:$folder"
    say "  1. 把域名${domain:+ $domain }的解析（A、AAAA）改为新服务器的地址。Point the DNS records (A, AAAA)${domain:+ of $domain} at the new server. 本机继续回答 503 This server goes on answering 503"
    say "  2. 在新服务器上 on the new server: scripts/issue-certificate.sh DOMAIN; scripts/install-cron.sh; scripts/cardctl doctor"
    say "  3. 一切正常后在本机 when all is well, here: docker compose down"
    say "  反悔则 or, to undo the move: scripts/migrate-to.sh --resume-here"
else
    say "已加入，正在服务 it serves beside this server: $host:$folder"
    say "下一步，在新服务器上 next, on the new server: scripts/cardctl hosts; scripts/cardctl doctor; scripts/install-cron.sh --backup-at 04:17"
    say "把它加入负载均衡；在续期证书的主机上 add it to the balancer; on the machine that renews the certificate: scripts/issue-certificate.sh DOMAIN --to $host"
fi
