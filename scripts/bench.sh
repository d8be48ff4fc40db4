#!/usr/bin/env bash
# Measures how fast Kadun is on this machine; about twenty minutes. docs/performance.md says what each figure means.
# Everything stays on 127.0.0.1 and is removed at the end. As root on Debian or Ubuntu it installs what it needs, such as wrk.
#
#   scripts/bench.sh [--against COMMIT | --beside | --tls] [--quick] [--seconds N] [--rounds N] [--cards N[,N…]]
#
#   --quick         1 s, 3 rounds, 1,000 cards: does it work, and about how fast. With --beside or --tls 1 s, 1 round
#   --seconds N     for each run of a measurement (5)
#   --rounds N      of all measurements; the figures are their medians (5; with --beside 3)
#   --cards N[,N…]  numbers of bound cards, each measured (1000,100000,1000000)
#   --against COMMIT  an older commit's service beside this one, in turns, with the ratios; about twice as long
#   --beside        instead: verifications while functions hang, cards are exported and people log in; about five minutes
#   --tls           instead: verifications through nginx over TLS, each on a new connection; about two minutes
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/common.sh
source "$ROOT/scripts/lib/common.sh"
# shellcheck source=scripts/lib/python.sh
source "$ROOT/scripts/lib/python.sh"
# shellcheck source=scripts/lib/tools.sh
source "$ROOT/scripts/lib/tools.sh"

TOOLS=(wrk)
case " $* " in # the Python program checks them
    *' -h '* | *' --help '*) print_help "$ROOT/scripts/bench.sh"; exit ;;
    *' --tls '*) TOOLS+=(nginx openssl) ;;
esac
ensure_venv requirements.txt trial/requirements.txt
missing=$(bring_tools "${TOOLS[@]}")
[[ -z $missing ]] || die "$missing missing: install it first (apt-get install $missing)"
exec "$VENV_PYTHON" -P -m tests.bench "$@"
