# shellcheck shell=bash disable=SC2034  # variables for the scripts that source this
# Messages, options and small helpers for all scripts. Sourced, never run. Needs ROOT, the checkout.

REASON='' # the message of the last `die`
LOCK='' # set by open_lock

# say MESSAGE, warn MESSAGE: one line for the vendor, Chinese first, on standard output or standard error.
say() { printf '%s\n' "$1"; }
warn() { printf '%s: %s\n' "${0##*/}" "$1" >&2; }

# die MESSAGE [STATUS]: prints one line on standard error and ends the script.
die() {
    REASON=$1
    warn "$1"
    exit "${2:-1}"
}

# usage_error MESSAGE: ends the script with exit status 2.
usage_error() { die "$1 (see ${0##*/} --help)" 2; }

# print_help FILE: prints the comment at the head of a script.
print_help() { sed -n '2,/^[^#]/ { s/^# \{0,1\}//p }' "$1"; }

# parse_options OPTIONS ARGUMENT…: fills OPTION, OPERANDS and PASSED_ON (what follows --). OPTIONS lists the long options
# by name: `quiet` is a switch, `identity=` takes a value, `domain=*` may be repeated (one value a line).
declare -A OPTION=()
OPERANDS=() PASSED_ON=()
parse_options() {
    local options=" $1 " name
    shift
    while (($#)); do
        name=${1#--}
        case $1 in
            -h | --help) print_help "$0"; exit ;;
            --) PASSED_ON=("${@:2}"); return ;;
            - | [!-]* | '') OPERANDS+=("$1") ;;
            *)
                if [[ $options == *" $name "* ]]; then
                    OPTION[$name]=yes
                elif [[ $options == *" $name=* "* || $options == *" $name= "* ]]; then
                    [[ -n ${2:-} ]] || usage_error "缺少参数 a value is missing: $1"
                    if [[ $options == *" $name=* "* && -n ${OPTION[$name]:-} ]]; then OPTION[$name]+=$'\n'$2; else OPTION[$name]=$2; fi
                    shift
                else
                    usage_error "未知参数 unknown argument: $1"
                fi
                ;;
        esac
        shift
    done
}

# at_most NUMBER: no more operands than that.
at_most() { ((${#OPERANDS[@]} <= $1)) || usage_error "未知参数 unknown argument: ${OPERANDS[$1]}"; }

# check_option NAME PATTERN WANTED: each of its values, if any was given, matches the pattern.
check_option() {
    local value
    while IFS= read -r value; do
        [[ -z $value || $value =~ ^($2)$ ]] || usage_error "--$1 须为 wants $3: $value"
    done <<<"${OPTION[$1]:-}"
}
PORT='[1-9][0-9]{0,4}' HOST_NAME='[A-Za-z0-9]([A-Za-z0-9._-]{0,55}[A-Za-z0-9])?' # as in app/domain/hosts.py

# only_with OPTION OTHER, exclusive OPTION OTHER: of the options that were given.
only_with() { [[ -z ${OPTION[$1]:-} || -n ${OPTION[$2]:-} ]] || usage_error "--$1 只用于 --$2 is for --$2"; }
exclusive() { [[ -z ${OPTION[$1]:-} || -z ${OPTION[$2]:-} ]] || usage_error "--$1 与 --$2 只能选一个 --$1 and --$2 exclude each other"; }

require_root() { [[ $EUID == 0 ]] || die "请以 root 运行。Run this as root: sudo scripts/${0##*/}"; }
require_readable() { [[ -f $1 && -r $1 ]] || die "无法读取 cannot read $1"; }

# env_is_whole: .env is there, and not cut off.
env_is_whole() { [[ -n $(setting KADUN_UID) && -n $(setting KADUN_APP_IMAGE) ]]; }

require_prepared() {
    env_is_whole || die "没有完整的 .env：请先执行 scripts/init.sh。.env is missing or cut off: run scripts/init.sh first"
}

# need COMMAND PACKAGE: ends the script where a program is missing, and names the package that brings it.
need() { command -v "$1" >/dev/null || die "$1 is missing: install it first (apt-get install $2)"; }

# library FILE ARGUMENT…: a program of scripts/lib, with the machine's python3 and the standard library alone.
library() { python3 -B -E -s -S "$ROOT/scripts/lib/$1" "${@:2}"; }

# setting NAME [DEFAULT]: a setting from .env, or the default where it is unset or empty.
setting() { setting_in "$ROOT/.env" "$@"; }

# setting_in FILE NAME [DEFAULT]: as Docker Compose reads it: the last line counts; quotes, and a comment behind, are not part of
# the value. Escapes and variables stay as they are written.
setting_in() {
    local value
    value=$(sed -n "s/^[ \t]*\(export[ \t]\+\)\?$2[ \t]*=[ \t]*//p" "$1" 2>/dev/null | tail -n 1 | tr -d '\r') || value=''
    case $value in
        '"'*'"'*) value=${value#'"'} value=${value%%'"'*} ;;
        "'"*"'"*) value=${value#"'"} value=${value%%"'"*} ;;
        *) value=${value%%' #'*} value=${value%"${value##*[! ]}"} ;;
    esac
    printf '%s' "${value:-${3:-}}"
}

# set_setting NAME VALUE [FILE]: in its line of .env, in the one where it is commented out, or in a new one.
set_setting() {
    local file=${3:-$ROOT/.env}
    cp -p -- "$file" "$file.new" && NAME=$1 LINE=$1=$2 awk '
        index($0, ENVIRON["NAME"] "=") == 1 || (!done && index($0, "#" ENVIRON["NAME"] "=") == 1) {
            if (!done++) print ENVIRON["LINE"]
            next
        }
        { print }
        END { if (!done) print ENVIRON["LINE"] }' "$file" >"$file.new" \
        && sync -- "$file.new" && mv -fT -- "$file.new" "$file"
}

# remind_to_copy: the one file without which no backup opens must lie on another machine, too, until .env says that it does.
remind_to_copy() {
    [[ $(setting KADUN_IDENTITY_COPIED no) == yes ]] \
        || say "请把 secrets/backup_identity 复制到别的机器，再在 .env 中设置 KADUN_IDENTITY_COPIED=yes：没有它，任何备份都无法解密。Copy secrets/backup_identity to another machine, then set KADUN_IDENTITY_COPIED=yes in .env: nothing else opens the backups"
}

# open_to_containers: the containers' users can read deploy/postgres/, whatever umask it was written under.
open_to_containers() {
    [[ ! -d $ROOT/deploy/postgres ]] || find "$ROOT/deploy/postgres" ! -perm -o+r -exec chmod a+rX {} +
}

# open_lock NAME: opens data/.NAME.lock as LOCK, for flock. Only root and the checkout's owner can: whoever can read a file can
# lock it, and could keep backups and certificates from being renewed.
open_lock() {
    local file=$ROOT/data/.$1.lock
    {
        if [[ ! -e $file ]]; then
            (umask 077 && mkdir -p -- "$ROOT/data" && : >>"$file")
            if [[ $EUID == 0 ]]; then chown --reference="$ROOT" -- "$ROOT/data" "$file"; fi
        fi
        exec {LOCK}<>"$file"
    } 2>/dev/null || die "无法写入 cannot write $file: 请以 root 或此目录的所有者运行 run this as root or as the checkout's owner"
}

# hold_lock NAME SECONDS: until the script ends; waits for so long.
hold_lock() {
    open_lock "$1"
    flock --wait "$2" "$LOCK" || die "另一个脚本正在此运行，请稍候再试。Another script is at work here: try again when it is done; one that was killed ends within seconds"
}

is_ipv6() { [[ $1 == *:*:* && $1 =~ ^[0-9A-Fa-f:.]+$ ]]; }
is_ip() { [[ $1 =~ ^[0-9]+(\.[0-9]+){3}$ ]] || is_ipv6 "$1"; }

# is_host_name NAME: it may be KADUN_HOST.
is_host_name() { [[ $1 =~ ^$HOST_NAME$ ]]; }

# absolute FILE: its absolute path, before the script changes its folder.
absolute() { if [[ $1 == /* ]]; then printf '%s' "$1"; else printf '%s/%s' "$PWD" "$1"; fi; }

# quoted WORD…: the words as one line, quoted for any shell.
quoted() {
    local word
    for word in "$@"; do printf "'%s' " "${word//\'/\'\\\'\'}"; done
}

# ssh_words PORT OPTIONS: what --ssh-port and --ssh-option (one a line) are to ssh, one word a line.
ssh_words() {
    [[ -z $1 ]] || printf '%s\n' -p "$1"
    [[ -z $2 ]] || printf '%s\n' -o "${2//$'\n'/$'\n-o\n'}"
}

# last_line TEXT: the line in which a program usually says what went wrong.
last_line() { tail -n 1 <<<"$1"; }

# error_line TEXT: the line that explains a failure, from the output of several programs.
error_line() {
    grep --ignore-case --max-count=1 'no space left' <<<"$1" \
        || grep --ignore-case --max-count=1 'error' <<<"$1" || last_line "$1"
}
