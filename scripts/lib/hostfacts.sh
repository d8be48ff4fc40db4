# shellcheck shell=bash
# The facts of the host that `cardctl doctor` needs, as one JSON document (app/services/doctor/facts.py, HostFacts).
# Facts only: app/services/doctor checks them. No secret is read into it. Every program but jq is optional: what cannot
# be seen is null. Sourced after common.sh, stack.sh and provision-firewall.sh, never run.

# text NAME: standard input as the text of a fact, null when it is empty.
text() { jq -Rs --arg name "$1" '{($name): (if . == "" then null else rtrimstr("\n") end)}'; }

# value NAME: standard input, a JSON value such as a number, as a fact; null when it is empty.
value() { jq -s --arg name "$1" '{($name): .[0]}'; }

# yes_no NAME COMMAND…: whether a command succeeds.
yes_no() { if "${@:2}"; then echo true; else echo false; fi | value "$1"; }

# list NAME: the JSON values of standard input, as a list.
list() { jq -s --arg name "$1" '{($name): .}'; }

# folder SETTING DEFAULT: a folder that .env names, a relative one in this checkout.
folder() {
    local path
    path=$(setting "$1" "$2")
    if [[ $path == /* ]]; then printf '%s' "$path"; else printf '%s' "$ROOT/${path#./}"; fi
}

# host_facts: all of them.
host_facts() {
    local backups https name
    backups=$(folder KADUN_BACKUP_DIR data/backups)
    https=$(setting KADUN_HTTPS_PORT)
    [[ $https =~ ^[0-9]{1,5}$ ]] || https=443
    {
        set +e # a program that is missing or fails leaves its fact empty
        date -u +%FT%TZ | text now
        for name in KADUN_DOMAIN KADUN_HTTP_PORT KADUN_HTTPS_PORT KADUN_DOCTOR_PORTS KADUN_ADMIN_ALLOW; do
            setting "$name" | text "$name"
        done | jq -s '{settings: add}'
        container_facts
        (cd "$ROOT/app" && find . -name '*.py' -type f -printf '%P\0' | xargs -0 sha256sum) | text program
        certificate_facts "$https"
        proxy_probes "$https" | list proxy
        { disk_facts data "$ROOT/data" && disk_facts backups "$backups"; } | jq -s '{disks: add}'
        backup_facts "$backups"
        ss -H -tulnp | text sockets
        { configured_ssh_ports && session_ssh_ports; } | text ssh_ports
        ip -j address show | jq -s "$BRIDGES"'{bridges: [.[][] | select(is_bridge) | .addr_info[].local]}'
        ufw_status | text ufw
        yes_no ipv6_unfiltered eval '[[ -s /proc/net/if_inet6 ]] && grep -qiE "^\s*IPV6=[\"'\'']?no" /etc/default/ufw'
        permission_facts "$backups" | text permissions
        secrets_in_env | sort -u | paste -sd' ' | text secrets_in_env
        moved_to | text moved_to
    } 2>/dev/null </dev/null | jq -s add
}

# container_facts: this project's containers, and what the names of their images stand for now.
container_facts() {
    local containers image
    local -a ids
    mapfile -t ids < <(compose ps --all --quiet)
    containers=$(docker inspect "${ids[@]}" | jq -s 'add // [] | map({
        service: .Config.Labels["com.docker.compose.service"], oneoff: .Config.Labels["com.docker.compose.oneoff"],
        state: .State.Status, health: .State.Health.Status, exit_code: .State.ExitCode,
        out_of_memory: .State.OOMKilled, started: .State.StartedAt, restarts: .RestartCount,
        image: .Image, image_name: .Config.Image})')
    value containers <<<"$containers"
    jq -r 'map(.image_name) | unique[]' <<<"$containers" | while read -r image; do
        docker image inspect --format '{{.Id}}' "$image" </dev/null | text "$image"
    done | jq -s '{images: (add // {})}'
}

# certificate_facts PORT: the chain that nginx serves, what this machine's trust store says of it, and the files.
certificate_facts() {
    local domain files=$ROOT/https_certificates
    local -a server=(-noservername)
    read -r domain _ < <(setting KADUN_DOMAIN | tr ',"' '  ')
    if [[ $domain =~ [a-zA-Z] && $domain != *:* ]]; then server=(-servername "${domain#\*.}"); fi
    # -no_check_time: the age is checked from the dates.
    timeout 10 openssl s_client -connect "127.0.0.1:$1" "${server[@]}" -showcerts -no_check_time \
        | sed -n '/BEGIN CERT/,/END CERT/p; /^ *Verify return code: /p' | text tls_handshake
    cat "$files/fullchain.pem" | text certificate
    if [[ -r $files/privkey.pem ]]; then openssl pkey -in "$files/privkey.pem" -pubout || echo invalid; fi \
        | text certificate_key
    yes_no trust_store test -s /etc/ssl/certs/ca-certificates.crt
}

# proxy_probes PORT: requests for a card that cannot exist, from addresses of this machine, with headers that give another
# one. The answer names the journal's entry, and that entry holds the address that the app recorded.
proxy_probes() {
    local to forged=203.0.113.113 nonce # an address for documentation (RFC 5737)
    for to in 127.0.0.1 $([[ ! -e /proc/net/if_inet6 ]] || echo '[::1]') $(own_addresses); do
        nonce=$(od -An -v -tx1 -N16 /dev/urandom | tr -d ' \n')
        curl -ksS --noproxy '*' --max-time 10 -w '\n%{http_code} %{local_ip}' -H 'Content-Type: application/json' \
            -H "X-Real-IP: $forged" -H "X-Forwarded-For: $forged" -H "Forwarded: for=$forged" \
            -d '{"card_id":"cardctl doctor","hardware":"cardctl doctor","function":"cardctl doctor","nonce":"'"$nonce"'"}' \
            "https://$to:$1/v1/verify" \
            | jq -Rs 'split("\n") | (.[-1] | split(" ")) as [$status, $address] | select($status != "000")
                | {address: $address, status: ($status | tonumber), answer: (.[:-1] | join("\n"))}'
    done
}

# BRIDGES: for jq, whether an interface of `ip -j` is the engine's: only this machine and its containers reach it.
BRIDGES='def is_bridge: .ifname | test("^(docker|br-|veth)"); '

# own_addresses: this machine's first global address of each family, as in a URL.
own_addresses() {
    ip -j address show | jq -r "$BRIDGES"'[.[] | select(is_bridge | not) | .addr_info[] | select(.scope == "global")]
        | group_by(.family)[] | .[0] | if .family == "inet6" then "[\(.local)]" else .local end'
}

# disk_facts NAME FOLDER: the room for bytes and files, in the folder or where it will be made.
disk_facts() {
    local existing=$2
    until [[ -e $existing || $existing == / ]]; do existing=$(dirname -- "$existing"); done
    stat -f -c '{"block_bytes": %S, "blocks": %b, "blocks_free": %a, "inodes": %c, "inodes_free": %d}' -- "$existing" \
        | jq -s --arg name "$1" --arg folder "$2" '{($name): ((.[0] // {}) + {folder: $folder})}'
}

# backup_facts FOLDER: what the backup scripts wrote down, the size of the last good one, and the number of hooks.
backup_facts() {
    local name line
    for name in last-good last-verified last-away; do tail -n 1 "$1/$name" | text "${name/-/_}"; done
    line=$(tail -n 1 "$1/last-good")
    stat -c %s -- "$1/${line#* }" | value backup_bytes
    stat -c %Y -- "$ROOT/.env" | value installed
    find -L "$(folder KADUN_BACKUP_HOOKS data/backup-hooks.d)" -mindepth 1 -maxdepth 1 -type f -perm /111 ! -name '.*' \
        -printf x | wc -c | value backup_hooks
}

# ufw_status: as UFW prints it, "missing" without UFW, nothing when we may not ask.
ufw_status() {
    if ! command -v ufw >/dev/null; then
        echo missing
    else
        LC_ALL=C ufw status verbose
    fi
}

# permission_facts BACKUPS: mode, owner and path of what only its owner should read, as far as it can be seen.
permission_facts() {
    cd "$ROOT" || return
    stat -c '%a %u %n' -- secrets secrets/* https_certificates/privkey.pem data/keys data/keys/keyring.json
    find "$1" -maxdepth 1 -name 'kadun-*.tar*' ! -name '*.sha256' -perm /077 -printf '%m %U %p\n' | head -n 3
}

# secrets_in_env: the names of settings in .env that hold, or look like, a secret.
secrets_in_env() {
    local line name value file
    while IFS= read -r line; do
        [[ $line =~ ^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_]*)=(.+)$ ]] || continue
        name=${BASH_REMATCH[2]} value=${BASH_REMATCH[3]}
        if [[ $name =~ (PASSWORD|PASSWD|SECRET|KERNAL_DATA_KEY|DATABASE_URL)$ || $value =~ ://[^/@]*:[^/@]+@ \
            || $value == *AGE-SECRET-KEY-1* || $value == *-----BEGIN* ]]; then
            echo "$name"
        fi
        for file in "$ROOT"/secrets/*; do
            [[ -r $file && -s $file ]] || continue
            # From files and pipes: everybody sees a command line.
            if grep -qFf <(grep . "$file") <<<"$value"; then echo "$name"; fi
        done
    done <"$ROOT/.env"
}
