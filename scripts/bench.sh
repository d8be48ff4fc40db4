#!/usr/bin/env bash
# Measures how fast Kadun is on this machine, and how near that is to what its parts allow; about twenty minutes.
# docs/performance.md says what each figure means. Everything stays on 127.0.0.1 and is removed at the end.
#
#   scripts/bench.sh [--quick] [--seconds N] [--rounds N] [--cards N[,N…]]
#   scripts/bench.sh --against COMMIT [--quick] [--seconds N] [--rounds N] [--cards N[,N…]]
#   scripts/bench.sh --client [--starts N]
#   scripts/bench.sh --files|--functions [--quick] [--seconds N] [--rounds N]
#   scripts/bench.sh --console [--quick] [--rounds N]
#
#   --quick         1 s, 3 rounds, 1,000 cards: does it work, and about how fast. With --files 3 s, 2 rounds, a file of
#                   128 MiB; with --functions 2 s, 2 rounds; with --console 3 rounds, 20,000 cards, 100,000 journal entries
#   --seconds N     for each run of a measurement (5; with --files of verifying in each state, 10)
#   --rounds N      of all measurements; the figures are their medians (5; with --console of all pages, 20)
#   --cards N[,N…]  numbers of bound cards, each measured (1000,100000,1000000)
#   --against COMMIT  instead: an older commit beside this one, in turns, with the ratios; both as often as --rounds says (3)
#   --client        instead: what the SDK adds to the start of a customer's program; about half a minute
#   --starts N      of that program (15)
#   --files         instead: downloads through nginx, and verifications beside 200 of them; about five minutes
#   --functions     instead: verifications beside core functions that hang, and what a call costs; about four minutes
#   --console       instead: every page of the console with a million cards and five million journal entries; about six minutes
#
# It needs wrk (--files: nginx, curl and openssl; --client and --console: nothing), which it installs as root on Debian or Ubuntu.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/common.sh
source "$ROOT/scripts/lib/common.sh"
# shellcheck source=scripts/lib/python.sh
source "$ROOT/scripts/lib/python.sh"
# shellcheck source=scripts/lib/tools.sh
source "$ROOT/scripts/lib/tools.sh"

MEASURED=bench TOOLS=(wrk)
case ${1:-} in
    --against) MEASURED=bench.against ;;
    --client) MEASURED=bench.client TOOLS=() ;;
    --files) MEASURED=bench.files TOOLS=(nginx curl openssl) ;;
    --functions) MEASURED=bench.functions ;;
    --console) MEASURED=bench.console TOOLS=() ;;
esac
[[ $MEASURED == bench ]] || shift
for argument; do
    case $argument in
        -h | --help) print_help "$ROOT/scripts/bench.sh"; exit ;;
        --starts | --starts=* | --quick | --seconds | --seconds=* | --rounds | --rounds=* | --cards | --cards=* | [!-]*) ;; # the program checks them
        *) usage_error "unknown argument: $argument" ;;
    esac
done

SCRATCH=$(mktemp -d)
trap 'rm -rf "$SCRATCH"; allow_services' EXIT
ensure_venv requirements.txt requirements-trial.txt
bring_tools "${TOOLS[@]}" >&2 || die "$MISSING missing: install it first (apt-get install $MISSING)"
rm -rf "$SCRATCH"
trap - EXIT
exec "$VENV_PYTHON" -P -m "$MEASURED" "$@"
