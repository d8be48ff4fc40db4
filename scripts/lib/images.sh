# shellcheck shell=bash
# What save-images.sh and load-images.sh share. Sourced after stack.sh, never run.
# shellcheck disable=SC2034  # PACKER and IMAGES are for the scripts that source this

# choose_packer FILE: its name says how it is packed; PACKER, which is there, does that, and undoes it with -d.
choose_packer() {
    case $1 in
        *.tar.zst) PACKER=zstd && need zstd zstd ;;
        *.tar.gz) PACKER=gzip && need gzip gzip ;;
        *) usage_error "文件名须以 .tar.zst 或 .tar.gz 结尾 FILE must end in .tar.zst or .tar.gz: $1" ;;
    esac
}

# require_docker: for a machine where scripts/init.sh may not have run.
require_docker() {
    need docker docker.io
    docker info >/dev/null 2>&1 \
        || die "Docker 没有响应：请检查其是否运行、您是否有权限。Docker does not answer: is it running, and may $(id -un) use it?"
}

# find_images: what this checkout's stack starts, into IMAGES.
find_images() {
    local listed
    listed=$(compose config --images </dev/null) || die "无法读取 docker-compose.yml 或 .env。docker compose cannot read its settings"
    mapfile -t IMAGES < <(sort -u <<<"$listed")
}

has_image() {
    docker image inspect "$1" >/dev/null 2>&1
}
