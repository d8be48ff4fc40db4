#!/usr/bin/env bash
# 为三台机器的高可用数据库生成证书与各机设置；再次运行不改动已有文件，只补缺。
# Makes the certificates and settings of a highly available database on three machines. A second run changes nothing that
# exists; it only adds what is missing.
#
#   deploy/cluster/init.sh --node ADDRESS --node ADDRESS --node ADDRESS [--new-authority]
#   deploy/cluster/init.sh --node ADDRESS --node ADDRESS --witness ADDRESS [--new-authority]
#
#   --node ADDRESS      数据库机器的 IP 地址 the IP address of a machine with PostgreSQL, at which the others reach it
#   --witness ADDRESS   第三台小机器，只有 etcd a third, small machine with etcd alone, which breaks ties
#   --new-authority     换掉全部证书（如有机器失窃）replaces all certificates, after a machine was stolen
#
# 写入 deploy/cluster/nodes：每台机器一个目录，复制为该机器上的 deploy/cluster/node。其中有密钥，须保密；ca.key 留在本机。
# Writes deploy/cluster/nodes: a folder for each machine, which becomes deploy/cluster/node there. The folders hold keys: keep
# them secret. ca.key stays here. 步骤见 docs/several-machines.zh-CN.md。docs/several-machines.md has all the steps.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/../.." && pwd -P)
source "$ROOT/scripts/lib/common.sh"
source "$ROOT/scripts/lib/secrets.sh"

# check_addresses ADDRESS…: they are three, at which another machine can be reached.
check_addresses() {
    python3 -c 'if True:
        import ipaddress, sys
        found = {ipaddress.ip_address(word) for word in sys.argv[1:]}
        assert len(found) == len(sys.argv[1:]) == 3
        assert not any(one.is_loopback or one.is_unspecified or one.is_multicast or one.is_link_local for one in found)
    ' "$@" 2>/dev/null || usage_error "须为其他机器可访问的三个 IP 地址：三个 --node，或两个 --node 加一个 --witness want three --node, or two and one --witness, each another IP address at which the other machines reach it: $*"
}

# in_url ADDRESS PORT
in_url() { if is_ipv6 "$1"; then printf '[%s]:%s' "$1" "$2"; else printf '%s:%s' "$1" "$2"; fi; }

# list FORMAT PORT MEMBER…: NAME=ADDRESS of all members as one word, each written by the format with name and place.
list() {
    local member words=()
    for member in "${@:3}"; do
        # shellcheck disable=SC2059
        words+=("$(printf "$1" "${member%%=*}" "$(in_url "${member#*=}" "$2")")")
    done
    (IFS=, && printf '%s' "${words[*]}")
}

# node_env NAME ADDRESS MEMBER…: what etcd and Patroni are told by their environment.
node_env() {
    cat <<EOF
ETCD_NAME=$1
ETCD_INITIAL_CLUSTER=$(list '%s=https://%s' 2380 "${@:3}")
ETCD_INITIAL_CLUSTER_STATE=new
ETCD_LISTEN_PEER_URLS=https://$(in_url "$2" 2380)
ETCD_INITIAL_ADVERTISE_PEER_URLS=https://$(in_url "$2" 2380)
ETCD_LISTEN_CLIENT_URLS=https://$(in_url "$2" 2379)
ETCD_ADVERTISE_CLIENT_URLS=https://$(in_url "$2" 2379)
ETCDCTL_ENDPOINTS=https://$(in_url "$2" 2379)
PATRONI_NAME=$1
PATRONI_ETCD3_HOSTS=[$(list "'%.0s%s'" 2379 "${@:3}")]
PATRONI_RESTAPI_LISTEN=$(in_url "$2" 8008)
PATRONI_RESTAPI_CONNECT_ADDRESS=$(in_url "$2" 8008)
PATRONI_POSTGRESQL_LISTEN=$(in_url "$2" 5432)
PATRONI_POSTGRESQL_CONNECT_ADDRESS=$(in_url "$2" 5432)
EOF
}

# authority: a certificate for ca.key that outlives those it signs, or a renewed one would be worth nothing.
authority() {
    openssl req -x509 -new -key ca.key -subj '/CN=Kadun cluster' -days 10950 -config /dev/null \
        -addext basicConstraints=critical,CA:true,pathlen:0 -addext keyUsage=critical,keyCertSign,cRLSign
}

# certificate NAME ADDRESS: for ten years. PostgreSQL knows a machine by the name.
certificate() {
    openssl req -x509 -new -CA ca.crt -CAkey ca.key -key "$1/tls.key" -subj "/CN=$1" -days 3650 -config /dev/null \
        -addext "subjectAltName=IP:$2" -addext extendedKeyUsage=serverAuth,clientAuth \
        -addext basicConstraints=critical,CA:false -addext keyUsage=critical,digitalSignature 2>/dev/null # a needless warning
}

parse_options "node=* witness= new-authority" "$@"
at_most 0
mapfile -t addresses < <(printf '%s' "${OPTION[node]:-}")
names=(node1 node2 node3)
if [[ -n ${OPTION[witness]:-} ]]; then names=(node1 node2 witness) && addresses+=("${OPTION[witness]}"); fi
check_addresses "${addresses[@]}"
umask 077
hold_lock cluster 30
mkdir -p "$ROOT/deploy/cluster/nodes"
cd "$ROOT/deploy/cluster/nodes"
members=()
for index in 0 1 2; do members+=("${names[index]}=${addresses[index]}"); done
place members 600 "$EUID" echo "${members[*]}"
[[ $(<members) == "${members[*]}" ]] \
    || die "deploy/cluster/nodes 属于其他机器：$(<members)。It is of other machines: give the same addresses, or move the folder away to make a new cluster"
if [[ -n ${OPTION[new-authority]:-} ]]; then rm -f ca.crt ca.key ./*/ca.crt ./*/tls.crt ./*/tls.key; fi
place ca.key 600 "$EUID" new_key
place ca.crt 600 "$EUID" authority
for index in 0 1 2; do
    name=${names[index]} address=${addresses[index]}
    mkdir -p "$name"
    place "$name/ca.crt" 600 "$EUID" cat ca.crt
    place "$name/tls.key" 600 "$EUID" new_key
    place "$name/tls.crt" 600 "$EUID" certificate "$name" "$address"
    place "$name/node.env" 600 "$EUID" node_env "$name" "$address" "${members[@]}"
    [[ ${names[2]} != witness ]] || place "$name/witness.yml" 600 "$EUID" cat ../witness.yml
done
report_made
say "下一步：把每个目录复制到对应机器，并另存一份于别处，见 docs/several-machines.zh-CN.md。Next: copy each folder to its machine, and all of them to a safe place, as docs/several-machines.md says."
