# shellcheck shell=bash
# Parses the URLs in secrets/: postgresql://USER:PASSWORD@HOST[:PORT][,HOST…]/NAME[?SETTING=VALUE…]. Sourced, never run.

# read_url FILE: sets URL_PASSWORD (decoded), URL_DATABASE, and URL_BEFORE and URL_AFTER, the rest of the URL without the
# password. Fails if the URL is invalid.
read_url() {
    local url
    url=$(<"$1") || return 1
    [[ $url =~ ^postgres(ql)?://([^:@/?]+)(:([^@/?]*))?@([^/?]*)/([^/?]+)(\?.*)?$ ]] || return 1
    URL_PASSWORD=$(decoded "${BASH_REMATCH[4]}")
    URL_DATABASE=${BASH_REMATCH[6]}
    # shellcheck disable=SC2034  # as-role's
    URL_BEFORE=postgresql://${BASH_REMATCH[2]}@${BASH_REMATCH[5]}/ URL_AFTER=${BASH_REMATCH[7]}
    [[ $URL_AFTER != *[?\&]password=* ]] # it would appear on a command line
}

# decoded TEXT: decodes %XX.
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

# variable NAME VALUE: the psql command that sets it, with the value quoted.
variable() {
    local value=${2//\\/\\\\}
    printf "\\\\set %s '%s'\n" "$1" "${value//\'/\'\'}"
}
