#!/usr/bin/env bash
# The entry point of service `database`, before the image's own, which continues as user postgres. Copies the secrets that
# this user needs: on the host they belong to other users.
set -euo pipefail

# The image would take the remains of an interrupted first start for a whole cluster. The mark exists from before initdb
# (the script beside this one) until the roles are made (init/10-roles.sh), while nobody can connect.
if [[ -d $PGDATA/.first-start ]]; then
    echo "the first start was interrupted: starting over" >&2
    find "$PGDATA" -mindepth 1 ! -path "$PGDATA/.first-start" -delete # the mark goes last
    rmdir "$PGDATA/.first-start"
fi

folder=/run/postgresql/.secrets
install -d -o postgres -m 700 "$folder"
install -o postgres -m 400 /run/secrets/db_password "$folder"
if [[ ! -s $PGDATA/PG_VERSION ]]; then # the roles are made once
    install -o postgres -m 400 /run/secrets/{owner,backup,database}_url "$folder"
    export PATH=/usr/local/lib/kadun:$PATH # the initdb there
fi
exec docker-entrypoint.sh "$@"
