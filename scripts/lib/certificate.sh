# shellcheck shell=bash
# Facts about certificates, by openssl. Sourced, never run.

source "$ROOT/scripts/lib/stack.sh"

# require_servable CHAIN KEY NAME…: key, chain, dates and names fit; otherwise it ends the script.
require_servable() {
    local said name names check key
    # crl2pkcs7 reads all certificates of the file; `verify` below passes over a damaged one that it can do without.
    if ! { openssl x509 -inform PEM -in "$1" -noout && openssl crl2pkcs7 -nocrl -certfile "$1"; } >/dev/null 2>&1 \
        || LC_ALL=C grep -aq 'PRIVATE KEY-----' "$1"; then
        die "不是完好的 PEM 证书，或其中含私钥（请分开）；DER 请先转换。Not certificates in PEM, a damaged one, or a key among them (split the file); from DER: openssl x509 -inform DER -in FILE -out fullchain.pem: $1"
    fi
    key=$(openssl pkey -inform PEM -in "$2" -passin pass: -pubout 2>&1 </dev/null) || true
    [[ $(openssl x509 -in "$1" -noout -pubkey) == "$key" ]] \
        || die "私钥须属于链中第一张证书，为 PEM 格式且无密码。The key must be that of the chain's first certificate, in PEM, without a password (openssl pkey -in FILE -out privkey.pem): $2"
    # The issuers in the file stand for the authority, which may be a private one; a lone certificate must be its own.
    said=$(openssl verify -purpose sslserver -partial_chain \
        -trusted <(if is_self_signed "$1"; then cat "$1"; else sed '1,/-END CERTIFICATE-/d' "$1"; fi) "$1" 2>&1) \
        || die "证书链无效（过期、尚未生效），或缺少签发者的证书。The chain is not valid (expired, not yet valid), or lacks the issuer's certificate: ${said//$'\n'/ }"
    names=$(certificate_names "$1")
    for name in "${@:3}"; do
        if is_ip "$name"; then check=-checkip; else check=-checkhost; fi
        # Without subjectAltName openssl takes the subject; clients do not.
        [[ -n $names && $(openssl x509 -in "$1" -noout "$check" "$name") == *'does match'* ]] \
            || die "证书不含 $name：请改 .env 中的 KADUN_DOMAIN，或用 --domain。The certificate does not name $name; it names: ${names:-nothing}. Set KADUN_DOMAIN in .env, or give --domain"
    done
}

# certificate_names FILE: its names on one line.
certificate_names() {
    openssl x509 -in "$1" -noout -ext subjectAltName 2>/dev/null \
        | sed -n 's/^ *//; s/DNS://g; s/IP Address://g; s/, / /g; 2p'
}

# is_self_signed FILE
is_self_signed() {
    [[ -e $1 && $(openssl x509 -in "$1" -noout -subject_hash) == "$(openssl x509 -in "$1" -noout -issuer_hash)" ]]
}

# warn_of_pinning: programs in the field may trust the certificate in use and no other. TLS does not tell the server whom a
# client trusts, so that it cannot serve each client the certificate that it wants.
warn_of_pinning() {
    local present=$ROOT/https_certificates/fullchain.pem
    ! is_self_signed "$present" || warn "将替换自签名证书：以 ca_file 内置它、又未传 public_cas=True 的程序，此后拒绝连接；换回的命令在英文末尾。This replaces a self-signed certificate. Programs that ship it as their ca_file, without public_cas=True, then refuse to connect: one name and port can have one certificate only. To serve it again: scripts/deploy-certificate.sh https_certificates/self-signed-{fullchain,privkey}.pem --domain $(certificate_names "$present" | cut -d ' ' -f 1)"
}
