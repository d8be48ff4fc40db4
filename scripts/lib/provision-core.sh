# shellcheck shell=bash
# How scripts/provision.sh reports and runs its steps, and writes files. Sourced after common.sh, never run.

LOG=/var/log/kadun-provision.log
DRY_RUN=''
NOT_POSSIBLE=() # what a container or a chroot does not allow
STEP=0 STEPS_IN_ALL=0

# prepare: sets the environment of all commands that follow.
prepare() {
    umask 022 # whatever root's is: apt's own user reads the keys, everyone the settings
    export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a PATH=$PATH:/usr/sbin:/sbin
    SCRATCH=$(mktemp -d)
    trap 'rm -rf "$SCRATCH"' EXIT
    if [[ -n $DRY_RUN ]]; then return; fi
    (umask 077 && : >>"$LOG") 2>/dev/null || die "无法写入 cannot write $LOG"
}

# step CHINESE ENGLISH: prints the heading of the next step.
step() {
    STEP=$((STEP + 1))
    printf '[%d/%d] %s  %s\n' "$STEP" "$STEPS_IN_ALL" "$1" "$2"
}

# already WHAT: reports that nothing has to be done.
already() {
    printf '      已是如此 already so: %s\n' "$1"
}

# tell TEXT
tell() {
    printf '      %s\n' "$1"
}

# not_possible WHAT: reports what a container or chroot does not allow.
not_possible() {
    NOT_POSSIBLE+=("$1")
    printf '      此处无法 not possible here: %s\n' "$1"
}

# run COMMAND…: prints and runs it, and ends the script with its message if it fails; a dry run only prints it.
run() {
    attempt "$@" || failed "" "$@"
}

# attempt COMMAND…: like `run`, but the caller deals with a failure.
attempt() {
    local words
    printf -v words ' %q' "$@"
    if [[ -n $DRY_RUN ]]; then
        tell "将执行 would run:$words"
        return
    fi
    tell "执行 runs:$words"
    printf '\n# %(%F %T%z)T%s\n' -1 "$words" >>"$LOG"
    "$@" </dev/null >>"$LOG" 2>&1
}

# failed HINT COMMAND…: ends the script; finished steps stay.
failed() {
    local hint=$1 words complaint
    shift
    printf -v words ' %q' "$@"
    complaint=$(tail -n 30 "$LOG" | grep -E '^E: |[Ee]rror' | tail -n 1 || true)
    [[ -n $complaint ]] || complaint=$(tail -n 1 "$LOG")
    die "失败，修正后再运行即可继续（日志 $LOG）。Failed, run it again once this is put right:$words: $complaint$hint"
}

# holds FILE TEXT: the file exists with exactly this content.
holds() {
    [[ -f $1 && $(<"$1") == "$2" ]]
}

# write FILE TEXT [MODE]: replaces the file, whole or not at all; its owner and mode stay.
write() {
    local file=$1 text=$2 mode=${3:-644} new=$1.kadun-new
    if [[ -n $DRY_RUN ]]; then
        tell "将写入 would write: $file"
        return
    fi
    tell "写入 writes: $file"
    mkdir -p "$(dirname "$file")"
    # To the real file behind a link, such as a resolved sources.list.
    if [[ -L $file ]]; then file=$(readlink -f "$file") && new=$file.kadun-new; fi
    printf '%s\n' "$text" >"$new"
    chmod "$mode" "$new"
    if [[ -e $file ]]; then
        chown --reference="$file" "$new"
        chmod --reference="$file" "$new"
    fi
    sync "$new"
    mv -fT "$new" "$file"
}

# runs_systemd: PID 1 is systemd, so that services can be started.
runs_systemd() {
    [[ -d /run/systemd/system ]]
}

# in_container: the host is responsible for the kernel, its clock and its memory.
in_container() {
    runs_systemd && command -v systemd-detect-virt >/dev/null && systemd-detect-virt --container --quiet
}

# start UNIT…: starts and enables units; succeeds if nothing had to be done.
start() {
    local unit so=0
    if ! runs_systemd; then
        not_possible "启动 $*，因为 1 号进程不是 systemd; starting $*, since PID 1 is not systemd"
        return
    fi
    for unit in "$@"; do
        if ! systemctl is-active --quiet "$unit" || ! systemctl is-enabled --quiet "$unit" 2>/dev/null; then
            run systemctl enable --now "$unit"
            so=1
        fi
    done
    return "$so"
}

# installed PACKAGE
installed() {
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]
}

# not_installed PACKAGE…: prints those that are missing, a line each.
not_installed() {
    local package
    for package in "$@"; do
        installed "$package" || printf '%s\n' "$package"
    done
}

# version_at_least HAVE WANTED
version_at_least() {
    [[ -n $1 && $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$2" ]]
}
