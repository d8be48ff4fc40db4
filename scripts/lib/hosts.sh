# shellcheck shell=bash
# The other machines that serve the same database. Sourced after database.sh, never run.

# A host that has reported itself of late, by PRESENT_SECONDS in app/domain/hosts.py.
PRESENT="seen_at > clock_timestamp() - interval '60 seconds'"

# host_here: this machine's name among them, KADUN_HOST; without one the service calls itself `unnamed`.
host_here() {
    local name
    name=$(setting KADUN_HOST unnamed)
    is_host_name "$name" || die ".env: KADUN_HOST 须为 1–57 个字母、数字、.、- 或 _ must be 1 to 57 letters, digits, dots, dashes or underscores: $name"
    printf '%s' "$name"
}

# other_hosts: the names of the others that have reported themselves in the database LIVE in the last minute, one a line. Fails
# where the database does not answer.
other_hosts() {
    local here found
    here=$(host_here) || exit 1
    found=$(owner_sql "$LIVE" "SELECT to_regclass('public.host') IS NOT NULL") || return 1
    [[ $found == t ]] || return 0 # a database of an older version
    # `unnamed` may be this machine, before it had a name.
    owner_sql "$LIVE" "SELECT name FROM host WHERE name NOT IN ('$here', 'unnamed') AND $PRESENT ORDER BY name"
}

# require_alone [ADVICE]: no other machine serves the database LIVE, which would go on writing to it.
require_alone() {
    local names advice=${1:-请先在那里执行 docker compose stop app nginx，一分钟后再试，完成后再启动。Stop them first, there: docker compose stop app nginx; try again a minute later, and start them again afterwards}
    names=$(other_hosts) || die "数据库没有响应，未作改动。The database does not answer; nothing was changed"
    [[ -z $names ]] \
        || die "其他主机正在使用同一数据库，未作改动。Other machines serve the same database, and nothing was changed: ${names//$'\n'/, }. $advice"
}
