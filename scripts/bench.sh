#!/usr/bin/env bash
# Measures how fast Kadun is on this machine; about twenty minutes. docs/performance.md says what each figure means.
# Everything stays on 127.0.0.1 and is removed at the end. As root on Debian or Ubuntu it installs what it needs, such as wrk.
# scripts/bench.sh --help lists the options.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
source "$ROOT/scripts/lib/common.sh"
source "$ROOT/scripts/lib/python.sh"
source "$ROOT/scripts/lib/tools.sh"

TOOLS=(wrk)
[[ " $* " != *' --tls '* ]] || TOOLS+=(nginx openssl)
[[ " $* " != *' --help '* ]] || TOOLS=()
ensure_venv requirements.txt trial/requirements.txt
missing=$(bring_tools "${TOOLS[@]}")
[[ -z $missing ]] || die "$missing missing: install it first (apt-get install $missing)"
exec "$VENV_PYTHON" -P -m tests.bench "$@"
