#!/usr/bin/env bash
# 导出整套服务：数据库、密钥、设置、证书与文件，打成一个加密的迁移包。
# Exports the whole service as one encrypted bundle: database, keys, settings, certificates, files and functions.
# scripts/import.sh brings it up on another machine.
#
#   scripts/export.sh [-o FILE] --passphrase
#   scripts/export.sh [-o FILE] --recipient age1… [--recipient age1…]
#   scripts/export.sh -o - --unencrypted | ssh …
#
#   -o, --output FILE   写到此文件 where to (kadun-<time>.tar.age in the current folder); - is standard output
#   --passphrase        在终端询问口令 asks for a passphrase on the terminal; one left empty is made up and shown
#   --recipient age1…   加密给此公钥，可多次 encrypts to this age recipient; may be repeated. The default is
#                       KADUN_BACKUP_RECIPIENT in .env, where it is set
#   --unencrypted       不加密，只能写入管道 no encryption, into a pipe only: the bundle holds every secret
#
# 导出期间服务照常运行；之后的请求不在包内。The service runs on meanwhile, and what it does later is not in the
# bundle: to move and lose nothing, first run `docker compose stop app` (clients get 503 and ask again), or use
# scripts/migrate-to.sh.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/common.sh
source "$ROOT/scripts/lib/common.sh"
# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"
# shellcheck source=scripts/lib/dump.sh
source "$ROOT/scripts/lib/dump.sh"
# shellcheck source=scripts/lib/bundle.sh
source "$ROOT/scripts/lib/bundle.sh"

output='' passphrase='' unencrypted='' staged='' partial=''
recipients=()

parse_arguments() {
    while (($#)); do
        case $1 in
            -h | --help) print_help "$ROOT/scripts/export.sh"; exit ;;
            --passphrase) passphrase=yes ;;
            --unencrypted) unencrypted=yes ;;
            -o | --output | --recipient)
                [[ -n ${2:-} ]] || usage_error "缺少参数 a value is missing: $1"
                if [[ $1 == --recipient ]]; then recipients+=("$2"); else output=$2; fi
                shift
                ;;
            *) usage_error "未知参数 unknown argument: $1" ;;
        esac
        shift
    done
}

# choose_encryption: exactly one way, and none at all only into a pipe.
choose_encryption() {
    local default
    if [[ -z $passphrase$unencrypted && ${#recipients[@]} == 0 ]]; then
        default=$(setting KADUN_BACKUP_RECIPIENT "")
        [[ -n $default ]] \
            || usage_error "请指定 --passphrase 或 --recipient。Say how to encrypt: --passphrase, or --recipient age1…"
        recipients=("$default")
    fi
    if [[ -n $unencrypted ]]; then
        [[ -z $passphrase && ${#recipients[@]} == 0 ]] || usage_error "--unencrypted 不能与加密并用 contradicts the encryption"
        [[ $output == - && -p /dev/stdout ]] \
            || die "未加密的迁移包不落盘：只能 -o - 写入管道。An unencrypted bundle is never written to a disk: only with -o - into a pipe"
        return
    fi
    [[ -z $passphrase || ${#recipients[@]} == 0 ]] || usage_error "--passphrase 与 --recipient 只能选一 choose one of the two"
    need age age
    for default in "${recipients[@]}"; do
        age --recipient "$default" </dev/null >/dev/null 2>&1 || usage_error "不是 age 公钥 no age recipient: $default"
    done
}

# check_output: it can be written, and nothing is there already.
check_output() {
    if [[ $output == - ]]; then
        [[ ! -t 1 ]] || usage_error "-o - 须重定向 standard output is a terminal: redirect it"
        return
    fi
    output=${output:-kadun-$(date -u +%Y%m%dT%H%M%SZ).tar.age}
    [[ ! -e $output ]] || die "文件已存在：请换名。The file exists already, choose another name: $output"
    partial=$output.partial
    : >"$partial" 2>/dev/null || die "无法写入 cannot write $output"
}

# stage: everything that travels, with the manifest, in a folder beside the data.
stage() {
    local lost
    rm -rf -- "$ROOT"/data/.export.* # what a killed one left
    staged=$(mktemp -d "$ROOT/data/.export.XXXXXX")
    make_dump "$staged/database.dump" "$staged/database.manifest"
    stage_files "$staged"
    lost=$(missing_files "$staged/database.dump" "$staged/data/files") || die "无法读取备份 cannot read the dump"
    [[ -z $lost ]] || warn "这些文件的内容不在包内；若刚被替换，请重新导出，否则请重新添加。The bytes of these files are not in the bundle: if they were just replaced export again, else add them again: ${lost//$'\n'/, }"
    write_manifest "$staged" "created=$(date -u +%Y-%m-%dT%H:%M:%SZ)" \
        "project=$(setting COMPOSE_PROJECT_NAME kadun)" "version=$(app_version)" "commit=$(app_commit)" \
        "schema=$(sed -n 's/^schema //p' "$staged/database.manifest")"
}

# write_bundle: packs and encrypts what is staged, then looks whether it was changed meanwhile.
write_bundle() {
    local -a encrypt=(cat)
    local recipient
    if [[ -n $passphrase ]]; then encrypt=(age --passphrase); fi
    if ((${#recipients[@]})); then encrypt=(age); fi
    for recipient in "${recipients[@]}"; do encrypt+=(--recipient "$recipient"); done
    if [[ $output == - ]]; then
        pack "$staged" | "${encrypt[@]}" || die "导出失败 the export failed"
    else
        pack "$staged" | "${encrypt[@]}" >"$partial" \
            || die "无法写入（磁盘已满？） could not write $output: is the disk full?"
        sync -- "$partial"
    fi
    check_sums "$staged" || die "导出期间文件有变动，请重试。Files changed meanwhile: export again"
    if [[ $output != - ]]; then
        mv -fT -- "$partial" "$output"
        sync -- "$(dirname -- "$output")"
    fi
}

clean_up() {
    [[ -z $staged ]] || rm -rf -- "$staged"
    [[ -z $partial ]] || rm -f -- "$partial"
}

umask 077
parse_arguments "$@"
require_stack ${KADUN_LOCK:+moved} # scripts/migrate-to.sh, which holds the lock, has just said so
choose_encryption
require_running database
lock_stack
trap clean_up EXIT
check_output
stage
write_bundle
if [[ $output != - ]]; then
    say "已导出 exported: $output ($(du -h --apparent-size -- "$output" | cut -f1))"
    say "在新机器上 on the new machine: scripts/import.sh $(basename -- "$output")"
fi
