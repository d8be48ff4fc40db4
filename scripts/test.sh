#!/usr/bin/env bash
# Sets up and runs every test; ends with one line per tier and exit status 1 if anything failed. The 40 slowest tests of
# each tier are at the end of test-artifacts/TIER.log.
#
#   scripts/test.sh [--containers] [--nightly] [--coverage] [--tier NAME] [--mutation]
#
#   --containers   also the tiers `cluster` and `containers`, which need a running Docker engine with Compose
#   --nightly      only the tests with the marker `nightly` (long or repeated), and Hypothesis's with many examples
#   --coverage     also which branches of all code the unit and integration tests reach: 95% at least. Without it the
#                  unit tests are held to 100% of the rules and the tokens
#   --tier NAME    only lint, unit, integration, e2e, browser, cluster or containers
#   --mutation     only mutation testing, which takes long: does a test fail for each small change of the code?
#
# lint and unit need .venv alone, which is made from pinned requirements. For the other tiers the script installs Debian
# packages, as root on Debian or Ubuntu; else it skips a tier that lacks one and says what to install. With CI=true that is a
# failure. Ubuntu has Chromium as a snap only: the tier `browser` needs a command `chromium` there, which is untested.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
source "$ROOT/scripts/lib/common.sh"
source "$ROOT/scripts/lib/python.sh"
source "$ROOT/scripts/lib/tools.sh"

parse_options "containers nightly coverage mutation tier=" "$@"
at_most 0
COVERAGE=${OPTION[coverage]:-} MARKED=${OPTION[nightly]:+nightly}
MARKED=${MARKED:-not nightly}
RULES='app/domain/*,app/tokens/*'
RULES_REACHED=".venv/bin/coverage report --skip-covered --include=$RULES --fail-under=100"

# How pytest runs the tests of a tier: in two to four processes on two cores, since tests wait for other programs. Tests
# that share what takes long to start stay in one process (tests/conftest.py); files marked `long` begin first.
BY_GROUP="--dist loadgroup --no-loadscope-reorder"
declare -A PYTEST=(
    [unit]="--numprocesses 2 --dist worksteal" # it waits for little, and each process collects all tests anew
    [integration]="--numprocesses 3 --dist worksteal"
    [e2e]="--numprocesses 3 $BY_GROUP"
    [browser]="--numprocesses 2 --dist worksteal" # each process has a browser, which keeps a core busy
    [cluster]="" # the tests share three machines, and mostly wait
    [containers]="--numprocesses 4 $BY_GROUP"
)
# The programs that a tier needs, as bring_tools takes them.
declare -A TOOLS=(
    [e2e]="nginx openssl age ip:iproute2 curl node:nodejs objdump:binutils
        Xvfb:xvfb xdotool"
    # The font: without one, Chinese text is a row of boxes, with widths unlike real text's.
    [browser]="nginx openssl /usr/share/fonts/truetype/wqy/wqy-microhei.ttc:fonts-wqy-microhei"
    [containers]="nginx openssl curl ip:iproute2 nft:nftables ps:procps certbot pebble age cron gpg:gnupg debootstrap
        git ssh:openssh-client sshd:openssh-server rsync /usr/share/keyrings/ubuntu-archive-keyring.gpg:ubuntu-keyring"
)
TOOLS[cluster]=${TOOLS[containers]}
# The headless shell takes a quarter less time than a whole Chromium, which works, too.
command -v chromium >/dev/null || TOOLS[browser]+=" chromium-headless-shell"

[[ ${OPTION[tier]:-lint} == lint || -v PYTEST[${OPTION[tier]}] ]] || usage_error "--tier wants lint or ${!PYTEST[*]}"
TIERS=(unit lint browser integration ${COVERAGE:+coverage} e2e ${OPTION[containers]:+cluster containers})
if [[ -n ${OPTION[tier]:-} ]]; then TIERS=("${OPTION[tier]}"); fi
if [[ ${TIERS[0]} == unit && -z $COVERAGE && $MARKED != nightly ]]; then TIERS=(unit rules "${TIERS[@]:1}"); fi
if [[ -n ${OPTION[mutation]:-} ]]; then # with an environment apart: pyproject.toml says why
    TIERS=(mutation) VENV=$ROOT/.venv-mutation VENV_PYTHON=$ROOT/.venv-mutation/bin/python
fi

declare -A BESIDE=()  # the processes that run tiers beside others
declare -A MISSING=() # the packages without which a tier is left out
SCRATCH=$(mktemp -d)
trap '((${#BESIDE[@]} == 0)) || kill "${BESIDE[@]}" 2>/dev/null; rm -rf "$SCRATCH"' EXIT

# record TIER PASSED FAILED LEFT_OUT TEXT: in a file, since a tier may be another process.
record() { printf '%s %s %s %s: %s\n' "$2" "$3" "$4" "$1" "$5" >"$SCRATCH/$1.outcome"; }

# record_result TIER PASSED FAILED START [MORE]: START by the clock of SECONDS.
record_result() {
    record "$1" "$2" "$3" 0 "$2 passed$( (($3 == 0)) || echo ", $3 FAILED") in $((SECONDS - $4)) s${5:-}"
}

# run_checks TIER COMMAND…: checks that are not a pytest run; each command with its arguments is one word.
run_checks() {
    local tier=$1 start=$SECONDS failed=0 command
    shift
    for command; do
        $command && continue
        failed=$((failed + 1))
        printf '%s: %s failed\n' "$tier" "$command"
    done
    record_result "$tier" $(($# - failed)) "$failed" "$start"
}

# check_shell: the data-flow analysis takes as long again and adds SC2317 alone: commands that are never reached.
check_shell() {
    grep -rlE '^(#!.*[/ ](ba)?sh$|# shellcheck shell=)' .ci scripts nginx deploy \
        | xargs --max-procs=2 --max-args=4 .venv/bin/shellcheck -x --extended-analysis=false
}

# run_pytest TIER: writes all that pytest says into test-artifacts/TIER.log, and prints it without the durations.
run_pytest() {
    local tier=$1 start=$SECONDS status=0 passed failed TIMEFORMAT='%U %S'
    local -a measure=() # what measures which branches the tests reach
    case $tier$COVERAGE in
        unit) measure=(-m coverage run "--include=$RULES") ;;
        unityes | integrationyes) measure=(-m coverage run) ;;
    esac
    mkdir -p test-artifacts
    # shellcheck disable=SC2086  # the options are words
    { time "$VENV_PYTHON" "${measure[@]}" -m pytest "tests/$tier" ${PYTEST[$tier]} -m "$MARKED" --durations=40 \
        2>&1 </dev/null; } 2>"$SCRATCH/$tier.cpu" | tee "test-artifacts/$tier.log" \
        | awk '/ slowest 40 durations /{ skip = 1; next } /^=/{ skip = 0 } !skip { print; fflush() }' || status=$?
    # The closing line: "2 failed, 31 passed, 1 error in 4.20s".
    read -r passed failed < <(tail -n 1 "test-artifacts/$tier.log" | awk '{
        for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) p += $(i - 1); if ($i ~ /^(failed|error)/) f += $(i - 1) }
        print p + 0, f + 0 }')
    if ((status == 5)) && [[ $MARKED == nightly ]]; then status=0; fi # not every tier has nightly tests
    ((status == 0 || failed > 0)) || failed=1 # collected nothing, or died
    record_result "$tier" "$passed" "$failed" "$start" \
        " ($(awk '{ printf "%d", $1 + $2 }' "$SCRATCH/$tier.cpu") s of processor time)"
}

# run_tier TIER: with --nightly, `browser` leaves pictures of the pages in test-artifacts/screenshots.
run_tier() {
    if [[ $1 == @(cluster|containers) ]] && ! docker compose ls >/dev/null; then
        record "$1" 0 1 0 "no Docker engine with Compose"
        return
    fi
    if [[ -n ${MISSING[$1]} ]]; then
        record "$1" 0 0 1 "LEFT OUT: ${MISSING[$1]} missing; as root: apt-get install ${MISSING[$1]}"
        return
    fi
    case $1 in
        lint)
            run_checks lint ".venv/bin/ruff format --check ." ".venv/bin/ruff check ." ".venv/bin/python -m mypy" \
                ".venv/bin/python .venv/bin/lint-imports --no-logo" check_shell
            ;;
        rules) run_checks rules ".venv/bin/coverage combine --quiet" "$RULES_REACHED" ;;
        coverage)
            # Files that nothing imported count, too: one process finds them, since each would take long to look for them.
            .venv/bin/coverage run --rcfile=/dev/null --branch --parallel-mode \
                --source=app,client/src/kadun,client/conformance/src/kadun_conformance -m app --help >/dev/null
            run_checks coverage ".venv/bin/coverage combine --quiet" \
                ".venv/bin/coverage report --skip-covered --fail-under=95" "$RULES_REACHED"
            ;;
        mutation) run_checks mutation ".venv-mutation/bin/python -m tests.mutation" ;;
        *) run_pytest "$1" ;;
    esac
}

# start_beside TIER…: starts these tiers beside the next one, which alone would leave the processors idle at times.
start_beside() {
    local tier
    for tier; do
        [[ " ${TIERS[*]} " == *" $tier "* ]] || continue
        record "$tier" 0 1 0 "ended early" # until it says otherwise
        run_tier "$tier" >"$SCRATCH/$tier.log" 2>&1 &
        BESIDE[$tier]=$!
    done
}

cd "$ROOT"
ensure_venv {,trial/,tests/}requirements.txt ${OPTION[mutation]:+tests/mutation/requirements.txt}
TOOLS[e2e]+=" $(libpython)"
for tier in "${TIERS[@]}"; do
    # shellcheck disable=SC2086  # the tools are words
    MISSING[$tier]=$(bring_tools ${TOOLS[$tier]:-})
done
# shellcheck disable=SC2086  # the names are words
unset ${!KADUN_@} ${!DATABASE_URL@} ${!KERNAL_DATA_KEY@} # a developer's own settings are not the tests'
if [[ $MARKED == nightly ]]; then export KADUN_HYPOTHESIS=thorough; fi
unset PYTHONDONTWRITEBYTECODE # hundreds of processes would compile the same sources
# The scripts call python3 hundreds of times, and a version manager's is a shell script that takes longer than Python.
mkdir "$SCRATCH/bin"
ln -s "$(readlink -f "$VENV_PYTHON")" "$SCRATCH/bin/python3"
PATH=$SCRATCH/bin:$PATH
export COVERAGE_FILE=$ROOT/.coverage
rm -f "$ROOT"/.coverage "$ROOT"/.coverage.*

for tier in "${TIERS[@]}"; do
    if [[ $tier == unit ]]; then start_beside lint browser; fi
    # Not beside browsers: networks that come and go abort their requests.
    if [[ $tier == integration ]]; then start_beside cluster containers; fi
    printf '\n=== %s\n' "$tier"
    if [[ -n ${BESIDE[$tier]:-} ]]; then
        wait "${BESIDE[$tier]}" || true # what it has to say stands in its files
        unset "BESIDE[$tier]"
        cat "$SCRATCH/$tier.log"
    else
        run_tier "$tier"
    fi
done

echo
for tier in "${TIERS[@]}"; do
    cut -d ' ' -f 4- "$SCRATCH/$tier.outcome"
done
read -r passed failed left_out < <(cat "$SCRATCH"/*.outcome | awk '{ p += $1; f += $2; l += $3 } END { print p, f, l }')
printf '%d passed, %d failed\n' "$passed" "$failed"
((failed == 0)) && { ((left_out == 0)) || [[ ${CI:-} != true ]]; }
