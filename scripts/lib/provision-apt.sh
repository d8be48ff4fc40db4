# shellcheck shell=bash
# provision.sh's steps with apt: mirror, upgrade, tools, security updates. Sourced after provision-core.sh, never run.

# gpg checks Docker's key, jq is for Docker's settings, zstd packs image archives, openssh-client moves the service.
TOOLS=(ca-certificates curl openssl python3 git age cron certbot ufw unattended-upgrades rsync iproute2 nftables tzdata gpg jq zstd
    openssh-client)
PERIODIC=/etc/apt/apt.conf.d/52kadun-periodic
SOURCES_BEFORE=/var/backups/kadun-apt-sources

# apt-get ARGUMENT…: asks no questions, keeps changed settings files and waits for other apt processes. Apt itself waits for
# dpkg's lock only, while a fresh machine updates its lists at its first start.
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

# step_apt_mirror: switches the distribution's source to --mirror-apt, and an existing source of Docker's to its mirror: a
# blocked source would make every following step fail.
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

# mirrored FILE: its text, with the mirror instead of the distribution's own addresses and other mirrors.
mirrored() {
    awk -v mirror="$MIRROR_APT" '
        function moved(uri) {
            if (uri ~ /\/linux\//) return uri  # packages of Docker, which many mirrors also have
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

# use_mirror FILE…: rewrites the files, and puts the old ones back if the mirror does not answer.
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

# step_upgrade: upgrades installed packages.
step_upgrade() {
    step "系统更新" "Packages up to date"
    local waiting
    if [[ -n $(dpkg --audit 2>/dev/null) ]]; then # an upgrade was interrupted
        run dpkg --configure -a --force-confdef --force-confold
        run apt-get --fix-broken install
    fi
    run apt-get update
    # Without its planner's log: a dry run writes nothing.
    waiting=$(command apt-get -s -o Dir::Log::Planner=/dev/null --with-new-pkgs upgrade 2>/dev/null | grep -c '^Inst ' || true)
    if ((waiting == 0)); then
        already "没有待更新的软件包 nothing to upgrade"
    else
        run apt-get --with-new-pkgs upgrade
    fi
}

# step_tools: installs the programs that Kadun's scripts use.
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

# install_packages PACKAGE…: without recommended packages.
install_packages() {
    local package
    for package in "$@"; do
        [[ -n $DRY_RUN ]] || grep -q 'Candidate: [^(]' <(apt-cache policy "$package" 2>/dev/null) \
            || die "软件源中没有 $package（Ubuntu 须启用 universe）。No source here has $package; on Ubuntu enable universe: add-apt-repository universe"
    done
    run apt-get --no-install-recommends install "$@"
}

# step_security_updates: enables daily unattended upgrades.
step_security_updates() {
    step "自动安全更新" "Unattended security updates"
    local text='// Kadun, scripts/provision.sh: daily unattended security updates.
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

# updates_itself: apt has the two settings, from whichever file.
updates_itself() {
    local lists upgrade
    lists=$(apt-config dump --format '%v%n' APT::Periodic::Update-Package-Lists)
    upgrade=$(apt-config dump --format '%v%n' APT::Periodic::Unattended-Upgrade)
    [[ $lists =~ ^([1-9][0-9]*|always)$ && $upgrade =~ ^([1-9][0-9]*|always)$ ]] && installed unattended-upgrades
}
