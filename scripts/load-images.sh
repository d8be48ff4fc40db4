#!/usr/bin/env bash
# 从 scripts/save-images.sh 生成的文件载入镜像；之后启动服务无需镜像仓库，也不再构建。
# Loads the images from a file that scripts/save-images.sh made; `docker compose up -d --wait` then needs no registry and
# builds nothing.
#
#   scripts/load-images.sh FILE      FILE.sha256 must lie beside it
#
# 校验不符时不载入任何内容。Nothing is loaded unless the checksum is right.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/images.sh
source "$ROOT/scripts/lib/images.sh"

# check_file: compares the checksum. The file may have been renamed.
check_file() {
    local sum wanted
    [[ -f $FILE && -r $FILE ]] || die "无法读取 cannot be read: $FILE"
    [[ -r $FILE.sha256 ]] || die "缺少校验文件，请一并复制。Its checksum is missing, copy that too: $FILE.sha256"
    read -r wanted _ <"$FILE.sha256" || true
    sum=$(sha256sum <"$FILE")
    [[ ${sum%% *} == "$wanted" ]] \
        || die "校验不符，未载入，请重新复制。The checksum is wrong, nothing was loaded: copy it anew: $FILE"
}

# check_processor: an image for another processor family would load but not run.
check_processor() {
    local image here theirs
    here=$(docker version --format '{{.Server.Arch}}')
    for image in "$@"; do
        theirs=$(docker image inspect --format '{{.Architecture}}' "$image")
        [[ $theirs == "$here" ]] \
            || die "镜像适用于 $theirs，而本机是 $here。Made for another processor ($theirs, this machine is $here): $image"
    done
}

# check_complete: all images of this checkout's stack are here now.
check_complete() {
    local image
    [[ -e $ROOT/.env ]] || return 0
    find_images
    for image in "${IMAGES[@]}"; do
        if [[ $image == *@* ]] && ! has_image "$image" && has_image "$(tag_of "$image")"; then
            die "Docker 未能从文件中保留摘要：请在 .env 中把 $image 写作 $(tag_of "$image")。Docker did not keep the digest from the file: write $(tag_of "$image") instead of $image into .env"
        fi
        has_image "$image" \
            || die ".env 所用的镜像不在文件中：可用 docker tag 改名，或修改 .env。It is named in .env and was not in the file: docker tag IMAGE $image, or edit .env"
    done
}

parse_file "$@"
check_file
require_docker
loaded=$("$PACKER" -qd <"$FILE" | docker load | sed -n 's/^Loaded image: //p') \
    || die "Docker 无法载入（磁盘已满？）。Docker could not load it (disk full?): $FILE"
mapfile -t loaded <<<"$loaded"
printf '已载入 loaded: %s\n' "${loaded[@]}"
check_processor "${loaded[@]}"
check_complete
if [[ -e $ROOT/.env ]]; then
    say "下一步 next: cd $(printf '%q' "$ROOT") && docker compose up -d --wait"
else
    say "下一步 next: $(printf '%q' "$ROOT")/scripts/init.sh"
fi
