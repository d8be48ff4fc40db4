# shellcheck shell=bash
# The checkout's own Python: .venv, made from the hashed requirements. Sourced after common.sh, never run.
# Needs ROOT, the checkout.

readonly VENV=$ROOT/.venv VENV_PYTHON=$ROOT/.venv/bin/python

# The project's modules, wherever the caller stands. Scripts add -P, so that nothing in the caller's folder gets in.
export PYTHONPATH=$ROOT:$ROOT/client/src

# python_is_good COMMAND: it runs, and is 3.11 or newer. (pyenv's shims exist and fail.)
python_is_good() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

# find_python: prints a Python to start from.
find_python() {
    local candidate
    if [[ -n ${KADUN_PYTHON:-} ]]; then
        python_is_good "$KADUN_PYTHON" \
            || die "KADUN_PYTHON 不是 Python 3.11 或更新版本。KADUN_PYTHON is no Python 3.11 or newer: $KADUN_PYTHON"
        printf '%s' "$KADUN_PYTHON"
        return
    fi
    for candidate in "$VENV_PYTHON" python3 python3.13 python3.12 python3.11 python3.14 /usr/bin/python3; do
        if python_is_good "$candidate"; then
            printf '%s' "$candidate"
            return
        fi
    done
    die "需要 Python 3.11 或更新版本：请安装，或用 KADUN_PYTHON 指定。Python 3.11 or newer is needed: install it (apt-get install python3), or name one with KADUN_PYTHON"
}

# ensure_venv FILE…: .venv with the packages of these requirements files. What is there already stays.
ensure_venv() {
    local file
    [[ -n ${KADUN_PYTHON:-} ]] || venv_works || true
    if venv_works; then
        for file in "$@"; do
            if ! venv_has "$file"; then break; fi
            file=
        done
        if [[ -z $file ]]; then return; fi
    fi
}
