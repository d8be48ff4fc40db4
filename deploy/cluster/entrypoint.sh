#!/usr/bin/env bash
# The entry point of a node's containers. Gives user postgres the folder of its service's data and a copy of the configuration, which on
# the host belong to root, and goes on as that user, without any capability.
set -euo pipefail

data=$1
shift
chown postgres:postgres "$data"
chmod 700 "$data"
install -o postgres -m 400 -t /run/kadun /etc/kadun/*/*
exec setpriv --reuid=postgres --regid=postgres --clear-groups --no-new-privs -- "$@"
