# shellcheck shell=bash
# What save-images.sh and load-images.sh share. Sourced after stack.sh, never run.
# shellcheck disable=SC2034  # PACKER and IMAGES are for the scripts that source this

# parse_file ARGUMENT…: the one archive that the caller names, into FILE.
parse_file() {
    FILE=''
    while (($#)); do
        case $1 in
            -h | --help) print_help "$0"; exit ;;
            -*) usage_error "未知参数 unknown argument: $1" ;;
            *)
                [[ -z $FILE ]] || usage_error "只能有一个文件 one FILE only: $1"
                FILE=$1
                ;;
        esac
        shift
    done
    [[ -n $FILE ]] || usage_error "缺少文件名 FILE is missing"
    choose_packer "$FILE"
}

# choose_packer FILE: its name says how it is packed; PACKER, which is there, does that, and undoes it with -d.
choose_packer() {
    case $1 in
        *.tar.zst) PACKER=zstd && need zstd zstd ;;
        *.tar.gz) PACKER=gzip && need gzip gzip ;;
        *) usage_error "文件名须以 .tar.zst 或 .tar.gz 结尾 FILE must end in .tar.zst or .tar.gz: $1" ;;
    esac
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
