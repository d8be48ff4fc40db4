#!/usr/bin/env bash
# Lets machines fail under load, several times, and prints what customers saw. Two app machines stand behind HAProxy, on a
# database of three machines; all are networks of their own on this machine. docs/several-machines.md has the figures.
#
#   scripts/drill.sh NAME [--rounds N] [--nodes 3|2]
#
#   NAME           a failure, primary-killed for example; without one the script lists them all
#   --rounds N     how often (3)
#   --nodes 2      two machines with PostgreSQL and a witness, instead of three
#
# Exit status 1: an accepted activation was lost, a card was activated twice, or a customer got another answer than accepted or 503
# with Retry-After. Needs root and a running Docker engine with Compose.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/common.sh
source "$ROOT/scripts/lib/common.sh"
# shellcheck source=scripts/lib/python.sh
source "$ROOT/scripts/lib/python.sh"

parse_options "rounds= nodes=" "$@" # before anything is installed; the program checks names and values
at_most 1
cd "$ROOT"
docker info >/dev/null 2>&1 || die "a running Docker engine with Compose is needed"
ensure_venv requirements.txt requirements-trial.txt requirements-dev.txt
exec "$VENV_PYTHON" -m tests.drills "$@"
