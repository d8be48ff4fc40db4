#!/usr/bin/env bash
# Sets up and runs every test; ends with one line per tier and exit status 1 if anything failed. The 40 slowest tests and
# fixtures of each tier are at the end of test-artifacts/TIER.log.
#
#   scripts/test.sh [--containers] [--nightly] [--coverage] [--tier NAME] [--mutation]
#
#   --containers   also the tiers `cluster` and `containers`, which need a running Docker engine with Compose
#   --nightly      only the tests with the marker `nightly`, which are long or repeated, and Hypothesis's with many examples
#   --coverage     also which branches of all code the unit and integration tests reach: 95% at least. Without it the unit
#                  tests are held to 100% of the rules and the tokens
#   --tier NAME    only lint, unit, integration, e2e, browser, cluster or containers
#   --mutation     only mutation testing, which takes long and belongs to the nightly runs: does a test fail for each small
#                  change of the code?
#
# Every tier needs .venv, which is made from pinned requirements; lint and unit need nothing else. With it made, a file runs by
# `.venv/bin/python -m pytest FILE`. The other tiers need PostgreSQL's programs, from PyPI, and Debian packages: as root on
# Debian or Ubuntu the script installs those that a tier needs. Otherwise it skips a tier that lacks one and says what to
# install; with CI=true that is a failure. Ubuntu's archive has no Chromium (it is a snap there): the tier `browser` then
# needs a command `chromium` on PATH, which is untested.
set -euo pipefail

ROOT=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
# shellcheck source=scripts/lib/common.sh
source "$ROOT/scripts/lib/common.sh"
# shellcheck source=scripts/lib/python.sh
source "$ROOT/scripts/lib/python.sh"
# shellcheck source=scripts/lib/tools.sh
source "$ROOT/scripts/lib/tools.sh"

parse_options "containers nightly coverage mutation tier=" "$@"
at_most 0
TIERS=(unit lint browser integration e2e ${OPTION[containers]:+cluster containers})
if [[ -n ${OPTION[tier]:-} ]]; then TIERS=("${OPTION[tier]}"); fi
[[ " lint unit integration e2e browser cluster containers " == *" ${OPTION[tier]:-unit} "* ]] \
    || usage_error "--tier wants lint, unit, integration, e2e, browser, cluster or containers"
if [[ -n ${OPTION[mutation]:-} ]]; then TIERS=(mutation); fi
COVERAGE=${OPTION[coverage]:-} MARKED=${OPTION[nightly]:+nightly}
MARKED=${MARKED:-not nightly}
RULES='app/domain/*,app/tokens/*'
RULES_REACHED=".venv/bin/coverage report --include=$RULES --fail-under=100"

# Three to five processes on two cores, since tests wait for other programs. Where tests share what takes long to start, they
# stay in one process (tests/support/groups.py), and the files that are marked `long` begin first (tests/conftest.py).
BY_TEST=(--numprocesses 3 --dist worksteal)
BY_GROUP=(--numprocesses 3 --dist loadgroup --no-loadscope-reorder)

E2E_TOOLS=(nginx openssl age ip:iproute2 curl node:nodejs objdump:binutils)
# The font: without one, Chinese text is a row of boxes, with widths unlike real text's.
BROWSER_TOOLS=(nginx openssl /usr/share/fonts/truetype/wqy/wqy-microhei.ttc:fonts-wqy-microhei)
CONTAINERS_TOOLS=(nginx openssl curl ip:iproute2 nft:nftables ps:procps certbot pebble age cron gpg:gnupg debootstrap git ssh:openssh-client
    sshd:openssh-server rsync /usr/share/keyrings/ubuntu-archive-keyring.gpg:ubuntu-keyring)

declare -A BESIDE=() # the processes that run tiers beside others
SCRATCH=$(mktemp -d)
trap '((${#BESIDE[@]} == 0)) || kill "${BESIDE[@]}" 2>/dev/null; rm -rf "$SCRATCH"; allow_services' EXIT

# record TIER PASSED FAILED LEFT_OUT TEXT: in files, since a tier may be another process.
record() {
    printf '%s %s %s\n' "$2" "$3" "$4" >"$SCRATCH/$1.counts"
    printf '%s: %s\n' "$1" "$5" >"$SCRATCH/$1.outcome"
}

# result PASSED FAILED SECONDS: in words.
result() { printf '%s passed%s in %s s' "$1" "$( (($2 == 0)) || echo ", $2 FAILED")" "$3"; }

# leave_out TIER WHY
leave_out() {
    record "$1" 0 0 1 "LEFT OUT: $2"
    printf '\n!!! %s is left out: %s\n' "$1" "$2"
}

# run_checks TIER COMMAND…: checks that are not a pytest run, each one word; prints the output of those that fail.
run_checks() {
    local tier=$1 start=$SECONDS failed=0 command
    shift
    for command; do
        # shellcheck disable=SC2086
        $command >"$SCRATCH/$tier.check" 2>&1 && continue
        failed=$((failed + 1))
        cat "$SCRATCH/$tier.check"
        printf '%s: %s failed\n' "$tier" "$command"
    done
    record "$tier" $(($# - failed)) "$failed" 0 "$(result $(($# - failed)) "$failed" $((SECONDS - start)))"
}

# count TIER WORDS: how many of the tests in pytest's closing line, "2 failed, 31 passed in 4.20s", have these words.
count() {
    tail -n 1 "test-artifacts/$1.log" | { grep -oE "[0-9]+ ($2)\b" || true; } | awk '{ n += $1 } END { print n + 0 }'
}

# run_pytest TIER ARGUMENT…: writes all that pytest says into test-artifacts/TIER.log, and prints it without the durations.
# MEASURE holds the words before `-m pytest` that measure what the tests reach.
MEASURE=()
run_pytest() {
    local tier=$1 start=$SECONDS status=0 failed TIMEFORMAT='%U %S'
    shift
    mkdir -p test-artifacts
    { time "$VENV_PYTHON" "${MEASURE[@]}" -m pytest "$@" -m "$MARKED" --durations=40 2>&1 </dev/null; } 2>"$SCRATCH/$tier.cpu" \
        | tee "test-artifacts/$tier.log" \
        | awk '/ slowest 40 durations /{ skip = 1; next } /^=/{ skip = 0 } !skip { print; fflush() }' || status=$?
    failed=$(count "$tier" 'failed|errors?')
    if ((status == 5)) && [[ $MARKED == nightly ]]; then status=0; fi # not every tier has nightly tests
    ((status == 0 || failed > 0)) || failed=1 # collected nothing, or died
    record "$tier" "$(count "$tier" passed)" "$failed" 0 \
        "$(result "$(count "$tier" passed)" "$failed" $((SECONDS - start))) ($(awk '{ printf "%d", $1 + $2 }' "$SCRATCH/$tier.cpu") s of processor time)"
}

# check_shell: the data-flow analysis takes as long again and adds SC2317 alone: commands that are never reached.
check_shell() {
    grep -rlE '^(#!.*[/ ](ba)?sh$|# shellcheck shell=)' .ci scripts nginx deploy \
        | xargs --max-procs=2 --max-args=4 .venv/bin/shellcheck -x --extended-analysis=false
}

tier_lint() {
    run_checks lint ".venv/bin/ruff format --check ." ".venv/bin/ruff check ." ".venv/bin/python -m mypy" \
        ".venv/bin/python .venv/bin/lint-imports" check_shell
}

# tier_unit: in two processes, since it waits for little, and each process collects all tests anew.
tier_unit() {
    local MEASURE=(-m coverage run)
    [[ -n $COVERAGE ]] || MEASURE+=("--include=$RULES")
    run_pytest unit tests/unit --numprocesses 2 --dist worksteal
}

# tier_rules: the unit tests alone reach every branch of the rules and the tokens.
tier_rules() { run_checks rules ".venv/bin/coverage combine --quiet" "$RULES_REACHED"; }

tier_integration() {
    local MEASURE=()
    [[ -z $COVERAGE ]] || MEASURE=(-m coverage run)
    run_pytest integration tests/integration "${BY_TEST[@]}"
}

tier_e2e() {
    if bring_tools "${E2E_TOOLS[@]}" "$(libpython)"; then
        run_pytest e2e tests/e2e "${BY_GROUP[@]}"
    else
        leave_out e2e "$MISSING missing; as root: apt-get install $MISSING"
    fi
}

# tier_browser: with --nightly it leaves pictures of the pages in test-artifacts/screenshots.
tier_browser() {
    if ! bring_tools "${BROWSER_TOOLS[@]}"; then
        leave_out browser "$MISSING missing; as root: apt-get install $MISSING"
    # The headless shell takes a quarter less time than a whole Chromium, which works, too. It is a call of its own, since
    # apt-get installs nothing from a list with a name that it does not know.
    elif ! bring_tools chromium-headless-shell && ! command -v chromium >/dev/null; then
        leave_out browser "no Chromium; as root on Debian: apt-get install chromium-headless-shell (Ubuntu has only a snap, not tried)"
    else
        # Two: each process has a browser, which keeps a core busy.
        run_pytest browser tests/browser --numprocesses 2 --dist worksteal
    fi
}

# tier_containers: tests that share stacks stay in one process.
tier_containers() { run_with_engine containers tests/containers "${BY_GROUP[@]}" --numprocesses 5; }

# tier_cluster: one process: the tests share three machines, and mostly wait.
tier_cluster() { run_with_engine cluster tests/cluster; }

# run_with_engine TIER ARGUMENT…: pytest with these arguments.
run_with_engine() {
    local tier=$1
    if ! docker compose version >/dev/null 2>&1 || ! docker info >/dev/null 2>&1; then
        echo "$tier: start a Docker engine with Compose first" >&2
        record "$tier" 0 1 0 "no Docker engine"
    elif bring_tools "${CONTAINERS_TOOLS[@]}"; then
        run_pytest "$@"
    else
        leave_out "$tier" "$MISSING missing; as root: apt-get install $MISSING"
    fi
}

# start_beside TIER…: starts these tiers beside the next one, which alone would leave the processors idle at times.
start_beside() {
    local tier
    for tier; do
        [[ " ${TIERS[*]} " == *" $tier "* ]] || continue
        record "$tier" 0 1 0 "ended early" # until it says otherwise
        "tier_$tier" >"$SCRATCH/$tier.log" 2>&1 &
        BESIDE[$tier]=$!
    done
}

# tier_coverage: what unit and integration reached, together; with --coverage.
tier_coverage() {
    # Files that nothing imported count, too: one process finds them, since looking for them takes every process long.
    .venv/bin/coverage run --rcfile=/dev/null --branch --parallel-mode \
        --source=app,client/src/kadun,client/conformance/src/kadun_conformance -m app --help >/dev/null
    run_checks coverage ".venv/bin/coverage combine --quiet" \
        ".venv/bin/coverage report --skip-covered --fail-under=95" "$RULES_REACHED"
    .venv/bin/coverage report --format=total || true
}

# tier_mutation: prints the mutants that survived and are not listed, and the numbers.
tier_mutation() {
    local start=$SECONDS failed=0
    "$VENV_PYTHON" -m tests.mutation || failed=1
    record mutation $((1 - failed)) "$failed" 0 "$(result $((1 - failed)) "$failed" $((SECONDS - start)))"
}

cd "$ROOT"
if [[ ${TIERS[*]} == mutation ]]; then # apart: pyproject.toml says why
    VENV=$ROOT/.venv-mutation VENV_PYTHON=$ROOT/.venv-mutation/bin/python
fi
ensure_venv {,trial/,tests/}requirements.txt ${OPTION[mutation]:+tests/mutation/requirements.txt}
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

if [[ -z $COVERAGE && $MARKED != nightly ]]; then
    read -ra TIERS <<<"${TIERS[*]/#unit/unit rules}"
elif [[ -n $COVERAGE && ${TIERS[*]} == unit*integration* ]]; then
    read -ra TIERS <<<"${TIERS[*]/#integration/integration coverage}"
fi
for tier in "${TIERS[@]}"; do
    if [[ $tier == unit ]]; then start_beside lint browser; fi
    # Not beside browsers: networks that come and go abort their requests.
    if [[ $tier == integration && ${TIERS[*]} == *containers* ]]; then
        # Packages first: two apt-get processes get into each other's way.
        bring_tools "${E2E_TOOLS[@]}" "$(libpython)" "${CONTAINERS_TOOLS[@]}" || true # each tier says what it lacks
        start_beside cluster containers
    fi
    printf '\n=== %s\n' "$tier"
    if [[ -n ${BESIDE[$tier]:-} ]]; then
        wait "${BESIDE[$tier]}" || true # what it has to say stands in its files
        unset "BESIDE[$tier]"
        cat "$SCRATCH/$tier.log"
    else
        "tier_$tier"
    fi
done

echo
for tier in "${TIERS[@]}"; do
    cat "$SCRATCH/$tier.outcome"
done
read -r passed failed left_out < <(cat "$SCRATCH"/*.counts | awk '{ p += $1; f += $2; l += $3 } END { print p, f, l }')
printf '%d passed, %d failed\n' "$passed" "$failed"
((failed == 0)) && { ((left_out == 0)) || [[ ${CI:-} != true ]]; }
