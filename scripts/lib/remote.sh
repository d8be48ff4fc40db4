# shellcheck shell=bash
# Another machine over SSH: the new server of scripts/migrate-to.sh, or those that get a certificate. Sourced, never run. Needs HOST,
# DIRECTORY and SSH_OPTIONS.

# shellcheck source=scripts/lib/database.sh
source "$ROOT/scripts/lib/database.sh"

SSH_SOCKET=''
SSH_PATIENCE=(-o ServerAliveInterval=15 -o ServerAliveCountMax=8 -o ConnectTimeout=20)

# take_ssh_options: of --ssh-port and --ssh-option.
take_ssh_options() {
    local option
    [[ -z ${OPTION[ssh-port]:-} ]] || SSH_OPTIONS+=(-p "${OPTION[ssh-port]}")
    while IFS= read -r option; do
        [[ -z $option ]] || SSH_OPTIONS+=(-o "$option")
    done <<<"${OPTION[ssh-option]:-}"
}

# open_connection: all commands share one, so that a password is typed once.
open_connection() {
    SSH_SOCKET=$(mktemp -d)
    SSH_OPTIONS+=(-o ControlMaster=auto -o "ControlPath=$SSH_SOCKET/%C" -o ControlPersist=60
        "${SSH_PATIENCE[@]}")
    ssh "${SSH_OPTIONS[@]}" -- "$HOST" true </dev/null \
        || die "无法登录 $HOST（ssh 的原因见上）。Cannot log in to $HOST; see ssh's message above"
}

close_connection() {
    [[ -n $SSH_SOCKET ]] || return 0
    ssh "${SSH_OPTIONS[@]}" -O exit -- "$HOST" >/dev/null 2>&1 || true
    rm -rf -- "$SSH_SOCKET"
}

# quoted WORD…: the words as one line, quoted for any shell.
quoted() {
    local word
    for word in "$@"; do printf "'%s' " "${word//\'/\'\\\'\'}"; done
}

# remote COMMAND…: runs it there, with this standard input.
remote() {
    # shellcheck disable=SC2029  # quoted for the shell on the other side
    ssh "${SSH_OPTIONS[@]}" -- "$HOST" "$(quoted "$@")"
}

# remote_checkout COMMAND…: runs it in the checkout there.
remote_checkout() {
    # shellcheck disable=SC2016  # for the bash on the other side
    remote bash -c 'cd -- "$1" && shift && exec "$@"' bash "$DIRECTORY" "$@"
}

# check_remote KILOBYTES: checks Docker, tools, space and the folder. Prints what the folder holds: `code` or `nothing`.
check_remote() {
    remote bash -s -- "$DIRECTORY" "$1" "$(own_schema)" <<'END'
        fail() { printf '%s: %s\n' "$(hostname)" "$1" >&2; exit 1; }
        for program in docker tar openssl flock python3 age-keygen; do
            command -v "$program" >/dev/null || fail "缺少 $program。It lacks $program: run scripts/provision.sh there first"
        done
        docker compose version >/dev/null 2>&1 || fail "缺少 Docker Compose。It lacks Docker Compose: run scripts/provision.sh there first"
        docker info >/dev/null 2>&1 || fail "Docker 没有响应。Docker does not answer there: does it run, and may $(id -un) use it?"
        folder=$1
        while [[ ! -e $folder ]]; do folder=$(dirname -- "$folder"); done
        [[ -d $folder && -w $folder ]] || fail "无法写入 $(id -un) cannot write to $folder: log in as another user, or choose another --directory"
        free=$(df -Pk -- "$folder" | awk 'NR == 2 { print $4 }')
        ((free >= $2)) || fail "磁盘空间不足，需 $(($2 / 1024)) MB。Not enough room in $folder: $(($2 / 1024)) MB are needed, $((free / 1024)) MB are free"
        if [[ -e $1/scripts/import.sh ]]; then
            cd -- "$1/app/storage/migrations" || exit 1
            schema=$(printf '%s\n' [0-9]*.sql | sort | tail -n 1)
            [[ -e $schema ]] || schema=0000 # release 1.0 wrote them in Python
            [[ ! ${schema%.sql} < $3 ]] || fail "$1 中的代码较旧：请先更新。The code in $1 is older than here (schema ${schema%.sql}, here $3): update it first"
            echo code
        elif [[ -d $1 && -n $(ls -A -- "$1") ]]; then
            fail "$1 非空且不是卡盾的目录。$1 is not empty and not a checkout of Kadun: choose another --directory"
        else
            echo nothing
        fi
END
}

# send_code: copies this checkout's code, whole or not at all; with its history if it is a clone, so that it can be upgraded.
send_code() {
    # shellcheck disable=SC2016  # for the bash on the other side
    pack_code | remote bash -c 'rm -rf -- "$1.new" && mkdir -p -- "$1.new" && tar -x -C "$1.new" -f - --no-same-owner &&
        mkdir -p -- "$1" && mv -T -- "$1.new" "$1"' bash "$DIRECTORY"
}

# pack_code: prints a tar of the code, without what scripts/init.sh and the service have made.
pack_code() {
    local -a git=(git -c safe.directory='*' -C "$ROOT")
    if command -v git >/dev/null && [[ -d $ROOT/.git ]] && "${git[@]}" rev-parse HEAD >/dev/null 2>&1; then
        { "${git[@]}" ls-files -z --cached; printf '.git\0'; } \
            | tar --create --file - --directory "$ROOT" --null --ignore-failed-read --files-from -
    else
        tar --create --file - --directory "$ROOT" --anchored --exclude=./.env --exclude=./secrets --exclude=./data \
            --exclude=./.venv --exclude=./.trial --exclude='./https_certificates/[!R]*' --exclude='./.*_cache' .
    fi
}
