# shellcheck shell=bash
# What `cardctl doctor` must know of the host, as one JSON document. Facts only: app/services/doctor judges them.
# No secret is read into it. Every program is optional: what cannot be seen is null, and doctor says so.
# Sourced after common.sh and stack.sh, never run.

# json_string [TEXT]: TEXT, or standard input, as a JSON string without control characters; null when empty.
json_string() {
    local text=${1-$(cat)}
    text=${text//\\/\\\\} text=${text//\"/\\\"} text=${text//$'\n'/\\n} text=${text//$'\t'/ }
    if [[ -n $text ]]; then printf '"%s"' "${text//[[:cntrl:]]/}"; else printf null; fi
}

# json_list: standard input's lines, each a JSON value, as a list.
json_list() {
    printf '[%s]' "$(paste -sd,)"
}

# container_facts ID…: one object for each container, a line each.
container_facts() {
    local format='{"service":{{json (index .Config.Labels "com.docker.compose.service")}},'
    format+='"oneoff":{{json (index .Config.Labels "com.docker.compose.oneoff")}},"state":{{json .State.Status}},'
    format+='"health":{{if .State.Health}}{{json .State.Health.Status}}{{else}}null{{end}},'
    format+='"exit_code":{{.State.ExitCode}},"out_of_memory":{{.State.OOMKilled}},"started":{{json .State.StartedAt}},'
    format+='"restarts":{{.RestartCount}},"image":{{json .Image}},"image_name":{{json .Config.Image}}}'
    docker inspect --format "$format" "$@" 2>/dev/null || true
}

# image_facts ID…: what the name of each container's image stands for now, a member of an object a line.
image_facts() {
    local name
    docker inspect --format '{{.Config.Image}}' "$@" 2>/dev/null | sort -u | while read -r name; do
        printf '%s:%s\n' "$(json_string "$name")" \
            "$({ docker image inspect --format '{{.Id}}' "$name" 2>/dev/null || true; } </dev/null | json_string)"
    done
}

# program_digest: of the program in this checkout, to be compared with the one that runs.
program_digest() {
    (cd "$ROOT/app" && find . -name '*.py' -type f -printf '%P\0' | LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum) \
        2>/dev/null | cut -d' ' -f1
}

# certificate_facts PORT NAME: the chain that nginx serves, what this machine's trust store says of it, and the files.
certificate_facts() {
    local shown folder=$ROOT/https_certificates matches=null
    local -a name=(-noservername)
    if [[ $2 =~ [a-zA-Z] && $2 != *:* ]]; then name=(-servername "${2#\*.}"); fi
    # -no_check_time: age is a question of its own.
    shown=$(timeout 10 openssl s_client -connect "127.0.0.1:$1" "${name[@]}" -showcerts -no_check_time </dev/null 2>/dev/null) \
        || true
    if [[ -r $folder/privkey.pem && -r $folder/fullchain.pem ]]; then
        matches=false
        if cmp -s <(openssl pkey -in "$folder/privkey.pem" -pubout 2>/dev/null) \
            <(openssl x509 -in "$folder/fullchain.pem" -pubkey -noout 2>/dev/null); then matches=true; fi
    fi
    printf '{"served":%s,"verified":%s,"file":%s,"key_matches":%s,"trust_store":%s}' \
        "$(sed -n '/BEGIN CERT/,/END CERT/p' <<<"$shown" | json_string)" \
        "$(sed -n 's/^ *Verify return code: \([0-9]*\).*/\1/p' <<<"$shown" | head -n 1 | json_string)" \
        "$({ cat "$folder/fullchain.pem" 2>/dev/null || true; } | json_string)" "$matches" \
        "$(if [[ -s /etc/ssl/certs/ca-certificates.crt ]]; then echo true; else echo false; fi)"
}

# own_addresses: this machine's first global address of each family, the engine's bridges aside.
own_addresses() {
    local family
    for family in -4 -6; do
        ip -o "$family" address show scope global 2>/dev/null | awk '$2 !~ /^(docker|br-|veth)/ { print $4 }' | head -n 1
    done | cut -d/ -f1
}

# bridge_addresses: the engine's own, which only this machine and its containers reach.
bridge_addresses() {
    ip -o address show 2>/dev/null | awk '$2 ~ /^(docker|br-|veth)/ { print $4 }' | cut -d/ -f1
}

# proxy_facts PORT: asks the service for a card that cannot be one, from addresses that we know, with headers that lie
# about them. The answer names the journal's entry, and that entry the address that the app took for ours.
proxy_facts() {
    local port=$1 to host answer nonce lie=203.0.113.113 # an address for documentation (RFC 5737): nobody's
    command -v curl >/dev/null || return 0
    for to in 127.0.0.1 $([[ ! -e /proc/net/if_inet6 ]] || echo ::1) $(own_addresses); do
        host=$to
        if [[ $to == *:* ]]; then host="[$to]"; fi
        nonce=$(od -An -v -tx1 -N16 /dev/urandom | tr -d ' \n')
        answer=$(curl -ksS --noproxy '*' --max-time 10 -w '\n%{http_code} %{local_ip}' \
            -H 'Content-Type: application/json' -H "X-Real-IP: $lie" -H "X-Forwarded-For: $lie" -H "Forwarded: for=$lie" \
            -d '{"card_id":"cardctl doctor","hardware":"cardctl doctor","function":"cardctl doctor","nonce":"'"$nonce"'"}' \
            "https://$host:$port/v1/verify" 2>/dev/null) || continue
        printf '{"address":%s,"status":%d,"answer":%s}\n' "$(json_string "${answer##* }")" \
            "$(tail -n 1 <<<"$answer" | cut -d' ' -f1)" "$(sed '$d' <<<"$answer" | json_string)"
    done
}

# disk_facts NAME FOLDER: room for bytes and for files, there or where the folder will be made.
disk_facts() {
    local size free inodes inodes_free folder=$2
    until [[ -e $folder || $folder == / ]]; do folder=$(dirname -- "$folder"); done
    read -r size free inodes inodes_free \
        < <(df -B1 --output=size,avail,itotal,iavail -- "$folder" 2>/dev/null | tail -n 1) || true
    [[ $inodes =~ ^[0-9]+$ ]] || inodes=0 inodes_free=0 # a file system that does not count them
    printf '{"name":"%s","folder":%s,"size":%s,"free":%s,"inodes":%d,"inodes_free":%d}\n' \
        "$1" "$(json_string "$2")" "${size:-null}" "${free:-null}" "$inodes" "$inodes_free"
}

# backup_facts FOLDER HOOKS: the newest good backup's line, whether its file is there still, how long we have been here,
# the lines of the newest that was proven and of the newest that was carried away, and how many programs do that.
backup_facts() {
    local line file
    line=$(tail -n 1 "$1/last-good" 2>/dev/null || true)
    file=${line#* }
    printf '{"last_good":%s,"size":%s,"installed":%s,"last_verified":%s,"last_away":%s,"hooks":%d}' "$(json_string "$line")" \
        "$({ stat -c %s -- "$1/$file" 2>/dev/null || true; } | grep . || echo null)" \
        "$({ stat -c %Y -- "$ROOT/.env" 2>/dev/null || true; } | grep . || echo null)" \
        "$({ tail -n 1 "$1/last-verified" 2>/dev/null || true; } | json_string)" \
        "$({ tail -n 1 "$1/last-away" 2>/dev/null || true; } | json_string)" \
        "$({ find -L "$2" -mindepth 1 -maxdepth 1 -type f -perm /111 ! -name '.*' -printf x 2>/dev/null || true; } | wc -c)"
}

# ssh_ports: where the SSH server listens, as far as it tells us.
ssh_ports() {
    local session=${SSH_CONNECTION:-}
    {
        sshd -T 2>/dev/null | sed -n 's/^port //p' | grep . \
            || { cat /etc/ssh/sshd_config /etc/ssh/sshd_config.d/*.conf 2>/dev/null || true; } \
            | sed -n 's/^[[:space:]]*[Pp]ort[[:space:]]*\([0-9]*\).*/\1/p' | grep . || echo 22
        printf '%s\n' "${session##* }"
    } | paste -sd' '
}

# ufw_status: as UFW prints it, "missing" without UFW, nothing when we may not ask.
ufw_status() {
    if ! command -v ufw >/dev/null; then
        echo missing
    else
        LC_ALL=C ufw status verbose 2>/dev/null || true
    fi
}

# ipv6_unfiltered: there is IPv6, and UFW is told to leave it alone.
ipv6_unfiltered() {
    if [[ -s /proc/net/if_inet6 ]] && grep -qiE '^[[:space:]]*IPV6=["'\'']?no' /etc/default/ufw 2>/dev/null; then
        echo true
    else
        echo false
    fi
}

# permission_facts BACKUPS: mode, owner and name of what must be closed to others; "?" for what we cannot see.
permission_facts() {
    local path
    cd "$ROOT" || return
    for path in secrets secrets/* https_certificates/privkey.pem data/keys data/keys/keyring.json; do
        [[ $path != 'secrets/*' ]] || continue
        stat -c '%a %u %n' -- "$path" 2>/dev/null || printf '? ? %s\n' "$path"
    done
    find "$1" -maxdepth 1 -name 'kadun-*.dump*' ! -name '*.sha256' -perm /077 -printf '%m %U %p\n' 2>/dev/null | head -n 3
}

# secrets_in_env: names of the settings in .env that hold, or look like, a secret.
secrets_in_env() {
    local line name value file
    [[ -r $ROOT/.env ]] || return 0
    while IFS= read -r line; do
        [[ $line =~ ^[[:space:]]*(export[[:space:]]+)?([A-Za-z_][A-Za-z0-9_]*)=(.+)$ ]] || continue
        name=${BASH_REMATCH[2]} value=${BASH_REMATCH[3]}
        if [[ $name =~ (PASSWORD|PASSWD|SECRET|KERNAL_DATA_KEY|DATABASE_URL)$ || $value =~ ://[^/@]*:[^/@]+@ \
            || $value == *AGE-SECRET-KEY-1* || $value == *-----BEGIN* ]]; then
            echo "$name"
            continue
        fi
        for file in "$ROOT"/secrets/*; do
            [[ -r $file && -s $file ]] || continue
            # From files and pipes: a secret on a command line is everybody's.
            if grep -qFf <(grep . "$file") <<<"$value"; then echo "$name"; fi
        done
    done <"$ROOT/.env" | sort -u | paste -sd' '
}

# moved_fact: a member of the object, where the service has moved away.
moved_fact() {
    local place
    place=$(moved_to)
    [[ -z $place ]] || printf ',\n"moved_to": %s' "$(json_string "$place")"
}

# admin_fact: a member of the object, where the console is there for certain addresses alone.
admin_fact() {
    local allow
    allow=$(setting KADUN_ADMIN_ALLOW '')
    [[ -z $allow ]] || printf ',\n"admin_allow": %s' "$(json_string "$allow")"
}

# host_facts: all of it.
host_facts() {
    local backups hooks https http domains
    local -a ids
    mapfile -t ids < <(compose ps --all --quiet 2>/dev/null </dev/null)
    http=$(setting KADUN_HTTP_PORT 80) https=$(setting KADUN_HTTPS_PORT 443)
    # Arithmetic would run what is no number.
    [[ $http =~ ^[0-9]{1,5}$ ]] || http=80
    [[ $https =~ ^[0-9]{1,5}$ ]] || https=443
    domains=$(setting KADUN_DOMAIN '')
    domains=${domains//[,\"]/ }
    backups=$(setting KADUN_BACKUP_DIR "$ROOT/data/backups")
    if [[ $backups != /* ]]; then backups=$ROOT/${backups#./}; fi
    hooks=$(setting KADUN_BACKUP_HOOKS "$ROOT/data/backup-hooks.d")
    if [[ $hooks != /* ]]; then hooks=$ROOT/${hooks#./}; fi
    cat <<END
{"root": $([[ $EUID == 0 ]] && echo true || echo false),
"http_port": $((10#$http)), "https_port": $((10#$https)), "domains": $(json_string "$domains"),
"known_ports": $(json_string "$(setting KADUN_DOCTOR_PORTS '')"),
"containers": $(container_facts "${ids[@]}" | json_list),
"images": {$(image_facts "${ids[@]}" | paste -sd,)},
"program": $(program_digest | json_string),
"certificate": $(certificate_facts "$https" "${domains%% *}"),
"proxy": $(proxy_facts "$https" | json_list),
"synchronised": $({ timedatectl show --property=NTPSynchronized --value 2>/dev/null || true; } | json_string),
"disks": $({ disk_facts data "$ROOT/data" && disk_facts backups "$backups"; } | json_list),
"backup": $(backup_facts "$backups" "$hooks"),
"sockets": $({ ss -H -tulnp 2>/dev/null || true; } | json_string),
"ssh_ports": $(ssh_ports | json_string),
"bridges": $(bridge_addresses | paste -sd' ' | json_string),
"ufw": $(ufw_status | json_string),
"ipv6_unfiltered": $(ipv6_unfiltered),
"permissions": $(permission_facts "$backups" | json_string),
"secrets_in_env": $(secrets_in_env | json_string)$(moved_fact)$(admin_fact)}
END
}
