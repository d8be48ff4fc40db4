#!/usr/bin/env bash
# Measures how fast Kadun is on this machine; about twenty minutes. docs/performance.md says what each figure means.
# Everything stays on 127.0.0.1 and is removed at the end.
#
#   scripts/bench.sh [--against COMMIT] [--quick] [--seconds N] [--rounds N] [--cards N[,N…]]
#   scripts/bench.sh --beside|--tls|--files|--spread|--blocks [--quick] [--seconds N] [--rounds N]
#   scripts/bench.sh --console [--quick] [--rounds N]
#   scripts/bench.sh --sharing|--flood [--quick]
#   scripts/bench.sh --client [--starts N]
#
#   --quick         1 s, 3 rounds, 1,000 cards: does it work, and about how fast. With --beside 1 s, 1 round, 20,000 cards;
#                   with --tls and --spread 1 s, 1 round; with --blocks 1 s, 3 rounds; with --files 3 s, 2 rounds, a file of 128 MiB; with --console 3 rounds,
#                   20,000 cards, 100,000 journal entries; with --sharing 150 honest customers, 10 days;
#                   with --flood a tenth of the minutes
#   --seconds N     for each run of a measurement (5; with --files of verifying in each state, 10)
#   --rounds N      of all measurements; the figures are their medians (5; with --beside 3; with --console of all pages, 20)
#   --cards N[,N…]  numbers of bound cards, each measured (1000,100000,1000000)
#   --against COMMIT  an older commit's service beside this one, in turns, with the ratios; about twice as long
#   --beside        instead: verifications while core functions hang, customers download, an operator exports all cards and
#                   people log in; about ten minutes
#   --tls           instead: verifications through nginx over TLS, each on a new connection; about six minutes
#   --spread        instead: verifications by one, two and three services on one database; about two minutes
#   --blocks        instead: verifications without and with 10,000 blocks, in turns; about two minutes
#   --files         instead: downloads through nginx, and verifications beside 200 of them; about five minutes
#   --console       instead: every page of the console with a million cards and five million journal entries; about six minutes
#   --sharing       instead: how many honest customers and sharers the abuse report shows in a simulated month; about two minutes
#   --flood         instead: how far a customer and strangers can make the database grow in a day; about two minutes
#   --client        instead: what the SDK adds to the start of a customer's program; about half a minute
#   --starts N      of that program (15)
#
# It needs wrk (--beside: curl, too; --tls: nginx and openssl, too; --files: nginx, curl and openssl; --console, --sharing,
# --flood and --client: nothing), which it installs as root on Debian or Ubuntu.
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
    --beside) MEASURED=bench.beside TOOLS=(wrk curl) ;;
    --spread) MEASURED=bench.spread ;;
    --blocks) MEASURED=bench.blocks ;;
    --tls) MEASURED=bench.tls TOOLS=(wrk nginx openssl) ;;
    --files) MEASURED=bench.files TOOLS=(nginx curl openssl) ;;
    --console) MEASURED=bench.console TOOLS=() ;;
    --sharing) MEASURED=bench.sharing TOOLS=() ;;
    --flood) MEASURED=bench.flood TOOLS=() ;;
    --client) MEASURED=bench.client TOOLS=() ;;
esac
[[ $MEASURED == bench ]] || shift
for argument; do
    case $argument in
        -h | --help) print_help "$ROOT/scripts/bench.sh"; exit ;;
        --starts | --starts=* | --quick | --seconds | --seconds=* | --rounds | --rounds=* | --cards | --cards=* | --against | --against=* | [!-]*) ;; # the program checks them
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
