#!/usr/bin/env bash
# 导出整套服务：数据库、密钥、设置、证书与文件，打成一个加密的迁移包。
# Exports the whole service as one encrypted bundle: database, keys, settings, certificates, files and functions.
# scripts/import.sh brings it up on another machine.
#
#   scripts/export.sh [--final] [-o FILE] --passphrase
#   scripts/export.sh [--final] [-o FILE] --recipient age1… [--recipient age1…]
#   scripts/export.sh -o - --unencrypted | ssh …
#   scripts/export.sh --join [-o FILE] --passphrase
#
#   --final             为搬迁而导出：先停止服务（503），成功后本机不再启动；失败则恢复服务 for a move: the service stops first
#                       (503), and after success it does not start here any more; after a failure it serves again
#   --join              供另一台主机加入（scripts/init.sh --join）：密钥、设置、证书与核心功能，不含任何数据
#                       for another machine that joins this one (scripts/init.sh --join): secrets, settings, certificates and
#                       functions, and no data
#   -o, --output FILE   写到此文件 where to (kadun-<time>.tar.age, with --join kadun-join-<time>.tar.age, in the current folder); - is standard output
#   --passphrase        在终端询问口令 asks for a passphrase on the terminal; an empty one is generated and shown
#   --recipient age1…   加密给此公钥，可多次 encrypts to this age recipient; may be repeated. The default is
#                       KADUN_BACKUP_RECIPIENT in .env, where it is set; never secrets/backup_identity, which is inside
#   --unencrypted       不加密，只能写入管道 does not encrypt; into a pipe only, for the bundle holds every secret
#
# 迁移包以服务的签名密钥签名。It is signed with the service's key, whose fingerprint (scripts/cardctl key list shows it, too)
# is in the line that it prints for scripts/import.sh.
# 不带 --final：只是副本，服务照常运行，之后的请求不在包内。Without --final it is a copy: the service keeps running, and the
# bundle does not hold what it does later. To undo --final: scripts/migrate-to.sh --resume-here
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/archive.sh
source "$ROOT/scripts/lib/archive.sh"
# shellcheck source=scripts/lib/joinable.sh
source "$ROOT/scripts/lib/joinable.sh"

recipients=() staged='' partial='' moving=''

# choose_encryption: exactly one way; none at all only into a pipe.
choose_encryption() {
    local recipient
    mapfile -t recipients < <(printf '%s' "${OPTION[recipient]:-}")
    if [[ -z ${OPTION[passphrase]:-}${OPTION[unencrypted]:-} && ${#recipients[@]} == 0 ]]; then
        recipient=$(setting KADUN_BACKUP_RECIPIENT)
        [[ -n $recipient && $recipient != none ]] \
            || usage_error "请指定 --passphrase 或 --recipient。Say how to encrypt: --passphrase, or --recipient age1…"
        recipients=("$recipient")
    fi
    if [[ -n ${OPTION[unencrypted]:-} ]]; then
        [[ -z ${OPTION[passphrase]:-} && ${#recipients[@]} == 0 ]] || usage_error "--unencrypted 不能与加密并用 contradicts the encryption"
        [[ $output == - && -p /dev/stdout ]] \
            || die "未加密的迁移包不落盘：只能 -o - 写入管道。An unencrypted bundle is never written to a disk: only with -o - into a pipe"
        return
    fi
    [[ -z ${OPTION[passphrase]:-} || ${#recipients[@]} == 0 ]] || usage_error "--passphrase 与 --recipient 只能选一 choose one of the two"
    need age age
    for recipient in "${recipients[@]}"; do
        age --recipient "$recipient" </dev/null >/dev/null 2>&1 || usage_error "不是 age 公钥 not an age recipient: $recipient"
    done
}

# check_output: it does not exist yet and can be written.
check_output() {
    if [[ $output == - ]]; then
        [[ -z ${OPTION[final]:-} ]] || usage_error "--final 须写入文件；经 SSH 搬迁请用 --final writes a file; to move over SSH use scripts/migrate-to.sh"
        [[ ! -t 1 ]] || usage_error "-o - 须重定向 standard output is a terminal: redirect it"
        return
    fi
    output=${output:-kadun-${OPTION[join]:+join-}$(date -u +%Y%m%dT%H%M%SZ).tar.age}
    [[ ! -e $output ]] || die "文件已存在：请换名。The file exists already, choose another name: $output"
    partial=$output.partial
    { rm -f -- "$partial" && write_new "$partial" </dev/null; } 2>/dev/null || die "无法写入 cannot write $output"
}

# write_bundle: everything that travels, packed and encrypted.
write_bundle() {
    local -a age=()
    local recipient said cargo
    rm -rf -- "$ROOT"/data/.export.* # left by an interrupted run
    staged=$(mktemp -d "$ROOT/data/.export.XXXXXX")
    if [[ -n ${OPTION[join]:-} ]]; then
        describe_join
        cargo="join"
    else
        make_dump "$staged"
        cargo=$(keys_are_in)
    fi
    said=$(archive stage "$ROOT" "$staged" "$cargo" 2>&1) || die "$said"
    if [[ -n ${OPTION[passphrase]:-} ]]; then age=(--passphrase); fi
    for recipient in "${recipients[@]}"; do age+=(--recipient "$recipient"); done
    if [[ $output == - ]]; then
        write_archive "$staged" "${age[@]}" || die "导出失败 the export failed"
        return
    fi
    rm -f -- "$partial"
    write_archive "$staged" "${age[@]}" | write_new "$partial" || die "无法写入（磁盘已满？） could not write $output: is the disk full?"
    sync -- "$partial"
    mv -fT -- "$partial" "$output"
    sync -- "$(dirname -- "$output")"
}

# finish: after a failure this server serves again, and there is no bundle.
finish() {
    local status=$? said
    trap - EXIT
    trap '' INT TERM HUP
    set +e
    [[ -z $staged ]] || rm -rf -- "$staged"
    [[ -z $partial ]] || rm -f -- "$partial"
    if [[ -n $moving ]]; then
        rm -f -- "$output"
        if said=$(serve_again); then
            warn "导出未完成，本机已恢复服务。The export failed; this server serves again"
        else
            warn "导出未完成，且本机未就绪：docker compose up -d --wait。The export failed, and this server is not ready: docker compose up -d --wait: $said"
        fi
        ((status)) || status=1
    fi
    exit "$status"
}

# report: what was made, and the line that imports it.
report() {
    local name options='' script=import.sh
    say "已导出 exported: $output ($(du -h --apparent-size -- "$output" | cut -f1))"
    if [[ -n ${OPTION[final]:-} ]]; then
        say "本机回答 503，不再启动；撤销 This server answers 503 and does not start any more; to undo that: scripts/migrate-to.sh --resume-here"
    fi
    name=$(basename -- "$output")
    [[ $name != -* ]] || name=./$name
    name=${name@Q}
    if [[ -n ${OPTION[join]:-} ]]; then script="init.sh --join"; fi
    if ((${#recipients[@]})); then
        options=" --identity backup-identity.txt"
        say "把它和私钥文件 backup-identity.txt 放到新机器的卡盾目录，在那里执行 Put it and the identity, as backup-identity.txt, into the checkout on the new machine, and run there:"
    else
        say "把它放到新机器的卡盾目录，在那里执行 Put it into the checkout on the new machine, and run there:"
    fi
    say "    scripts/$script $name$options --fingerprint $FINGERPRINT"
    [[ -z ${OPTION[join]:-} ]] \
        || say "那台机器须有相同版本的代码，并能访问数据库。用毕请删除此包：它含所有密钥。That machine needs the code of the same version, and must reach the database. Delete the bundle when it has joined: it holds every secret."
}

umask 077
for word; do
    shift
    [[ $word != -o ]] || word=--output
    set -- "$@" "$word"
done
parse_options "final join passphrase unencrypted output= recipient=*" "$@"
at_most 0
output=${OPTION[output]:-}
[[ -z ${OPTION[final]:-} || -z ${OPTION[join]:-} ]] || usage_error "--final 与 --join 只能选一 choose one of --final and --join"
require_stack ${KADUN_LOCK:+moved} # scripts/migrate-to.sh, which holds the lock, has just said so
choose_encryption
require_running database ${OPTION[final]:+app nginx}
if [[ -n ${OPTION[final]:-}${OPTION[join]:-} ]]; then find_live; fi
[[ -z ${OPTION[final]:-} ]] || require_alone
[[ -z ${OPTION[join]:-} ]] || require_joinable
lock_stack
trap finish EXIT
trap 'exit 130' INT TERM HUP
check_output
find_signer || die "无法签名，未导出。Nothing was exported, since it could not be signed: $(last_line "$FINGERPRINT")"
if [[ -n ${OPTION[final]:-} ]]; then
    say "本机暂停服务（503）… This server answers 503 from now on …"
    moving=yes
    move_away "迁移包 bundle $(absolute "$output")"
fi
write_bundle
if [[ -z ${OPTION[join]:-} ]]; then
    left=$(archive hooks "$ROOT")
    [[ -z $left ]] || warn "备份钩子不随包搬迁，请自行复制。Backup hooks are programs and do not travel: copy them yourself: $left"
    warn_of_missing_files "$(<"$staged/contents")" "$staged/data/files" "这些文件的内容不在包内；若刚被替换，请重新导出，否则请重新添加。The bytes of these files are not in the bundle: if they were just replaced export again, else add them again"
fi
moving=''
[[ $output == - ]] || report
