# shellcheck shell=bash
# Makes the first, self-signed certificate. Needs openssl. Sourced, never run.

is_ipv6() { [[ $1 == *:*:* && $1 =~ ^[0-9A-Fa-f:.]+$ ]]; }
is_ip() { [[ $1 =~ ^[0-9]+(\.[0-9]+){3}$ ]] || is_ipv6 "$1"; }

new_key() {
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256
}

# self_signed KEY NAME…: a certificate for this machine and the names, which may be IP addresses. Valid for ten years, since
# nobody renews it.
self_signed() {
    local key=$1 name names=DNS:localhost,IP:127.0.0.1,IP:::1
    shift
    for name in "$(hostname 2>/dev/null || cat /proc/sys/kernel/hostname)" "$@"; do
        if is_ip "$name"; then names+=,IP:$name; elif [[ $name != localhost ]]; then names+=,DNS:$name; fi
    done
    openssl req -x509 -new -sha256 -days 3650 -key "$key" -config /dev/stdin <<END
[req]
prompt = no
distinguished_name = subject
x509_extensions = extensions
[subject]
CN = Kadun self-signed
[extensions]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
subjectAltName = $names
END
}
