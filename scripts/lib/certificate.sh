# shellcheck shell=bash
# Checks whether a certificate and its key can be served. Needs openssl. Sourced, never run.

# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"

# certificate_problem CHAIN KEY FOLDER NAME…: prints in one line why the pair cannot be served, or nothing if it can. Writes
# the certificates into FOLDER, an empty one: 0.pem is the server's, 1.pem its issuer's, and so on.
certificate_problem() {
    local chain=$1 key=$2 folder=$3
    shift 3
    # The first that fails prints the reason.
    { check_chain_form "$chain" && check_key_form "$key" && check_split "$chain" "$folder" \
        && check_match "$key" "$folder" && check_dates "$folder" && check_links "$folder" \
        && check_names "$folder/0.pem" "$@"; } || true
}

# check_chain_form FILE: certificates in PEM, and no private key, since anybody may read this file.
check_chain_form() {
    if [[ ! -f $1 || ! -r $1 ]]; then
        echo "无法读取 cannot be read: $1"
    elif LC_ALL=C grep -aq 'PRIVATE KEY-----' "$1"; then
        echo "证书文件内含私钥，请分成两个文件。The certificate's file also holds a private key: split it into two files: $1"
    elif LC_ALL=C grep -aq '^-----BEGIN CERTIFICATE-----' "$1"; then
        return 0
    elif openssl x509 -inform DER -in "$1" -noout 2>/dev/null; then
        echo "证书是 DER 格式，请转为 PEM。The certificate is in DER; convert it to PEM: openssl x509 -inform DER -in ${1@Q} -out fullchain.pem"
    else
        echo "不是 PEM 证书 is not a certificate in PEM: $1"
    fi
    return 1
}

# check_key_form FILE: a private key in PEM without a password, which nobody could type when nginx starts.
check_key_form() {
    if [[ ! -f $1 || ! -r $1 ]]; then
        echo "无法读取 cannot be read: $1"
    elif LC_ALL=C grep -aqE '^-----BEGIN ENCRYPTED|^Proc-Type: .*ENCRYPTED' "$1"; then
        echo "私钥有密码，nginx 无法打开；请去除。The private key has a password; remove it: openssl pkey -in ${1@Q} -out privkey.pem"
    elif LC_ALL=C grep -aqE '^-----BEGIN ([A-Z]+ )?PRIVATE KEY-----' "$1"; then
        if openssl pkey -in "$1" -noout 2>/dev/null </dev/null; then return 0; fi
        echo "私钥已损坏 the private key is damaged: $1"
    elif openssl pkey -inform DER -in "$1" -noout 2>/dev/null </dev/null; then
        echo "私钥是 DER 格式，请转为 PEM。The private key is in DER; convert it to PEM: openssl pkey -inform DER -in ${1@Q} -out privkey.pem"
    else
        echo "不是 PEM 私钥 is not a private key in PEM: $1"
    fi
    return 1
}

# check_split CHAIN FOLDER: writes each certificate into a file of its own and checks that it can be parsed.
check_split() {
    local file
    awk -v folder="$2" '
        /^-----BEGIN CERTIFICATE-----/ { file = folder "/" count++ ".pem" }
        file != "" { print > file }
        /^-----END CERTIFICATE-----/ { close(file); file = "" }' "$1"
    for file in "$2"/*.pem; do
        if ! openssl x509 -in "$file" -noout 2>/dev/null; then
            echo "证书链第 $(place_of "$file") 张已损坏。Certificate $(place_of "$file") of the chain is damaged"
            return 1
        fi
    done
}

# place_of FILE: the number of this certificate in the chain, from 1.
place_of() {
    local file=${1##*/}
    echo $((${file%.pem} + 1))
}

# check_match KEY FOLDER: the key belongs to the first certificate.
check_match() {
    local key file
    key=$(openssl pkey -in "$1" -pubout 2>/dev/null)
    for file in "$2"/*.pem; do
        [[ $(openssl x509 -in "$file" -noout -pubkey 2>/dev/null) == "$key" ]] || continue
        [[ $file != "$2/0.pem" ]] || return 0
        echo "证书链顺序错误：服务器证书应在最前，之后依次是各签发者。The chain is in the wrong order: the server's certificate comes first, then each issuer"
        return 1
    done
    echo "私钥与证书不匹配。The private key does not belong to this certificate"
    return 1
}

# check_dates FOLDER: all certificates are valid now.
check_dates() {
    local file start end
    for file in "$1"/*.pem; do
        start=$(openssl x509 -in "$file" -noout -startdate) end=$(openssl x509 -in "$file" -noout -enddate)
        if (($(date -d "${start#*=}" +%s) > $(date +%s))); then
            echo "证书链第 $(place_of "$file") 张尚未生效，请核对本机时钟。Certificate $(place_of "$file") of the chain is not valid before ${start#*=}: is the clock right?"
            return 1
        elif ! openssl x509 -in "$file" -noout -checkend 0 >/dev/null; then
            echo "证书链第 $(place_of "$file") 张已过期。Certificate $(place_of "$file") of the chain expired on ${end#*=}"
            return 1
        fi
    done
}

# check_links FOLDER: each certificate was issued by the next one, and the server's is not alone if it needs an issuer.
check_links() {
    local file issuer
    for file in "$1"/*.pem; do
        issuer=$1/$(place_of "$file").pem
        [[ -e $issuer ]] || continue
        if ! openssl verify -partial_chain -no_check_time -trusted "$issuer" "$file" >/dev/null 2>&1; then
            echo "证书链顺序错误或缺少中间证书：第 $(place_of "$issuer") 张并非第 $(place_of "$file") 张的签发者。The chain is out of order or lacks a certificate: number $(place_of "$issuer") has not issued number $(place_of "$file")"
            return 1
        fi
    done
    [[ ! -e $1/1.pem ]] || return 0
    is_self_signed "$1/0.pem" || is_publicly_trusted "$1/0.pem" "$1/0.pem" && return 0
    echo "证书链不完整：请在服务器证书之后附上签发者的证书。The chain is incomplete: add the issuer's certificate after the server's"
    return 1
}

# is_self_signed FILE
is_self_signed() {
    [[ $(openssl x509 -in "$1" -noout -subject_hash) == "$(openssl x509 -in "$1" -noout -issuer_hash)" ]]
}

# warn_of_pinning: programs in the field may trust the certificate in use and no other. TLS does not tell the server whom a
# client trusts, so that it cannot serve each client the certificate that it wants.
warn_of_pinning() {
    local back
    [[ -e https_certificates/fullchain.pem ]] && is_self_signed https_certificates/fullchain.pem || return 0
    back="scripts/deploy-certificate.sh https_certificates/self-signed-{fullchain,privkey}.pem --domain $(certificate_names https_certificates/fullchain.pem | cut -d ' ' -f 1)"
    warn "将替换自签名证书：以 ca_file 内置它、又未传 public_cas=True 的程序，此后拒绝连接；同一域名和端口只能提供一张证书。换回：$back。This replaces a self-signed certificate. Programs that ship it as their ca_file, without public_cas=True, then refuse to connect: one name and port can have one certificate only. To serve it again: $back"
}

# is_publicly_trusted FILE CHAIN: by the system's trust store, or the one that SSL_CERT_FILE names.
is_publicly_trusted() {
    openssl verify -purpose sslserver -untrusted "$2" "$1" >/dev/null 2>&1
}

# check_names FILE NAME…: a client that asks for any of these names accepts the certificate.
check_names() {
    local file=$1 name check
    shift
    if ! openssl x509 -in "$file" -noout -ext subjectAltName 2>/dev/null | grep -qE 'DNS:|IP Address:'; then
        echo "证书没有 subjectAltName，客户端不会接受。The certificate has no subjectAltName, so no client accepts it"
        return 1
    fi
    for name in "$@"; do
        check=-checkhost
        if is_ip "$name"; then check=-checkip; fi
        if ! openssl x509 -in "$file" -noout "$check" "$name" | grep -q 'does match'; then
            echo "证书不含 $name。The certificate does not name $name; it names: $(certificate_names "$file")"
            return 1
        fi
    done
}

# certificate_names FILE: its names on one line.
certificate_names() {
    openssl x509 -in "$1" -noout -ext subjectAltName 2>/dev/null \
        | sed -n 's/^ *//; s/DNS://g; s/IP Address://g; s/, / /g; 2p'
}

# certificate_fact FILE serial|enddate
certificate_fact() {
    openssl x509 -in "$1" -noout "-$2" | cut -d = -f 2-
}

# nginx_runs: nginx's container is running.
nginx_runs() {
    command -v docker >/dev/null && [[ -n $(compose ps --quiet --status running nginx 2>/dev/null </dev/null) ]]
}
