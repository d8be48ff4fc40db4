# shellcheck shell=bash
# What save-images.sh and load-images.sh share. Sourced, never run.
# shellcheck disable=SC2034  # PACKER and IMAGES are for the scripts that source this

# shellcheck source=scripts/lib/stack.sh
source "$ROOT/scripts/lib/stack.sh"

# parse_file ARGUMENT…: sets FILE, the archive that the caller names.
parse_file() {
    parse_options '' "$@"
    ((${#OPERANDS[@]} <= 1)) || usage_error "只能有一个文件 one FILE only: ${OPERANDS[1]}"
    FILE=${OPERANDS[0]:-}
    [[ -n $FILE ]] || usage_error "缺少文件名 FILE is missing"
    choose_packer "$FILE"
}

# choose_packer FILE: sets PACKER, the program that packs a file of this name; -d makes it unpack.
choose_packer() {
    case $1 in
        *.tar.zst) PACKER=zstd && need zstd zstd ;;
        *.tar.gz) PACKER=gzip && need gzip gzip ;;
        *) usage_error "文件名须以 .tar.zst 或 .tar.gz 结尾 FILE must end in .tar.zst or .tar.gz: $1" ;;
    esac
}

# find_images: sets IMAGES, the images that this checkout's stack uses.
find_images() {
    local listed
    listed=$(compose config --images </dev/null) || die "无法读取 docker-compose.yml 或 .env。docker compose cannot read its settings"
    mapfile -t IMAGES < <(sort -u <<<"$listed")
}

# tag_of IMAGE: its name without the digest that pins it.
tag_of() { printf '%s' "${1%@*}"; }

has_image() {
    docker image inspect "$1" >/dev/null 2>&1
}
