#!/usr/bin/env bash
# 把本系统的全部镜像存入一个文件，供连不上镜像仓库的服务器使用。
# Saves all images of this checkout's stack in one file, for a server that reaches no registry: the app's, which is
# built first, and those of PostgreSQL and nginx, which are pulled if they are missing.
#
#   scripts/save-images.sh FILE      FILE ends in .tar.zst (zstd) or .tar.gz (gzip)
#
# 另写校验文件 FILE.sha256，请一并复制。Also writes FILE.sha256: copy both, and run scripts/load-images.sh FILE on the
# other machine, which needs the same checkout and processor family.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"

parse_options '' "$@"
at_most 1
file=${OPERANDS[0]:-}
case $file in
    *.tar.zst) packer=zstd ;;
    *.tar.gz) packer=gzip ;;
    *) usage_error "文件名须以 .tar.zst 或 .tar.gz 结尾 FILE must end in .tar.zst or .tar.gz: $file" ;;
esac
need "$packer" "$packer"
require_stack
[[ ! -e $file ]] || die "文件已存在，请换个名字。It exists, choose another name: $file"
trap 'rm -f -- "$file.partial"' EXIT
{ : >"$file.partial"; } 2>/dev/null || die "无法写入 cannot write $file"

say "正在构建 building: $(setting KADUN_APP_IMAGE)"
compose build --quiet app </dev/null || die "构建失败。The app's image could not be built"
listed=$(compose config --images </dev/null) \
    || die "docker compose config 失败，请检查 .env。docker compose config fails: check .env"
mapfile -t images < <(sort -u <<<"$listed")
for image in "${images[@]}"; do
    docker image inspect "$image" >/dev/null 2>&1 || docker pull --quiet "$image" \
        || die "无法拉取 $image，可换镜像站。It cannot be pulled, a mirror may help: scripts/provision.sh --mirror-registry"
    if [[ $image == *@* ]]; then docker tag "$image" "${image%@*}"; fi # an archive knows tags, no digests
done
docker save "${images[@]%@*}" | "$packer" -q >"$file.partial" \
    || die "写入失败（磁盘已满？），未生成文件。Could not be written (disk full?), nothing was made: $file"
sum=$(sha256sum <"$file.partial")
printf '%s  %s\n' "${sum%% *}" "$(basename -- "$file")" >"$file.sha256"
sync -- "$file.partial" "$file.sha256"
mv -fT -- "$file.partial" "$file"
printf '已保存 saved: %s\n' "${images[@]%@*}"
say "文件 files: $file ($(du -h -- "$file" | cut -f 1)), $file.sha256"
say "在另一台服务器上 on the other machine: scripts/load-images.sh $(basename -- "$file")"
