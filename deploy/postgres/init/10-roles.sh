#!/usr/bin/env bash
# Makes the roles. The image runs this once, as user postgres, after it has made the cluster.
set -euo pipefail

# shellcheck source=deploy/postgres/url.sh
source /usr/local/lib/kadun/url.sh

# The administrator connects through the container's own socket, never over the network.
sed -i "s/^host all all all /host all kadun_owner,kadun_app,kadun_backup all /" "$PGDATA/pg_hba.conf"

# entrypoint.sh has copied the secrets for this run.
role_variables /run/postgresql/.secrets \
    | cat - /usr/local/lib/kadun/roles.sql \
    | psql --no-psqlrc --username="$POSTGRES_USER" --dbname=postgres --no-password

# From here on entrypoint.sh does not delete the cluster.
sync
if [[ -d $PGDATA/.first-start ]]; then rmdir "$PGDATA/.first-start"; fi
sync "$PGDATA"
