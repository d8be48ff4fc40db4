#!/usr/bin/env bash
# The start of service `database`, before the image's own entry point, which goes on as user postgres.
# That user gets what it needs of the secrets here: on the host they are others', and nobody else can read them.
set -euo pipefail

# What a first start leaves that was killed, the image would take for a whole cluster. Nobody has been let in yet: the
# mark is there from before initdb (initdb, beside this) until the roles are made (init/10-roles.sh), and never again.
if [[ -d $PGDATA/.first-start ]]; then
    echo "the first start was interrupted: it begins again" >&2
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
