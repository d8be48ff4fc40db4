#!/usr/bin/env bash
# 通过 SSH 把整套服务搬到另一台服务器：期间本机回答 503，客户端自动重试，不丢任何数据。
# Moves the whole service to another server over SSH. Meanwhile this server answers 503 with Retry-After and clients ask
# again, so that nothing is lost. After any failure this server serves again.
#
#   scripts/migrate-to.sh USER@HOST [--directory DIR] [--ssh-port N] [--ssh-option OPTION]…
#                         [--http-port N] [--https-port N] [--project NAME]
#   scripts/migrate-to.sh --resume-here
#
#   USER@HOST           新服务器，须已装 Docker（scripts/provision.sh） the new server, which has Docker
#   --directory DIR     那里的目录 the folder there (the same as here). A missing or empty one gets this checkout's code;
#                       an existing checkout must be as new as this one
#   --ssh-port N        SSH 端口 its SSH port
#   --ssh-option OPTION 传给 ssh -o 的选项，可多次 an option for ssh -o, such as IdentityFile=…; may be repeated
#   --http-port, --https-port, --project
#                       那里的端口与项目名 ports and project name there (the same as here)
#   --resume-here       撤销搬迁，本机恢复服务 undoes the move, or export.sh --final: this server serves again
#
# 完成后按提示修改域名解析；本机保持 503，直到您停用它。Afterwards it prints the DNS step; this server answers 503 until
# you take it down. What the new server has done since the move is not here: consider that before --resume-here.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/archive.sh
source "$ROOT/scripts/lib/archive.sh"
# shellcheck source=scripts/lib/remote.sh
source "$ROOT/scripts/lib/remote.sh"

HOST='' DIRECTORY=$ROOT STEP=''
SSH_OPTIONS=()
import_options=()

take_options() {
    local name
    parse_options "resume-here directory= ssh-port= ssh-option=* http-port= https-port= project=" "$@"
    ((${#OPERANDS[@]} <= 1)) || usage_error "只能搬到一台服务器 one server at a time: ${OPERANDS[1]}"
    HOST=${OPERANDS[0]:-} DIRECTORY=${OPTION[directory]:-$ROOT}
    take_ssh_options
    for name in http-port https-port project; do
        [[ -z ${OPTION[$name]:-} ]] || import_options+=("--$name" "${OPTION[$name]}")
    done
    [[ -n ${OPTION[resume-here]:-} || -n $HOST ]] || usage_error "请写明新服务器 name the new server: USER@HOST"
    [[ -z ${OPTION[resume-here]:-} || -z $HOST ]] || usage_error "--resume-here 不带服务器 takes no server"
    [[ $DIRECTORY == /* ]] || usage_error "--directory 须为绝对路径 must be an absolute path: $DIRECTORY"
}

resume_here() {
    local log
    log=$(serve_again) \
        || die "服务未就绪：docker compose logs。The service is not ready, see docker compose logs: $log"
    say "本机已恢复服务。This server serves again."
    say "如新服务器已接待客户，其数据不在本机：请停止那边，或从那边搬回。If the new server has served customers, what it knows of them is not here: stop it, or move back from there."
}

# finish: after a failure this server serves again, and the new one does not.
finish() {
    local status=$? said
    trap - EXIT
    trap '' INT TERM HUP
    set +e
    if [[ -n $STEP ]]; then
        if said=$(serve_again); then
            warn "搬迁未完成，本机已恢复服务。The move failed; this server serves again"
        else
            warn "搬迁未完成，且本机未就绪：docker compose up -d --wait。The move failed, and this server is not ready: docker compose up -d --wait: $said"
        fi
        ((status)) || status=1
        if [[ $STEP == imported ]]; then remote_checkout docker compose stop app >/dev/null 2>&1 </dev/null; fi
    fi
    close_connection
    exit "$status"
}

# kilobytes_needed: three times the database (archive, restored, its log), the files, and the images.
kilobytes_needed() {
    local database files
    database=$(in_database as-role backup psql --no-psqlrc --tuples-only --no-align \
        --command "SELECT pg_database_size(current_database()) / 1024" </dev/null) || die "数据库没有响应 the database does not answer"
    require_number "$database"
    files=$(du -sk --exclude=postgres --exclude=backups --exclude=functions-packages "$ROOT/data" | cut -f1)
    printf '%s' $((4 * database + 2 * files + 1024 * 1024))
}

# prepare_remote: does everything that can be done there while this server still serves, above all the image.
prepare_remote() {
    local holds
    find_signer || die "无法签名迁移包，本机照常服务。The bundle could not be signed; this server keeps serving: $(last_line "$FINGERPRINT")"
    import_options+=(--fingerprint "$FINGERPRINT") # nobody is asked: it comes over the same connection as the bundle
    holds=$(check_remote "$(kilobytes_needed)") || exit 1
    if [[ $holds == nothing ]]; then
        say "正在发送代码 sending the code: $HOST:$DIRECTORY"
        send_code || die "代码发送失败 could not send the code"
    fi
    say "新服务器准备中（镜像、空数据库）… The new server gets ready (image, empty database) …"
    remote_checkout scripts/import.sh --prepare - "${import_options[@]}" <"$ROOT/.env" >/dev/null \
        || die "新服务器未能就绪（原因见上），本机照常服务。The new server could not be prepared, see above; this one keeps serving"
}

move() {
    local start=$SECONDS
    say "本机暂停服务（503），开始搬迁… This server answers 503 from now on; moving …"
    STEP=stopped
    move_away "$HOST:$DIRECTORY"
    STEP=imported
    "$ROOT/scripts/export.sh" -o - --unencrypted | remote_checkout scripts/import.sh - "${import_options[@]}" >/dev/null \
        || die "导入失败（原因见上）。The import on the new server failed, see above"
    remote_checkout scripts/cardctl healthcheck >/dev/null </dev/null || die "新服务器不健康。The new server is not healthy"
    STEP=''
    say "搬迁完成，用时 $((SECONDS - start)) 秒，新服务器运行正常。Moved in $((SECONDS - start)) s, and the new server is healthy: $HOST:$DIRECTORY"
}

report() {
    local domain
    domain=$(setting KADUN_DOMAIN)
    say "下一步 next:"
    say "  1. 把域名${domain:+ $domain }的解析（A、AAAA）改为新服务器的地址。Point the DNS records (A, AAAA)${domain:+ of $domain} at the new server."
    say "     本机继续回答 503，客户端会重试。This server goes on answering 503, so that clients ask again."
    say "  2. 在新服务器上 on the new server: scripts/issue-certificate.sh DOMAIN; scripts/install-cron.sh; scripts/cardctl doctor"
    say "  3. 一切正常后在本机 when all is well, here: docker compose down"
    say "  反悔则 or, to undo the move: scripts/migrate-to.sh --resume-here"
}

umask 077
take_options "$@"
require_stack ${OPTION[resume-here]:+moved}
lock_stack
if [[ -n ${OPTION[resume-here]:-} ]]; then
    resume_here
    exit
fi
require_running database app nginx
find_live
require_alone "一台机器才能搬迁。Only a single machine can move: stop the others first, there: docker compose stop app nginx"
need ssh openssh-client
trap finish EXIT
trap 'exit 130' INT TERM HUP
open_connection
prepare_remote
move
report
