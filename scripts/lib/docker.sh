# shellcheck shell=bash
# provision.sh's ways with Docker: its settings, its source of packages, its versions. Sourced, never run.

DOCKER_FINGERPRINT=9DC858229FC7DD38854AE2D88D81803C0EBFCD88 # "Docker Release (CE deb)", since 2017
DOCKER_KEY=/etc/apt/keyrings/docker.asc
ENGINE_MINIMUM=25.0    # for start_interval in docker-compose.yml
COMPOSE_MINIMUM=2.24.4 # for !override and !reset in an override file

# merge_docker_settings: existing log settings are kept.
merge_docker_settings() {
    local file=/etc/docker/daemon.json before='{}' text mirror=${OPTION[mirror-registry]:-}
    if ! command -v jq >/dev/null; then # in a dry run, before the tools are installed
        tell "将合并写入 would merge into $file: log-driver local${mirror:+, registry-mirrors $mirror}"
        return
    fi
    if [[ -s $file ]]; then before=$(<"$file"); fi
    # shellcheck disable=SC2016  # $mirror is jq's
    text=$(jq --arg mirror "${mirror%/}" '
        (if $mirror == "" then . else ."registry-mirrors" = [$mirror] + ((."registry-mirrors" // []) - [$mirror]) end)
        | if has("log-driver") or has("log-opts") then .
          else ."log-driver" = "local" | ."log-opts" = {"max-size": "10m", "max-file": "5"} end' <<<"$before" 2>/dev/null) \
        && [[ -n $text ]] || die "$file 不是有效的 JSON 对象，请先修正。It is no valid JSON object: put it right first"
    [[ ! -s $file || $(jq -S . <<<"$before") != "$(jq -S . <<<"$text")" ]] || return 0
    write "$file" "$text"
    # Log settings wait for Docker's next start: a restart would stop the containers.
    if runs_systemd && systemctl is-active --quiet docker; then run systemctl reload docker; fi
}

docker_is_good() {
    version_at_least "$(dockerd --version 2>/dev/null | sed -n 's/^Docker version \([0-9.]*\).*/\1/p')" "$ENGINE_MINIMUM" \
        && version_at_least "$(docker compose version --short 2>/dev/null | sed 's/^v//')" "$COMPOSE_MINIMUM" \
        && docker buildx version >/dev/null 2>&1
}

# add_docker_source HOME: the key's fingerprint is checked first.
add_docker_source() {
    local home=${1%/} source=/etc/apt/sources.list.d/docker.sources new=$SCRATCH/docker.asc
    home=${home%"/linux/$SYSTEM"}/linux/$SYSTEM
    if ! is_docker_key "$DOCKER_KEY"; then
        attempt curl -fsSL --retry 2 --max-time 60 -o "$new" "$home/gpg" \
            || die "无法取得 Docker 的密钥，可用 --mirror-docker-apt 指定镜像站。Cannot fetch $home/gpg: name a mirror with --mirror-docker-apt"
        [[ -n $DRY_RUN ]] || is_docker_key "$new" \
            || die "指纹不符，这不是 Docker 的密钥，未采用。Not Docker's key (its fingerprint is not $DOCKER_FINGERPRINT), and not used: $home/gpg"
        write "$DOCKER_KEY" "$(cat "$new" 2>/dev/null)"
    fi
    write "$source" "Types: deb
URIs: $home
Suites: $CODENAME
Components: stable
Signed-By: $DOCKER_KEY"
    attempt apt-get update && return
    rm -f "$source" # it would make every later use of apt fail
    failed apt-get update
}

# is_docker_key FILE: holds only that key; apt would trust every key in the file.
is_docker_key() {
    local listed
    listed=$(gpg --homedir "$SCRATCH" --batch --show-keys --with-colons "$1" 2>/dev/null) || return 1
    [[ $(grep -c '^pub:' <<<"$listed") == 1 ]] \
        && [[ $(awk -F: '$1 == "fpr" { print $10; exit }' <<<"$listed") == "$DOCKER_FINGERPRINT" ]]
}
