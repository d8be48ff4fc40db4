#!/usr/bin/env bash
# 把本系统的全部镜像存入一个文件，供连不上镜像仓库的服务器使用。
# Saves all images of this checkout's stack in one file, for a server that reaches no registry: the app's, which is built
# first, and those of PostgreSQL and nginx, which are pulled if they are missing.
#
#   scripts/save-images.sh FILE      FILE ends in .tar.zst (zstd) or .tar.gz (gzip)
#
# 另写校验文件 FILE.sha256，请一并复制；镜像摘要记入 FILE.digests。Also writes FILE.sha256: copy both, and run
# scripts/load-images.sh FILE on the other machine, which needs the same checkout and processor family. FILE.digests records
# the images' digests, by which .env may pin them (IMAGE@sha256:…).
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/images.sh
source "$ROOT/scripts/lib/images.sh"

# check_target: refuses before an image is built.
check_target() {
    local folder
    folder=$(dirname -- "$FILE")
    [[ ! -e $FILE ]] || die "文件已存在，请换个名字。It exists, choose another name: $FILE"
    [[ -d $folder && -w $folder ]] || die "无法写入此目录 cannot write there: $folder"
}

# fetch_images: builds the app's image and pulls the others unless they are here.
fetch_images() {
    local image app
    app=$(setting KADUN_APP_IMAGE '')
    say "正在构建 building: $app"
    compose build --quiet app </dev/null || die "构建失败。The app's image could not be built"
    for image in "${IMAGES[@]}"; do
        if has_image "$image"; then continue; fi
        say "正在拉取 pulling: $image"
        docker pull --quiet "$image" >/dev/null || die "无法拉取，可换镜像站（scripts/provision.sh --mirror-registry）。Cannot be pulled; a mirror may help (scripts/provision.sh --mirror-registry): $image"
    done
}

# record_digests: prints each image under its tag, with the registry's digest; one that was built here has its ID only.
record_digests() {
    local image
    for image in "${IMAGES[@]}"; do
        docker image inspect --format '{{if .RepoDigests}}{{index .RepoDigests 0}}{{else}}{{.Id}}{{end}}' "$image" \
            | sed -E "s|^(.*@)?(.*)$|\2  $(tag_of "$image")|" || return 1
    done
}

# save_images: the files get their names when they are whole. An archive knows tags only: what is pinned gets its tag here.
save_images() {
    local sum name image
    local -a tags=()
    name=$(basename -- "$FILE")
    trap 'rm -f -- "$FILE.partial" "$FILE.sha256.partial" "$FILE.digests.partial"' EXIT
    for image in "${IMAGES[@]}"; do
        [[ $image != *@* ]] || docker tag "$image" "$(tag_of "$image")" || die "无法命名 cannot tag: $image"
        tags+=("$(tag_of "$image")")
    done
    record_digests >"$FILE.digests.partial" || die "无法读取镜像摘要。The images' digests cannot be read"
    docker save "${tags[@]}" | "$PACKER" -q >"$FILE.partial" \
        || die "写入失败（磁盘已满？），未生成文件。Could not be written (disk full?), nothing was made: $FILE"
    "$PACKER" -qd <"$FILE.partial" | tar -t >/dev/null || die "写成的文件无法读回。What was written cannot be read back: $FILE"
    sum=$(sha256sum <"$FILE.partial")
    printf '%s  %s\n' "${sum%% *}" "$name" >"$FILE.sha256.partial"
    sync -- "$FILE.partial" "$FILE.sha256.partial" "$FILE.digests.partial"
    mv -fT -- "$FILE.digests.partial" "$FILE.digests"
    mv -fT -- "$FILE.sha256.partial" "$FILE.sha256"
    mv -fT -- "$FILE.partial" "$FILE"
}

parse_file "$@"
check_target
require_stack
find_images
fetch_images
save_images
sed 's/^/已保存 saved: /' "$FILE.digests"
say "文件 files: $FILE ($(du -h -- "$FILE" | cut -f 1)), $FILE.sha256"
say "在另一台服务器上 on the other machine: scripts/load-images.sh $(basename -- "$FILE")"
