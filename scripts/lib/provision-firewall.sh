# shellcheck shell=bash
# provision.sh's firewall step, which finds the ports of SSH first. Sourced after provision-core.sh, never run.

AT_BOOT="启用防火墙，开机时启用; switching the firewall on, which happens at the next boot"

# step_firewall: allows incoming SSH, HTTP and HTTPS only, and all outgoing traffic, for IPv4 and IPv6.
step_firewall() {
    step "防火墙" "Firewall"
    local port
    local -a ports=() web=()
    mapfile -t ports < <(ssh_ports)
    web=("$(env_port KADUN_HTTP_PORT 80)" "$(env_port KADUN_HTTPS_PORT 443)")
    if ((${#ports[@]})); then
        tell "SSH 端口 SSH listens on: ${ports[*]}"
    else
        tell "未发现 SSH 服务，放行 22。No SSH server was found: 22 is allowed, for the one to come"
        ports=(22)
    fi
    ports+=("${web[@]}")
    if firewall_is_so "${ports[@]}"; then
        already "UFW 只放行 lets in: ${ports[*]}"
        tell_other_rules "${ports[@]}"
        return
    fi
    refuse_rivals
    # A firewall that is enabled but not loaded refuses new rules; disable it until the rules are added.
    if grep -q '^ENABLED=yes' /etc/ufw/ufw.conf 2>/dev/null && ufw status | grep -q '^Status: inactive'; then
        run env_file set /etc/ufw/ufw.conf ENABLED no
    fi
    open_ports "${ports[@]}"
    # Afterwards, since an active firewall applies it at once, and this SSH session must survive.
    run ufw default deny incoming
    run ufw default allow outgoing
    enable_firewall "${ports[@]}"
    tell_other_rules "${ports[@]}"
}

# open_ports PORT…: adds a rule for each port that has none.
open_ports() {
    local port sources anew=''
    if ! grep -q '^IPV6=yes' /etc/default/ufw 2>/dev/null; then
        anew=yes # rules were made without IPv6: make them again
        run env_file set /etc/default/ufw IPV6 yes
    fi
    for port in "$@"; do
        sources=$(sources_of "$port" | paste -sd ' ')
        if is_open "$port"; then
            [[ -n $anew ]] || continue
        elif is_allowed "$port"; then
            tell "端口 $port 只对 $sources 放行（您的规则，未改动）。Port $port is for $sources only: your own rule, left alone"
            continue
        elif [[ -n $sources ]]; then
            tell "端口 $port 的规则（$sources）不含本次会话，改为对所有地址放行。Your rules for port $port ($sources) leave this very session out: it is opened to all"
        fi
        run ufw allow "$port/tcp" comment kadun
    done
}

# enable_firewall PORT…: only if there is a rule for each port.
enable_firewall() {
    local port
    if [[ -z $DRY_RUN ]]; then
        for port in "$@"; do
            is_allowed "$port" || die "UFW 未记下端口 $port，防火墙未启用。UFW did not take port $port: the firewall stays off"
        done
    fi
    if runs_systemd; then
        run ufw --force enable
        run systemctl enable ufw
    else # a chroot would change its host's firewall
        run env_file set /etc/ufw/ufw.conf ENABLED yes
        not_possible "$AT_BOOT"
    fi
}

# firewall_is_so PORT…: nothing has to be done.
firewall_is_so() {
    local port
    command -v ufw >/dev/null || return 1
    grep -q '^IPV6=yes' /etc/default/ufw && grep -q '^DEFAULT_INPUT_POLICY="DROP"' /etc/default/ufw \
        && grep -q '^DEFAULT_OUTPUT_POLICY="ACCEPT"' /etc/default/ufw && grep -q '^ENABLED=yes' /etc/ufw/ufw.conf \
        || return 1
    for port in "$@"; do
        is_allowed "$port" || return 1
    done
    if runs_systemd; then
        ufw status | grep -q '^Status: active' && systemctl is-enabled --quiet ufw
    else
        not_possible "$AT_BOOT"
    fi
}

# is_allowed PORT: UFW has a rule for it. Rules for certain addresses are the owner's choice, as long as they allow the
# addresses of the present SSH sessions.
is_allowed() {
    local sources from
    is_open "$1" && return
    sources=$(sources_of "$1")
    [[ -n $sources ]] || return 1
    while read -r from; do
        is_within "$from" "$sources" || return 1
    done < <(ssh_sessions | awk -v port="$1" '$4 == port { print $1 }' | sort -u)
}

# is_open PORT: allowed for all addresses; `limit` also allows.
is_open() {
    [[ -n $(command -v ufw) ]] && ufw show added | grep -qE "^ufw (allow|limit) (in )?$1(/tcp)?( comment .*)?$"
}

# sources_of PORT: the addresses and networks for which rules allow it, a line each.
sources_of() {
    [[ -z $(command -v ufw) ]] || ufw show added \
        | sed -nE "s/^ufw (allow|limit) (in )?from ([0-9a-fA-F.:\/]+) to any port ([0-9]+[,:])*$1([,:][0-9]+)*( proto tcp)?( comment .*)?\$/\3/p"
}

# is_within ADDRESS NETWORKS
is_within() {
    python3 -I -c 'import ipaddress, sys
address = ipaddress.ip_address(sys.argv[1].partition("%")[0])
sys.exit(not any(address in ipaddress.ip_network(network, strict=False) for network in sys.argv[2].split()))' "$1" "$2" \
        2>/dev/null
}

# tell_other_rules PORT…: prints the owner's other rules, which stay.
tell_other_rules() {
    local ours others
    [[ -n $(command -v ufw) ]] || return 0
    ours=$(IFS='|' && printf '%s' "$*")
    others=$(ufw show added | grep -E '^ufw (route )?(allow|limit) ' \
        | grep -vE "^ufw (allow|limit) (in )?($ours)(/tcp)?( comment .*)?$" | sed 's/^ufw //' | paste -sd ';' || true)
    [[ -z $others ]] || tell "另有规则（未改动） other rules, not ours and left alone: $others"
}

# refuse_rivals: another firewall, or rules that could block SSH.
refuse_rivals() {
    if runs_systemd && systemctl is-active --quiet firewalld; then
        die "firewalld 正在运行，请二选一：systemctl disable --now firewalld。firewalld runs here, and UFW is set up: keep one of them"
    fi
    command -v ufw >/dev/null && ! grep -q '^ENABLED=yes' /etc/ufw/ufw.conf || return 0
    ! ufw show added | grep -qE '^ufw (insert [0-9]+ |prepend )?(deny|reject) (in )?' \
        || die "UFW 未启用却已有 deny 规则，可能挡住 SSH，请先查看 ufw show added。UFW is off and holds deny rules, which may shut SSH out: look at ufw show added first"
}

# env_port NAME DEFAULT
env_port() {
    local port=''
    if [[ -e $ROOT/.env ]]; then port=$(env_file get "$ROOT/.env" "$1"); fi
    [[ $port =~ ^[0-9]+$ ]] || port=$2
    printf '%s' "$port"
}

# ssh_ports: all ports of SSH, a line each: configured, systemd's, of present sessions, listening now, and asked for. One too
# many is better than one too few.
ssh_ports() {
    {
        configured_ssh_ports
        socket_ssh_ports
        session_ssh_ports
        listening_ssh_ports
        printf '%s\n' "${SSH_PORTS[@]}"
    } | grep -xE '[1-9][0-9]{0,4}' | sort -nu || true
}

# configured_ssh_ports: as sshd reads its files; parsed here if sshd cannot start (no host keys yet).
configured_ssh_ports() {
    local sshd said
    sshd=$(command -v sshd) || return 0
    if said=$("$sshd" -T 2>/dev/null) && grep -q '^listenaddress ' <<<"$said"; then
        sed -n 's/^listenaddress .*:\([0-9]*\)$/\1/p' <<<"$said"
        return
    fi
    said=$(cat /etc/ssh/sshd_config /etc/ssh/sshd_config.d/*.conf 2>/dev/null \
        | sed -nE 's/^[[:space:]]*port[[:space:]=]+"?([0-9]+).*/\1/Ip; s/^[[:space:]]*listenaddress[[:space:]=]+\S+:([0-9]+).*/\1/Ip')
    printf '%s\n' "${said:-22}"
}

# socket_ssh_ports: where systemd listens for sshd, as on Ubuntu. An empty value resets the list.
socket_ssh_ports() {
    local unit=ssh.socket
    command -v systemctl >/dev/null && systemctl is-enabled --quiet "$unit" 2>/dev/null || return 0
    {
        if runs_systemd; then
            systemctl show --property=Listen --value "$unit" | sed 's/ (.*//'
        else
            cat "/etc/systemd/system/$unit" "/etc/systemd/system/$unit.d"/*.conf 2>/dev/null \
                | awk -F= '/^ListenStream=/ { if ($2 == "") n = 0; else v[++n] = $2 } END { for (i = 1; i <= n; i++) print v[i] }'
        fi
    } | sed -n '/^vsock:/d; s/^\(.*:\)\{0,1\}\([0-9][0-9]*\)$/\2/p'
}

# session_ssh_ports: the ports of the present SSH sessions.
session_ssh_ports() { ssh_sessions | cut -d ' ' -f 4; }

# ssh_sessions: SSH_CONNECTION (client, port, server, port) of this process and its ancestors: sudo removes the variable.
ssh_sessions() {
    local pid=$$
    while ((pid > 0)); do
        { tr '\0' '\n' <"/proc/$pid/environ"; } 2>/dev/null | sed -nE 's/^SSH_CONNECTION=(\S+ \S+ \S+ [0-9]+)$/\1/p'
        pid=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status" 2>/dev/null) || return 0
        [[ -n $pid ]] || return 0
    done
}

# listening_ssh_ports: except on the loopback interface, where sshd listens for forwarded ports.
listening_ssh_ports() {
    command -v ss >/dev/null || return 0
    ss -Hltnp | awk '/"(sshd|dropbear)"/ && $4 !~ /^(127\.|\[::1\])/ { sub(/.*:/, "", $4); print $4 }'
}
