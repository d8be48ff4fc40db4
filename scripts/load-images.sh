#!/usr/bin/env bash
# 从 scripts/save-images.sh 生成的文件载入镜像；之后启动服务无需镜像仓库，也不再构建。
# Loads the images from a file that scripts/save-images.sh made; `docker compose up -d --wait` then needs no registry
# and builds nothing.
#
#   scripts/load-images.sh FILE      FILE.sha256 must lie beside it
#
# 校验不符时不载入任何内容。Nothing is loaded unless the checksum is right.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"

parse_options '' "$@"
at_most 1
file=${OPERANDS[0]:-}
[[ -n $file ]] || usage_error "缺少文件名 FILE is missing"
require_docker
require_readable "$file"
[[ -r $file.sha256 ]] || die "缺少校验文件，请一并复制。Its checksum is missing, copy that too: $file.sha256"
sum=$(sha256sum <"$file")
[[ $(<"$file.sha256") == "${sum%% *} "* ]] \
    || die "校验不符，未载入，请重新复制。The checksum is wrong, nothing was loaded: copy it anew: $file"
docker load --quiet --input "$file" || die "Docker 无法载入（磁盘已满？）。Docker could not load it (disk full?): $file"
if [[ ! -e $ROOT/.env ]]; then
    say "下一步 next: $(printf '%q' "$ROOT")/scripts/init.sh"
    exit
fi

listed=$(compose config --images </dev/null) \
    || die "docker compose config 失败，请检查 .env。docker compose config fails: check .env"
here=$(docker version --format '{{.Server.Arch}}')
while read -r image; do
    theirs=$(docker image inspect --format '{{.Architecture}}' "$image" 2>/dev/null) \
        || die "文件中没有 $image：用 docker tag 改名，或修改 .env。It was not in the file: docker tag LOADED $image, or edit .env"
    [[ $theirs == "$here" ]] \
        || die "镜像适用于 $theirs，而本机是 $here。Made for another processor ($theirs, this machine is $here): $image"
done <<<"$listed"
say "下一步 next: cd $(printf '%q' "$ROOT") && docker compose up -d --wait"
