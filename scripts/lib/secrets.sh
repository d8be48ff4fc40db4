# shellcheck shell=bash
# Makes files, secrets and the first certificate, whole or not at all. Sourced, never run.

made=() # what was made

# place FILE MODE OWNER COMMAND…: unless FILE exists, writes what the command prints into it, whole or not at all.
place() {
    local new=$1.new
    [[ ! -e $1 ]] || return 0
    { "${@:4}" >"$new" && [[ -s $new ]]; } || { rm -f -- "$new" && die "无法生成 could not make $1"; }
    chmod "$2" "$new"
    chown "$3" "$new"
    sync "$new"
    mv -f "$new" "$1"
    made+=("$1")
}

# make_folder FOLDER MODE OWNER: an empty one may be the engine's, which made it to mount it, or a killed run's.
make_folder() {
    [[ ! -d $1 || (-O $1 && -z $(ls -A "$1") && $(stat -c '%a %u' "$1") != "$2 $3") ]] || return 0
    install -d -m "$2" -o "$3" "$1"
    made+=("$1/")
}

report_made() {
    if ((${#made[@]})); then say "已生成 made: ${made[*]}"; else say "一切就绪，未作改动。Everything is there already: nothing changed."; fi
}

# age_identity: a new private key in age's format, without age-keygen's comments.
age_identity() { age-keygen 2>/dev/null | grep '^AGE-SECRET-KEY-1'; }

# new_url ROLE HOSTS: a URL with a new password, which roles.sql gives to the role.
new_url() {
    local password settings=''
    password=$(openssl rand -hex 24) && [[ -n $password ]] || return 1
    # Channel binding: TLS alone would give the password to whoever answers in the database's place.
    [[ ,$2 =~ ^(,(database|127\.0\.0\.1|localhost|\[::1\])(:[0-9]+)?)+$ ]] || settings+='&sslmode=require&channel_binding=require'
    [[ $2 != *,* ]] || settings+='&target_session_attrs=read-write' # whichever host is the primary
    printf 'postgresql://%s:%s@%s/kadun%s\n' "$1" "$password" "$2" "${settings/#&/?}"
}

new_key() { openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256; }

# self_signed KEY NAME…: a certificate for this machine and the names. Valid for ten years, since nobody renews it.
self_signed() {
    local name names=DNS:localhost,IP:127.0.0.1,IP:::1
    for name in "$(uname -n)" "${@:2}"; do
        if is_ip "$name"; then names+=,IP:$name; elif [[ $name != localhost ]]; then names+=,DNS:$name; fi
    done
    openssl req -x509 -new -sha256 -days 3650 -key "$1" -config /dev/null -subj '/CN=Kadun self-signed' -addext "subjectAltName=$names" \
        -addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature -addext extendedKeyUsage=serverAuth
}
