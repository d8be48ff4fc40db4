# shellcheck shell=bash
# What every script here shares. Sourced, never run.

# die MESSAGE [STATUS]: one clear line on stderr, then the end.
die() {
    printf '%s: %s\n' "${0##*/}" "$1" >&2
    exit "${2:-1}"
}

# usage_error MESSAGE: the caller was wrong; exit status 2, as PROTOCOL has it.
usage_error() {
    die "$1 (see ${0##*/} --help)" 2
}

# print_help FILE: the comment at the head of a script is its help.
print_help() {
    sed -n '2,/^[^#]/ { s/^# \{0,1\}//p }' "$1"
}

# open_to_containers: users of the containers read what lies in postgres/, whatever umask it was written under.
open_to_containers() {
    [[ ! -d $ROOT/postgres ]] || find "$ROOT/postgres" ! -perm -o+r -exec chmod a+rX {} +
}

# env_file get|set|merge|render …: works on a .env file; see lib/env_file.py.
env_file() {
    python3 -B -E -s "$ROOT/scripts/lib/env_file.py" "$@"
}

# need COMMAND PACKAGE: ends when a program is missing, naming the package that brings it.
need() {
    command -v "$1" >/dev/null || die "$1 is missing: install it first (apt-get install $2)"
}
