# shellcheck shell=bash
# provision.sh's steps for Docker: its settings, then Engine and Compose. Sourced after provision-apt.sh, never run.
#
# Docker's own source is the default: only it has a new enough Engine and Compose for every supported release (Debian 12 has
# Engine 20 and Compose 1).

DOCKER_HOME=https://download.docker.com
DOCKER_FINGERPRINT=9DC858229FC7DD38854AE2D88D81803C0EBFCD88 # "Docker Release (CE deb)", since 2017
DOCKER_KEY=/etc/apt/keyrings/docker.asc
DOCKER_SOURCE=/etc/apt/sources.list.d/docker.sources
DOCKER_SETTINGS=/etc/docker/daemon.json
ENGINE_MINIMUM=25.0   # for start_interval in docker-compose.yml
COMPOSE_MINIMUM=2.24.4 # for !override and !reset in an override file
# Merged into existing settings; existing log settings are kept.
# shellcheck disable=SC2016  # $mirror is jq's
DOCKER_MERGE='
    (if $mirror == "" then . else ."registry-mirrors" = [$mirror] + ((."registry-mirrors" // []) - [$mirror]) end)
    | if has("log-driver") or has("log-opts") then .
      else ."log-driver" = "local" | ."log-opts" = {"max-size": "10m", "max-file": "5"} end'

# step_docker_settings: comes before Docker's first start.
step_docker_settings() {
    step "Docker 设置：日志轮转、镜像站" "Docker's settings: log rotation, registry mirror"
    local before='{}' text
    if ! command -v jq >/dev/null; then # in a dry run, before the tools are installed
        tell "将合并写入 would merge into $DOCKER_SETTINGS: log-driver local${MIRROR_REGISTRY:+, registry-mirrors $MIRROR_REGISTRY}"
        return
    fi
    if [[ -s $DOCKER_SETTINGS ]]; then before=$(<"$DOCKER_SETTINGS"); fi
    text=$(jq --arg mirror "$MIRROR_REGISTRY" "$DOCKER_MERGE" <<<"$before" 2>/dev/null) && [[ -n $text ]] \
        || die "$DOCKER_SETTINGS 不是有效的 JSON 对象，请先修正。It is no valid JSON object: put it right first"
    if [[ -s $DOCKER_SETTINGS && $(jq -S . <<<"$before") == "$(jq -S . <<<"$text")" ]]; then
        already "$DOCKER_SETTINGS"
        return
    fi
    if [[ -z $DRY_RUN && -e $DOCKER_SETTINGS ]]; then cp -p "$DOCKER_SETTINGS" "$SCRATCH/daemon.json"; fi
    write "$DOCKER_SETTINGS" "$text"
    apply_docker_settings
}

# apply_docker_settings: restarts a running Docker, and puts the old settings back if it does not start.
apply_docker_settings() {
    runs_systemd && systemctl is-active --quiet docker || return 0
    if [[ -n $(docker ps --quiet 2>/dev/null) ]]; then
        run systemctl reload docker
        tell "容器在运行，日志设置在 Docker 下次启动后生效。Containers run: the log settings wait for Docker's next start"
    elif ! attempt systemctl restart docker; then
        rm -f "$DOCKER_SETTINGS"
        if [[ -e $SCRATCH/daemon.json ]]; then cp -p "$SCRATCH/daemon.json" "$DOCKER_SETTINGS"; fi
        systemctl reset-failed docker >>"$LOG" 2>&1 || true
        systemctl restart docker >>"$LOG" 2>&1 || true
        failed "（原设置已恢复 the old settings are back）" systemctl restart docker
    fi
}

# step_docker: Engine, Compose and buildx.
step_docker() {
    step "Docker Engine 与 Compose" "Docker Engine and Compose"
    local -a packages
    if docker_is_good && ! docker_source_differs; then
        if start docker; then already "Docker $(engine_version), Compose $(compose_version)"; fi
        return
    fi
    if [[ $DOCKER == distribution ]]; then
        read -ra packages <<<"$(distribution_packages)"
        install_packages "${packages[@]}"
    else
        add_docker_source
        # Without apparmor's parser a kernel with AppArmor starts no container.
        install_packages docker-ce docker-ce-cli containerd.io docker-buildx-plugin docker-compose-plugin apparmor
    fi
    if [[ -n $DRY_RUN ]]; then return; fi
    docker_is_good || die "Docker 或 Compose 版本太旧。Too old, or incomplete: Docker $(engine_version), Compose $(compose_version); Kadun needs $ENGINE_MINIMUM and $COMPOSE_MINIMUM"
    start docker || true
}

# distribution_packages: Debian splits off the client and calls Compose docker-compose.
distribution_packages() {
    if [[ $SYSTEM == ubuntu ]]; then
        echo docker.io docker-compose-v2 docker-buildx apparmor
    else
        echo docker.io docker-cli docker-compose docker-buildx apparmor
    fi
}

engine_version() {
    dockerd --version 2>/dev/null | sed -n 's/^Docker version \([0-9.]*\).*/\1/p'
}

compose_version() {
    docker compose version --short 2>/dev/null | sed 's/^v//'
}

docker_is_good() {
    version_at_least "$(engine_version)" "$ENGINE_MINIMUM" && version_at_least "$(compose_version)" "$COMPOSE_MINIMUM" \
        && docker buildx version >/dev/null 2>&1
}

# docker_source_differs: Docker's own packages are installed, but not from the mirror that was asked for.
docker_source_differs() {
    [[ -n $MIRROR_DOCKER_APT ]] && installed docker-ce && ! holds "$DOCKER_SOURCE" "$(docker_source)"
}

# move_docker_source: switches to the mirror, before apt is used.
move_docker_source() {
    [[ -n $MIRROR_DOCKER_APT ]] || return 0
    retire_docker_list
    if [[ -e $DOCKER_SOURCE ]] && ! holds "$DOCKER_SOURCE" "$(docker_source)"; then
        write "$DOCKER_SOURCE" "$(docker_source)"
    fi
}

# retire_docker_list: disables the file of Docker's older instructions: apt refuses both forms together.
retire_docker_list() {
    local list=/etc/apt/sources.list.d/docker.list
    [[ ! -e $list ]] || run mv "$list" "$list.disabled"
}

# docker_address: the mirror may be given with or without its /linux/….
docker_address() {
    local home=${MIRROR_DOCKER_APT:-$DOCKER_HOME}
    home=${home%"/$SYSTEM"}
    printf '%s/linux/%s' "${home%/linux}" "$SYSTEM"
}

docker_source() {
    cat <<END
Types: deb
URIs: $(docker_address)
Suites: $CODENAME
Components: stable
Signed-By: $DOCKER_KEY
END
}

# add_docker_source: checks the key first.
add_docker_source() {
    if [[ ! -e $DOCKER_KEY ]] || ! is_docker_key "$DOCKER_KEY"; then fetch_docker_key; fi
    retire_docker_list
    if ! holds "$DOCKER_SOURCE" "$(docker_source)"; then write "$DOCKER_SOURCE" "$(docker_source)"; fi
    if attempt apt-get update; then return; fi
    rm -f "$DOCKER_SOURCE" # it would make every later use of apt fail
    failed "（可用 --mirror-docker-apt 换镜像站 --mirror-docker-apt names a mirror）" apt-get update
}

fetch_docker_key() {
    local new=$SCRATCH/docker.asc
    attempt curl -fsSL --retry 2 --max-time 60 -o "$new" "$(docker_address)/gpg" \
        || die "无法取得 Docker 的密钥：请用 --mirror-docker-apt 指定镜像站，或用 --docker distribution。Cannot fetch $(docker_address)/gpg: name a mirror with --mirror-docker-apt, or use --docker distribution"
    if [[ -n $DRY_RUN ]]; then
        tell "将核对指纹 would check its fingerprint: $DOCKER_FINGERPRINT"
    else
        is_docker_key "$new" \
            || die "指纹不符，这不是 Docker 的密钥，未采用。Not Docker's key (its fingerprint is not $DOCKER_FINGERPRINT), and not used: $(docker_address)/gpg"
        tell "指纹相符 its fingerprint is right: $DOCKER_FINGERPRINT"
        write "$DOCKER_KEY" "$(<"$new")"
    fi
}

# is_docker_key FILE: holds only that key; apt would trust every key in the file.
is_docker_key() {
    local listed
    listed=$(gpg --homedir "$SCRATCH" --batch --show-keys --with-colons "$1" 2>/dev/null) || return 1
    [[ $(grep -c '^pub:' <<<"$listed") == 1 ]] \
        && [[ $(awk -F: '$1 == "fpr" { print $10; exit }' <<<"$listed") == "$DOCKER_FINGERPRINT" ]]
}
