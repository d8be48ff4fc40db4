# shellcheck shell=bash
# Checks whether a certificate and its key can be served, by openssl. Sourced, never run.

# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"

# certificate_problem CHAIN KEY NAME…: prints in one line why the pair cannot be served, or nothing if it can.
certificate_problem() {
    local said count damaged
    count=$(LC_ALL=C grep -ac '^-----BEGIN CERTIFICATE-----' "$1") || true
    if LC_ALL=C grep -aq 'PRIVATE KEY-----' "$1"; then
        echo "证书文件内含私钥，请分成两个文件。The certificate's file also holds a private key: split it into two files"
    elif [[ ${count:-0} == 0 ]] || ! openssl x509 -in "$1" -noout 2>/dev/null; then
        echo "不是 PEM 证书；DER 请先转换 not a certificate in PEM; convert one in DER: openssl x509 -inform DER -in FILE -out fullchain.pem"
    elif damaged=$(damaged_certificate "$1") && [[ -n $damaged ]]; then
        echo "证书链第 $damaged 张已损坏。Certificate $damaged of the chain is damaged"
    elif ! openssl pkey -inform PEM -in "$2" -noout -passin pass: 2>/dev/null </dev/null; then
        echo "不是无密码的 PEM 私钥 not a private key in PEM without a password; to remove one: openssl pkey -in FILE -out privkey.pem"
    elif [[ $(openssl x509 -in "$1" -noout -pubkey) != "$(openssl pkey -in "$2" -pubout)" ]]; then
        echo "私钥与链中第一张证书不匹配。The private key does not belong to the first certificate of the chain"
    elif ((count == 1)) && ! is_self_signed "$1" && ! is_publicly_trusted "$1"; then
        echo "证书链不完整：请在服务器证书之后附上签发者的证书。The chain is incomplete: add the issuer's certificate after the server's"
    elif ! said=$(openssl verify -purpose sslserver -partial_chain -trusted <(last_certificate "$1") -untrusted "$1" "$1" 2>&1); then
        said=$(sed -n 's/^error \([0-9]*\) at \([0-9]*\) depth lookup: */\2 /p' <<<"$said" | head -n 1)
        echo "证书链无效（过期、尚未生效或缺少中间证书）。The chain is not valid: certificate $((${said%% *} + 1)): ${said#* }"
    elif ! openssl x509 -in "$1" -noout -ext subjectAltName 2>/dev/null | grep -qE 'DNS:|IP Address:'; then
        echo "证书没有 subjectAltName，客户端不会接受。The certificate has no subjectAltName, so no client accepts it"
    else
        names_problem "$1" "${@:3}"
    fi
}

# damaged_certificate CHAIN: prints the number of the first that cannot be parsed, one that is cut off included.
damaged_certificate() {
    awk -v parse='openssl x509 -noout 2>/dev/null' '
        /^-----BEGIN CERTIFICATE-----/ { count++; text = "" }
        { text = text $0 "\n" }
        /^-----END CERTIFICATE-----/ { whole++; printf "%s", text | parse; if (close(parse)) { print whole; exit } }
        END { if (whole < count) print count }' "$1" | head -n 1
}

# last_certificate CHAIN: it, alone.
last_certificate() { awk '/^-----BEGIN CERTIFICATE-----/ { text = "" } { text = text $0 "\n" } END { printf "%s", text }' "$1"; }

# names_problem FILE NAME…: prints the first name with which no client would accept the certificate, or nothing.
names_problem() {
    local name check
    for name in "${@:2}"; do
        check=-checkhost
        if is_ip "$name"; then check=-checkip; fi
        openssl x509 -in "$1" -noout "$check" "$name" | grep -q 'does match' && continue
        echo "证书不含 $name。The certificate does not name $name; it names: $(certificate_names "$1")"
        return
    done
}

# certificate_names FILE: its names on one line.
certificate_names() {
    openssl x509 -in "$1" -noout -ext subjectAltName 2>/dev/null \
        | sed -n 's/^ *//; s/DNS://g; s/IP Address://g; s/, / /g; 2p'
}

# is_self_signed FILE
is_self_signed() {
    [[ $(openssl x509 -in "$1" -noout -subject_hash) == "$(openssl x509 -in "$1" -noout -issuer_hash)" ]]
}

# is_publicly_trusted CHAIN: by the system's trust store, or the one that SSL_CERT_FILE names.
is_publicly_trusted() { openssl verify -purpose sslserver -untrusted "$1" "$1" >/dev/null 2>&1; }

# warn_of_pinning: programs in the field may trust the certificate in use and no other. TLS does not tell the server whom a
# client trusts, so that it cannot serve each client the certificate that it wants.
warn_of_pinning() {
    local back
    [[ -e https_certificates/fullchain.pem ]] && is_self_signed https_certificates/fullchain.pem || return 0
    back="scripts/deploy-certificate.sh https_certificates/self-signed-{fullchain,privkey}.pem --domain $(certificate_names https_certificates/fullchain.pem | cut -d ' ' -f 1)"
    warn "将替换自签名证书：以 ca_file 内置它、又未传 public_cas=True 的程序，此后拒绝连接；同一域名和端口只能提供一张证书。换回：$back。This replaces a self-signed certificate. Programs that ship it as their ca_file, without public_cas=True, then refuse to connect: one name and port can have one certificate only. To serve it again: $back"
}

# nginx_runs: nginx's container is running.
nginx_runs() {
    command -v docker >/dev/null && [[ -n $(compose ps --quiet --status running nginx 2>/dev/null </dev/null) ]]
}
