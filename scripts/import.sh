#!/usr/bin/env bash
# 在本机导入迁移包（scripts/export.sh 所导出），启动服务；或把试用数据转入正式服务。
# Imports what scripts/export.sh exported elsewhere into this checkout and starts the service; or takes over a trial's data.
#
#   scripts/import.sh FILE [--identity FILE] [--fingerprint KEY] [--accept-unsigned]
#                          [--http-port N] [--https-port N] [--project NAME]
#   scripts/import.sh --trial [DATA_DIR] [--http-port N] [--https-port N] [--project NAME]
#   scripts/import.sh --prepare ENV [--http-port N] …
#
#   FILE                迁移包，- 为标准输入 the bundle; - is standard input. A passphrase is asked for on the terminal
#   --identity FILE     解密用的 age 私钥 the age identity, where it was encrypted to a recipient
#   --fingerprint KEY   签名密钥的指纹，见 export.sh 打印的命令 the ID of a signing key of the service that the bundle must come from,
#                       as in the line that export.sh printed. Not needed where data/keys/ here has that service's keys
#   --accept-unsigned   接受无签名的迁移包（旧版本所导出）：内容由谁制作，无从确认 accepts a bundle without a signature, as older
#                       versions made: nothing shows who made it
#   --trial [DATA_DIR]  转入试用数据（scripts/run.sh）；先停止试用 takes over the data of scripts/run.sh: cards, clients,
#                       journal, usage and keys. Stop the trial first. DATA_DIR is its KADUN_DATA_DIR
#   --prepare ENV       只做准备，不导入 only prepares the import, from the other server's .env (- is standard input):
#                       scripts/init.sh, the image, an empty database
#   --http-port, --https-port, --project
#                       本机的端口与项目名 this machine's ports and project name; default: those in .env here, else
#                       the old server's
#
# 已有卡密的服务不会被覆盖。中断或失败后可重新运行。A service that has cards is never overwritten. Run it again after an
# interruption or a failure.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/import-steps.sh
source "$ROOT/scripts/lib/import-steps.sh"

file='' identity='' trial='' prepare='' STAGED='' TAKEN='' NOT_TAKEN=''
init_options=()

# receive: unpacks the bundle into STAGED and checks it. Nothing else has been touched yet.
receive() {
    if [[ -n $trial ]]; then
        receive_trial
    elif [[ $file == - ]]; then
        unpack
    else
        unpack <"$file"
    fi
    MANIFEST=$(<"$STAGED/manifest.json")
    check_bundle
}

# receive_trial: gathers the trial's data as a bundle holds them. Its PostgreSQL is started for this, and stopped.
receive_trial() {
    # shellcheck source=scripts/lib/python.sh
    source "$ROOT/scripts/lib/python.sh"
    if [[ $trial != default ]]; then export KADUN_DATA_DIR=$trial; fi
    ensure_venv requirements.txt requirements-trial.txt
    mkdir "$STAGED.trial"
    trial=$("$VENV_PYTHON" -P -m trial.carry "$STAGED.trial") || exit 1
    archive pack "$STAGED.trial" "trial=$trial" | archive unpack "$STAGED" || die "无法接收试用数据 cannot take over the trial's data"
}

# install_all: places the database and the files, unless an earlier run has come that far.
install_all() {
    local kept env=$STAGED/env
    if [[ -n $trial ]]; then env=''; fi
    TAKEN=$(prepare_checkout "$env" "${init_options[@]}") || exit 1
    [[ -z $env ]] || NOT_TAKEN=$(env_file left "$env" "$ROOT/.env")
    [[ -z $NOT_TAKEN ]] || warn "迁移包不能指定容器运行什么程序、访问什么网络，需要时请自行写入 .env。A bundle does not say which programs containers run, or what they reach. Write it into .env yourself if you want it: $NOT_TAKEN"
    start_database
    require_alone
    if holds_data "$LIVE"; then
        if stands_already; then
            say "数据已在上次导入，继续启动。The data came in with an earlier try: going on with the start."
            return
        fi
        if ! same_data_key || ! arrived_untouched; then refuse; fi
        AGAIN=yes
    fi
    discard_replaced
    compose rm --force --stop app functions migrate nginx webhooks >/dev/null 2>&1 </dev/null # they hold the old secrets and folders
    require_still_replaceable
    keep_newer_keys
    kept=$ROOT/data/.replaced-$(date -u +%Y%m%dT%H%M%SZ) # customers' programs may depend on those keys
    place_files "$kept"
    restore_database
}

# require_still_replaceable: the service may have written until it stopped.
require_still_replaceable() {
    if [[ -n $AGAIN ]]; then arrived_untouched && return; elif ! holds_data "$LIVE"; then return; fi
    come_up --no-build >/dev/null || true
    refuse
}

refuse() {
    die "此处的服务已有数据，不会覆盖：请在新的目录导入。The service here has data and will not be overwritten: import into another checkout, or empty this one: docker compose down, then move .env, secrets and data away"
}

report() {
    say "已导入，服务正常 imported, and the service is healthy: $(archive summary <<<"$MANIFEST")"
    [[ -z $(fact left) ]] || say "未接收，需要时请自行复制 left out, copy them yourself if you want them: $(fact left)"
    [[ -z $TAKEN ]] || say "已沿用的设置 settings taken over into .env: ${TAKEN//$'\n'/ }"
    say "端口 ports: $(setting KADUN_HTTP_PORT 80), $(setting KADUN_HTTPS_PORT 443); 项目 project: $(setting COMPOSE_PROJECT_NAME kadun)"
    say "下一步 next:"
    say "  1. 域名解析改为本机地址。Point the domain's DNS records (A, AAAA) at this machine."
    say "  2. 解析生效后签发证书。When they have taken effect: scripts/issue-certificate.sh DOMAIN"
    say "  3. 定时备份。Backups: scripts/install-cron.sh"
    say "  4. 检查。Check: scripts/cardctl doctor"
}

prepare_only() {
    local env=$prepare
    if [[ $env == - ]]; then env=$STAGED/env && cat >"$env"; fi
    prepare_checkout "$env" "${init_options[@]}" >/dev/null
    start_database
    if holds_data "$LIVE" && ! arrived_untouched; then refuse; fi # the import itself compares the keys
    make_image
    say "准备就绪 ready for the import"
}

# take_options: what was asked for, and the options that go on to scripts/init.sh.
take_options() {
    local name word
    local -a chosen=() words=()
    for word; do # --trial takes a value or none
        if [[ ${words[*]: -1} == --trial && $word == -* ]]; then words+=(default); fi
        words+=("$word")
    done
    if [[ ${words[*]: -1} == --trial ]]; then words+=(default); fi
    parse_options "$TRUST_OPTIONS identity= trial= prepare= http-port= https-port= project=" "${words[@]}"
    take_trust
    at_most 1
    file=${OPERANDS[0]:-} identity=${OPTION[identity]:-} trial=${OPTION[trial]:-} prepare=${OPTION[prepare]:-}
    for name in http-port https-port project; do
        [[ -z ${OPTION[$name]:-} ]] || init_options+=("--$name" "${OPTION[$name]}")
    done
    chosen=(${file:+x} ${trial:+x} ${prepare:+x})
    ((${#chosen[@]} == 1)) || usage_error "请指定迁移包、--trial 或 --prepare 之一。Name a bundle, or --trial, or --prepare"
    [[ -z $identity || -n $file ]] || usage_error "--identity 只用于迁移包 is for a bundle"
    for name in "$file" "$identity" "$prepare"; do
        [[ -z $name || $name == - || -r $name ]] || die "无法读取 cannot read $name"
    done
}

umask 077
take_options "$@"
require_docker
[[ -w $ROOT ]] || die "此目录属于其他用户：请以其身份运行。This checkout is another user's: run as $(stat -c %U "$ROOT"), or as root"
lock_stack
mkdir -p "$ROOT/data"
rm -rf -- "$ROOT"/data/.import.* # left by an interrupted run
STAGED=$(mktemp -d "$ROOT/data/.import.XXXXXX")
trap 'rm -rf -- "$STAGED" "$STAGED".*' EXIT
if [[ -n $prepare ]]; then
    prepare_only
    exit
fi
receive
install_all
start_all
install_requirements
report
