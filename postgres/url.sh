# shellcheck shell=bash
# Takes the URLs in secrets/ apart: postgresql://USER:PASSWORD@HOST[:PORT][,HOST…]/NAME[?SETTING=VALUE…]. Sourced, never run.

# read_url FILE: sets URL_PASSWORD (decoded), URL_DATABASE, and what stands before and after the latter,
# without the password. Fails on what is no such URL.
read_url() {
    local url
    url=$(<"$1") || return 1
    [[ $url =~ ^postgres(ql)?://([^:@/?]+)(:([^@/?]*))?@([^/?]*)/([^/?]+)(\?.*)?$ ]] || return 1
    URL_PASSWORD=$(decoded "${BASH_REMATCH[4]}")
    URL_DATABASE=${BASH_REMATCH[6]}
    # shellcheck disable=SC2034  # as-role's
    URL_BEFORE=postgresql://${BASH_REMATCH[2]}@${BASH_REMATCH[5]}/ URL_AFTER=${BASH_REMATCH[7]}
    [[ $URL_AFTER != *[?\&]password=* ]] # it would stand on a command line
}

# decoded TEXT: %XX becomes the byte that it stands for.
decoded() {
    local text=${1//\\/\\\\}
    printf '%b' "${text//%/\\x}"
}

# role_variables FOLDER: the passwords in FOLDER's URLs and the database's name, as psql's variables for roles.sql.
role_variables() {
    local role
    for role in owner backup app; do
        read_url "$1/$(url_file "$role")" || return 1
        variable "${role}_password" "$URL_PASSWORD"
    done
    variable database "$URL_DATABASE"
}

# url_file ROLE
url_file() {
    if [[ $1 == app ]]; then printf database_url; else printf '%s_url' "$1"; fi
}

# variable NAME VALUE: psql's command that sets it, whatever the value holds.
variable() {
    local value=${2//\\/\\\\}
    printf "\\\\set %s '%s'\n" "$1" "${value//\'/\'\'}"
}
