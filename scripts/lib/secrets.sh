# shellcheck shell=bash
# Makes files, secrets and the first certificate, whole or not at all. Sourced, never run. `made` is the list of what was made.
# shellcheck disable=SC2154  # CONTAINER is init.sh's

# place FILE MODE OWNER COMMAND…: unless FILE exists, writes what the command prints into it, whole or not at all.
place() {
    local new=$1.new
    [[ ! -e $1 ]] || return 0
    { "${@:4}" >"$new" && [[ -s $new ]]; } || { rm -f -- "$new" && die "无法生成 could not make $1"; }
    chmod "$2" "$new"
    if [[ $EUID == 0 ]]; then chown "$3:0" "$new"; fi
    sync "$new"
    mv -f "$new" "$1"
    made+=("$1")
}

# make_folder FOLDER MODE OWNER: makes a folder. An empty one of root's, which the engine made to mount it, gets this owner.
make_folder() {
    local folder=$1
    if [[ -d $1 ]]; then
        [[ $EUID == 0 && $3 != 0 && $(stat -c %u "$1") == 0 && -z $(ls -A "$1") ]] || return 0
    else
        folder=$1.new && mkdir -p "$folder"
    fi
    chmod "$2" "$folder"
    if [[ $EUID == 0 ]]; then chown "$3:0" "$folder"; fi
    [[ $folder == "$1" ]] || mv -T "$folder" "$1"
    made+=("$1/")
}

# age_identity: a new private key in age's format, without age-keygen's comments.
age_identity() { age-keygen 2>/dev/null | grep '^AGE-SECRET-KEY-1'; }

# new_url ROLE HOSTS: a URL with a new password, which roles.sql gives to the role.
new_url() {
    local password settings=''
    password=$(openssl rand -hex 24) && [[ -n $password ]] || return 1
    if [[ $2 != "$CONTAINER" ]]; then
        # Channel binding: TLS alone would give the password to whoever answers in the database's place.
        [[ ,$2 =~ ^(,(127\.0\.0\.1|localhost|\[::1\])(:[0-9]+)?)+$ ]] || settings+='&sslmode=require&channel_binding=require'
        [[ $2 != *,* ]] || settings+='&target_session_attrs=read-write' # whichever host is the primary
    fi
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
