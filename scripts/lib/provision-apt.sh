# shellcheck shell=bash
# provision.sh's steps with apt: mirror, upgrade, tools, security updates. Sourced after provision-core.sh, never run.

# gpg checks Docker's key, jq merges its settings, zstd packs image archives, openssh-client moves house.
TOOLS=(ca-certificates curl openssl python3 git age cron certbot ufw unattended-upgrades rsync iproute2 tzdata gpg jq zstd
    openssh-client)
PERIODIC=/etc/apt/apt.conf.d/52kadun-periodic
SOURCES_BEFORE=/var/backups/kadun-apt-sources

# apt-get ARGUMENT…: without questions; a settings file that somebody changed stays; waits while others are at it. Apt
# itself waits for dpkg's lock only, and a fresh machine updates its lists by itself at its first start.
apt-get() {
    local said
    while true; do
        if said=$(command apt-get -q -y -o DPkg::Lock::Timeout=600 -o APT::Update::Error-Mode=any \
            -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@" 2>&1); then
            printf '%s\n' "$said"
            return
        fi
        printf '%s\n' "$said"
        [[ $said == *"Could not get lock"* ]] && ((SECONDS < 1200)) || return 1
        sleep 5
    done
}

# step_apt_mirror: the distribution's packages come from --mirror-apt, and Docker's from their mirror if they do already:
# a source that is blocked would fail every step that follows.
step_apt_mirror() {
    step "软件源" "Where packages come from"
    local file text found=''
    local -a changed=()
    move_docker_source
    if [[ -z $MIRROR_APT ]]; then
        already "未指定镜像站 no mirror was asked for"
        return
    fi
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/{debian,ubuntu}.{sources,list}; do
        [[ -f $file ]] || continue
        text=$(mirrored "$file")
        holds "$file" "$text" || changed+=("$file")
        [[ "$text " != *[[:space:]]"$MIRROR_APT"[[:space:]]* ]] || found=yes
    done
    [[ -n $found ]] || die "/etc/apt 中没有可替换的发行版软件源。No source of $SYSTEM's own is in /etc/apt/sources.list(.d): nothing to replace"
    if ((${#changed[@]} == 0)); then
        already "$MIRROR_APT"
        return
    fi
    use_mirror "${changed[@]}"
}

# mirrored FILE: what it says, with the mirror in place of the distribution's own addresses and other mirrors of them.
mirrored() {
    awk -v mirror="$MIRROR_APT" '
        function moved(uri) {
            if (uri ~ /\/linux\//) return uri  # what Docker offers, which many mirrors have beside the distribution
            if (uri ~ /(\/debian-security\/?|\/debian-security\.list|^https?:\/\/security\.debian\.org\/?)$/)
                return mirror "-security"
            if (uri ~ /(\/(debian|ubuntu|ubuntu-ports)\/?|\/debian\.list)$/) return mirror
            return uri
        }
        /^(deb|deb-src|URIs:)[ \t]/ {
            for (i = 2; i <= NF; i++)
                if ($i ~ /^[a-z+]+:\// && moved($i) != $i) $i = moved($i)
        }
        { print }' "$1"
}

# use_mirror FILE…: writes them; puts the old ones back when the mirror does not answer.
use_mirror() {
    local file
    run mkdir -p "$SOURCES_BEFORE"
    for file in "$@"; do
        [[ -e $SOURCES_BEFORE/${file##*/} ]] || run cp -p "$file" "$SOURCES_BEFORE/"
        if [[ -z $DRY_RUN ]]; then cp -p "$file" "$SCRATCH/${file##*/}"; fi
        write "$file" "$(mirrored "$file")"
    done
    if attempt apt-get update; then return; fi
    for file in "$@"; do
        cp -p "$SCRATCH/${file##*/}" "$file"
    done
    failed "（原软件源已恢复 the old sources are back）" apt-get update
}

# step_upgrade: what is installed is up to date.
step_upgrade() {
    step "系统更新" "Packages up to date"
    local waiting
    if [[ -n $(dpkg --audit 2>/dev/null) ]]; then # an upgrade, perhaps ours, was broken off
        run dpkg --configure -a --force-confdef --force-confold
        run apt-get --fix-broken install
    fi
    run apt-get update
    # Its planner's log aside: a dry run writes nothing at all.
    waiting=$(command apt-get -s -o Dir::Log::Planner=/dev/null --with-new-pkgs upgrade 2>/dev/null | grep -c '^Inst ' || true)
    if ((waiting == 0)); then
        already "没有待更新的软件包 nothing waits to be upgraded"
    else
        run apt-get --with-new-pkgs upgrade
    fi
}

# step_tools: the programs that Kadun's scripts use.
step_tools() {
    step "基本工具" "Basic tools"
    local -a missing
    mapfile -t missing < <(not_installed "${TOOLS[@]}")
    if ((${#missing[@]})); then
        install_packages "${missing[@]}"
        start cron certbot.timer || true
    elif start cron certbot.timer; then
        already "${TOOLS[*]}"
    fi
}

# install_packages PACKAGE…: nothing that these do not need.
install_packages() {
    local package
    for package in "$@"; do
        [[ -n $DRY_RUN ]] || grep -q 'Candidate: [^(]' <(apt-cache policy "$package" 2>/dev/null) \
            || die "软件源中没有 $package（Ubuntu 须启用 universe）。No source here has $package; on Ubuntu enable universe: add-apt-repository universe"
    done
    run apt-get --no-install-recommends install "$@"
}

# step_security_updates: every day, without being asked.
step_security_updates() {
    step "自动安全更新" "Unattended security updates"
    local text='// Kadun, scripts/provision.sh: security updates come in by themselves, every day.
APT::Periodic::Update-Package-Lists "1";
APT::Periodic::Unattended-Upgrade "1";'
    if updates_itself && start apt-daily.timer apt-daily-upgrade.timer; then
        already "每天安装安全更新 security updates are installed daily"
        return
    fi
    if ! updates_itself; then write "$PERIODIC" "$text"; fi
    [[ -n $DRY_RUN ]] || updates_itself \
        || die "/etc/apt/apt.conf.d 中另有设置关闭了自动更新。Another file in /etc/apt/apt.conf.d switches unattended upgrades off"
    start apt-daily.timer apt-daily-upgrade.timer || true
}

# updates_itself: the two settings are what apt sees, whichever file says so.
updates_itself() {
    local lists upgrade
    lists=$(apt-config dump --format '%v%n' APT::Periodic::Update-Package-Lists)
    upgrade=$(apt-config dump --format '%v%n' APT::Periodic::Unattended-Upgrade)
    [[ $lists =~ ^([1-9][0-9]*|always)$ && $upgrade =~ ^([1-9][0-9]*|always)$ ]] && installed unattended-upgrades
}
