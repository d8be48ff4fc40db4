# shellcheck shell=bash
# How provision.sh reports and runs its steps, writes files, uses apt and finds SSH. Sourced after common.sh, never run.

LOG=/var/log/kadun-provision.log
STEPS=() STEP=0 # all, which provision.sh names, and the present one
DRY_RUN=''
CHANGED=''      # whether the present step has anything to do
NOT_POSSIBLE=() # what a container or a chroot does not allow

# prepare: sets the environment of all commands that follow.
prepare() {
    umask 022 # whatever root's is: apt's own user reads the keys, everyone the settings
    export LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=a PATH=$PATH:/usr/sbin:/sbin
    SCRATCH=$(mktemp -d)
    trap 'rm -rf "$SCRATCH"' EXIT
    [[ -n $DRY_RUN ]] || (umask 077 && : >>"$LOG") 2>/dev/null || die "无法写入 cannot write $LOG"
}

# step CHINESE ENGLISH: prints the heading of the next step.
step() {
    STEP=$((STEP + 1))
    printf '[%d/%d] %s  %s\n' "$STEP" "${#STEPS[@]}" "$1" "$2"
}

tell() { printf '      %s\n' "$1"; }

# not_possible WHAT: reports what a container or chroot does not allow.
not_possible() {
    NOT_POSSIBLE+=("$1")
    tell "此处无法 not possible here: $1"
}

# run COMMAND…: prints and runs it, and ends the script with its message if it fails; a dry run only prints it.
run() { attempt "$@" || failed "$@"; }

# attempt COMMAND…: like `run`, but the caller deals with a failure.
attempt() {
    local words
    CHANGED=yes
    printf -v words ' %q' "$@"
    if [[ -n $DRY_RUN ]]; then
        tell "将执行 would run:$words"
        return
    fi
    tell "执行 runs:$words"
    printf '\n# %(%F %T%z)T%s\n' -1 "$words" >>"$LOG"
    "$@" </dev/null >>"$LOG" 2>&1
}

# failed COMMAND…: ends the script; finished steps stay.
failed() {
    local words complaint
    printf -v words ' %q' "$@"
    complaint=$(tail -n 30 "$LOG" | grep -E '^E: |[Ee]rror' | tail -n 1 || true)
    [[ -n $complaint ]] || complaint=$(tail -n 1 "$LOG")
    die "失败，修正后再运行即可继续（日志 $LOG）。Failed, run it again once this is put right:$words: $complaint"
}

# write FILE TEXT: replaces the file, whole or not at all, unless it has this text already; its owner and mode stay.
write() {
    local file=$1 text=$2 new
    [[ ! -f $file || $(<"$file") != "$text" ]] || return 0
    CHANGED=yes
    if [[ -n $DRY_RUN ]]; then
        tell "将写入 would write: $file"
        return
    fi
    tell "写入 writes: $file"
    file=$(readlink -m "$file") new=$file.kadun-new
    mkdir -p "$(dirname "$file")"
    printf '%s\n' "$text" >"$new"
    if [[ -e $file ]]; then
        chown --reference="$file" "$new"
        chmod --reference="$file" "$new"
    fi
    sync "$new"
    mv -fT "$new" "$file"
}

# runs_systemd: PID 1 is systemd, so that services can be started.
runs_systemd() { [[ -d /run/systemd/system ]]; }

# in_container: the host is responsible for the kernel, its clock and its memory.
in_container() { runs_systemd && command -v systemd-detect-virt >/dev/null && systemd-detect-virt --container --quiet; }

# start UNIT…: starts and enables those that are not.
start() {
    local unit
    if ! runs_systemd; then
        not_possible "启动 $*，因为 1 号进程不是 systemd; starting $*, since PID 1 is not systemd"
        return
    fi
    for unit in "$@"; do
        if ! systemctl is-active --quiet "$unit" || ! systemctl is-enabled --quiet "$unit" 2>/dev/null; then
            run systemctl enable --now "$unit"
        fi
    done
}

# apt-get ARGUMENT…: asks no questions, keeps changed settings files and waits for other apt processes. Apt itself waits for
# dpkg's lock only, while a fresh machine updates its lists at its first start.
apt-get() {
    local said
    while ! said=$(command apt-get -q -y -o DPkg::Lock::Timeout=600 -o APT::Update::Error-Mode=any \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@" 2>&1); do
        printf '%s\n' "$said"
        [[ $said == *"Could not get lock"* ]] && ((SECONDS < 1200)) || return 1
        sleep 5
    done
    printf '%s\n' "$said"
}

# look_up: what can be installed; it changes nothing that anybody has.
look_up() {
    local before=$CHANGED
    run apt-get update
    CHANGED=$before
}

installed() { [[ $(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null) == installed ]]; }

# install_missing PACKAGE…: without recommended packages.
install_missing() {
    local package
    local -a missing=()
    for package in "$@"; do
        installed "$package" || missing+=("$package")
    done
    for package in "${missing[@]}"; do
        [[ -n $DRY_RUN ]] || grep -q 'Candidate: [^(]' <(apt-cache policy "$package" 2>/dev/null) \
            || die "软件源中没有 $package（Ubuntu 须启用 universe）。No source here has $package; on Ubuntu enable universe: add-apt-repository universe"
    done
    ((${#missing[@]} == 0)) || run apt-get --no-install-recommends install "${missing[@]}"
}

# version_at_least HAVE WANTED
version_at_least() { [[ -n $1 && $(printf '%s\n' "$1" "$2" | sort -V | head -n 1) == "$2" ]]; }

# os_release NAME: a value from /etc/os-release, which is a shell script by definition (os-release(5)).
os_release() {
    # shellcheck source=/dev/null
    [[ ! -r /etc/os-release ]] || (unset "$1" && . /etc/os-release && printf '%s' "${!1-}")
}

# env_port NAME DEFAULT
env_port() {
    local port=''
    if [[ -e $ROOT/.env ]]; then port=$(setting_in "$ROOT/.env" "$1"); fi
    [[ $port =~ ^[0-9]+$ ]] || port=$2
    printf '%s' "$port"
}

# ssh_ports: all ports of SSH, a line each: configured, systemd's (as on Ubuntu), of present sessions, listening now, and asked
# for. One too many is better than one too few.
ssh_ports() {
    {
        printf '%s\n' "${OPTION[ssh-port]:-}"
        sshd -T 2>/dev/null | sed -nE 's/^(port |listenaddress .*:)([0-9]+)$/\2/p' || true
        # It says nothing where it could not start: without host keys, or without its folder in /run.
        sed -nE 's/^[[:space:]]*(port[[:space:]=]+"?|listenaddress[[:space:]=]+\S+:)([0-9]+).*/\2/Ip' \
            /etc/ssh/sshd_config /etc/ssh/sshd_config.d/*.conf 2>/dev/null || true
        if systemctl is-enabled --quiet ssh.socket 2>/dev/null; then # an empty value resets the list
            cat {/usr/lib,/etc}/systemd/system/ssh.socket {/run/systemd/generator,/etc/systemd/system}/ssh.socket.d/*.conf 2>/dev/null \
                | awk -F= '/^ListenStream=/ { if ($2 == "") n = 0; else v[++n] = $2 } END { for (i = 1; i <= n; i++) print v[i] }' \
                | sed 's/.*://'
        fi
        ssh_session_ports
        # Except on the loopback interface, where sshd listens for forwarded ports.
        ss -Hltnp 2>/dev/null | awk '/"(sshd|dropbear)"/ && $4 !~ /^(127\.|\[::1\])/ { sub(/.*:/, "", $4); print $4 }'
    } | grep -xE '[1-9][0-9]{0,4}' | sort -nu || true
}

# ssh_session_ports: from SSH_CONNECTION (client, port, server, port) of this process and its ancestors: sudo removes it.
ssh_session_ports() {
    local pid=$$
    while ((${pid:-0} > 0)); do
        { tr '\0' '\n' <"/proc/$pid/environ"; } 2>/dev/null | sed -nE 's/^SSH_CONNECTION=\S+ \S+ \S+ ([0-9]+)$/\1/p'
        pid=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status" 2>/dev/null) || return 0
    done
}
