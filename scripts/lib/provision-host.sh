# shellcheck shell=bash
# provision.sh's steps for the machine: time zone, clock, swap, pip's mirror. Sourced after provision-core.sh, never run.

SWAP_FILE=/swapfile
SWAP_MIB=2048
PIP_MIRROR=$ROOT/data/pip-index-url # scripts/init.sh writes it into .env

# step_timezone: sets the machine's time zone.
step_timezone() {
    step "时区" "Time zone"
    local name zone=/usr/share/zoneinfo/$TIMEZONE
    name=$(readlink -f /etc/localtime || true)
    if [[ ${name#/usr/share/zoneinfo/} == "$TIMEZONE" ]]; then
        already "$TIMEZONE"
        return
    fi
    [[ -n $DRY_RUN || -f $zone ]] || die "没有此时区 no such time zone: $TIMEZONE"
    if runs_systemd; then
        run timedatectl set-timezone "$TIMEZONE"
        run systemctl try-restart cron # it reads the time zone only when it starts
    else
        run ln -sfn "$zone" /etc/localtime
        write /etc/timezone "$TIMEZONE"
    fi
}

# step_clock: enables time synchronisation, which activations and certificates depend on.
step_clock() {
    step "时间同步" "Time synchronisation"
    local package unit=''
    for package in systemd-timesyncd chrony ntpsec ntp openntpd; do
        if installed "$package"; then unit=$package && break; fi
    done
    if [[ -z $unit ]]; then
        unit=systemd-timesyncd
        install_packages "$unit"
        if [[ -n $DRY_RUN ]]; then return; fi
        start_clock "$unit" || true
    elif start_clock "$unit"; then
        already "$unit"
    fi
}

# start_clock UNIT: a container uses the host's clock.
start_clock() {
    if in_container; then
        not_possible "对时由宿主机负责; keeping the clock, which is the host's affair"
    else
        start "$1"
    fi
}

# step_swap: adds swap to a machine with little memory.
step_swap() {
    step "交换文件" "Swap file"
    local memory_mib
    memory_mib=$(($(awk '$1 == "MemTotal:" { print $2 }' /proc/meminfo) / 1024))
    if (($(wc -l </proc/swaps) > 1)); then
        already "已有交换空间 there is swap"
    elif ((memory_mib >= 2048)); then
        already "内存 $memory_mib MiB，无需交换文件 memory enough, no swap file wanted"
    elif in_container; then
        not_possible "容器的内存由宿主机负责; swap, which is the host's affair"
    elif grep -qE "^${SWAP_FILE}[[:space:]]" /etc/fstab && [[ -e $SWAP_FILE ]]; then
        if switch_swap_on; then already "$SWAP_FILE"; fi
    else
        make_swap
    fi
}

# switch_swap_on: succeeds if nothing had to be done. A chroot uses its host's memory.
switch_swap_on() {
    if runs_systemd; then
        run swapon "$SWAP_FILE"
        return 1
    fi
    not_possible "启用交换文件，开机时启用; switching swap on, which happens at the next boot"
}

# make_swap: not on copy-on-write file systems, which do not support swap files, and not if the disk would be full.
make_swap() {
    local kind free_mib fstab=''
    kind=$(stat -f -c %T "$(dirname "$SWAP_FILE")")
    free_mib=$(df --output=avail -BM "$(dirname "$SWAP_FILE")" | tr -dc '0-9\n' | tail -n 1)
    if [[ $kind != ext2/ext3 && $kind != xfs ]]; then
        not_possible "在 $kind 上建交换文件，请按其文档自行添加; a swap file on $kind: add one by hand, as its manual says"
        return
    elif ((free_mib < 2 * SWAP_MIB)); then
        not_possible "剩余磁盘仅 $free_mib MiB，不足以建交换文件; a swap file: only $free_mib MiB of disk are free, $((2 * SWAP_MIB)) are wanted"
        return
    fi
    [[ ! -e $SWAP_FILE ]] || die "$SWAP_FILE 已存在但未使用，请先移走。It exists and is not in use: move it away first"
    run install -m 600 /dev/null "$SWAP_FILE.new"
    run fallocate -l "${SWAP_MIB}MiB" "$SWAP_FILE.new"
    run mkswap "$SWAP_FILE.new"
    run mv "$SWAP_FILE.new" "$SWAP_FILE"
    if ! grep -qE "^${SWAP_FILE}[[:space:]]" /etc/fstab 2>/dev/null; then
        if [[ -s /etc/fstab ]]; then fstab=$(</etc/fstab)$'\n'; fi
        write /etc/fstab "$fstab$SWAP_FILE none swap sw 0 0"
    fi
    switch_swap_on || true
}

# step_pip_mirror: sets where the image's build gets Python packages from.
step_pip_mirror() {
    step "Python 包索引" "Python package index"
    local file=$ROOT/.env
    if [[ -z $MIRROR_PIP ]]; then
        already "未指定镜像站 no mirror was asked for"
    elif [[ ! -e $file ]]; then
        remember_pip_mirror
    elif [[ $(env_file get "$file" PIP_INDEX_URL) == "$MIRROR_PIP" ]]; then
        already "$MIRROR_PIP"
    else
        run env_file set "$file" PIP_INDEX_URL "$MIRROR_PIP"
    fi
}

# remember_pip_mirror: until scripts/init.sh makes .env. data/ gets the checkout's owner, who may run init.sh.
remember_pip_mirror() {
    if holds "$PIP_MIRROR" "$MIRROR_PIP"; then
        already "$MIRROR_PIP"
        return
    fi
    write "$PIP_MIRROR" "$MIRROR_PIP"
    [[ -n $DRY_RUN ]] || chown --reference="$ROOT" "$(dirname "$PIP_MIRROR")" "$PIP_MIRROR"
}
