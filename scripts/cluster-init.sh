#!/usr/bin/env bash
# 为三台机器的高可用数据库生成密钥、证书与配置；再次运行不改动已有文件，只补缺，或改换 --app。
# Makes the secrets, certificates and configuration of a highly available database on three machines. A second run changes
# nothing that exists; it only adds what is missing. With other --app it changes which app machines may log in.
#
#   scripts/cluster-init.sh --node ADDRESS --node ADDRESS --node ADDRESS [--app NETWORK]…
#   scripts/cluster-init.sh --node ADDRESS --node ADDRESS --witness ADDRESS [--app NETWORK]…
#
#   --node ADDRESS      数据库机器的 IP 地址 the IP address of a machine with PostgreSQL, at which the others reach it
#   --witness ADDRESS   第三台小机器，只有 etcd a third, small machine with etcd alone, which breaks ties
#   --app NETWORK       应用所在的地址或网段，可多次（默认为数据库机器本身）an address or network of the app machines; may be
#                       repeated (the database's machines themselves)
#
# 写入 deploy/cluster/nodes：每台机器一个目录，复制为该机器上的 deploy/cluster/node。其中有密钥，须保密；ca.key 留在本机。
# Writes deploy/cluster/nodes: a folder for each machine, which becomes deploy/cluster/node there. The folders hold secrets. ca.key stays here.
# 步骤见 docs/several-machines.zh-CN.md。docs/several-machines.md has all the steps. Needs openssl and python3.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/common.sh
source "$ROOT/scripts/lib/common.sh"

parse_options "node=* witness= app=*" "$@"
at_most 0
need openssl openssl
need python3 python3
umask 077
open_lock cluster
flock -w 30 "$LOCK" || die "另一个脚本正在此运行，请稍候再试。Another script is at work here: try again when it is done"
made=$(library cluster.py "$ROOT/deploy/cluster/nodes" \
    "${OPTION[node]:-}" "${OPTION[witness]:-}" "${OPTION[app]:-}" 2>&1) || die "$(last_line "$made")"
if [[ -z $made ]]; then
    say "一切就绪，未作改动。Everything is there already: nothing changed."
else
    say "已生成或修改 made or changed in deploy/cluster/nodes: $(cut -d ' ' -f 2 <<<"$made" | tr '\n' ' ')"
    say "请把 deploy/cluster/nodes 另存于别的机器。Keep a copy of deploy/cluster/nodes on another machine."
fi
if [[ $made == *changed* ]]; then
    say "应用机器已改为 app machines: ${OPTION[app]}"
    say "下一步：把每个 patroni.yml 复制到对应机器的 deploy/cluster/node/，逐台执行 docker compose restart database，先备库，后主库。Next: copy each patroni.yml into its machine's deploy/cluster/node/, and there run docker compose restart database, one machine at a time, the leader last."
    exit
fi
say "下一步：把每个目录复制到对应机器，见 docs/several-machines.zh-CN.md。Next: copy each folder to its machine, as docs/several-machines.md says."
