#!/usr/bin/env bash
# The start of service `database`, before the image's own entry point, which goes on as user postgres.
# That user gets what it needs of the secrets here: on the host they are others', and nobody else can read them.
set -euo pipefail

# is_half_made: there is a cluster, with no database beyond those that initdb makes. Where that cannot be seen for sure, no.
is_half_made() {
    local names
    [[ -e $PGDATA/pg_wal ]] && names=$(find "$PGDATA/base" -mindepth 1 -maxdepth 1 -printf '%f\n') || return 1
    ! grep -qE '^[0-9]{5,}$' <<<"$names"
}

# What a first start leaves that was killed, the image would take for a whole one. Nobody has been let in yet.
if is_half_made; then
    echo "the first start was interrupted: it begins again" >&2
    find "$PGDATA" -mindepth 1 -delete
fi

folder=/run/postgresql/.secrets
install -d -o postgres -m 700 "$folder"
install -o postgres -m 400 /run/secrets/db_password "$folder"
if [[ ! -s $PGDATA/PG_VERSION ]]; then # the roles are made once
    install -o postgres -m 400 /run/secrets/{owner,backup,database}_url "$folder"
fi
exec docker-entrypoint.sh "$@"
