# shellcheck shell=bash
# The checkout's own Python: .venv, made from the hashed requirements. Sourced after common.sh, never run.

VENV=$ROOT/.venv VENV_PYTHON=$ROOT/.venv/bin/python

# The project's modules, wherever the caller stands. Run Python with -P, so that nothing of the caller's
# folder takes their place.
export PYTHONPATH=$ROOT:$ROOT/client/src:$ROOT/client/conformance/src

# ensure_venv FILE…: .venv holds what these requirements files name; nothing is done when it already does.
ensure_venv() {
    if venv_is_current "$@"; then return; fi
    (
        exec 9<"$ROOT" && flock 9 # another script may be at it
        if venv_is_current "$@"; then exit; fi
        echo "正在安装 Python 依赖（首次约一分钟）…  Setting up Python packages (the first time: about a minute) …"
        { venv_works || make_venv; } && cd "$ROOT" && rm -f "$VENV/.installed" \
            && "$VENV_PYTHON" -P -m pip install -q --disable-pip-version-check --require-hashes "${@/#/--requirement=}" \
            && sha256sum "$@" >"$VENV/.installed" && exit
        die "Python 依赖安装失败（原因见上）：请检查网络，可用 PIP_INDEX_URL 指定镜像站。Could not set up Python packages, see above: check the network; PIP_INDEX_URL names a mirror"
    )
}

# venv_is_current FILE…: these very requirements are installed. The note of them is written last, so that it never lies.
venv_is_current() {
    [[ -r $VENV/.installed ]] && venv_works && ! (cd "$ROOT" && sha256sum "$@") | grep -qvxFf "$VENV/.installed"
}

# venv_works: .venv is whole. An upgrade of the system's Python can break it, and so can Ctrl-C.
venv_works() { "$VENV_PYTHON" -P -c 'import pip' >/dev/null 2>&1; }

# find_python: prints a Python that is 3.11 or newer. Each is tried: pyenv's shims exist and fail.
find_python() {
    local candidate
    for candidate in ${KADUN_PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 /usr/bin/python3}; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            printf '%s' "$candidate"
            return
        fi
    done
    die "需要 Python 3.11 或更新版本，可用 KADUN_PYTHON 指定。Python 3.11 or newer is needed: apt-get install python3, or name one with KADUN_PYTHON"
}

# make_venv: an empty .venv with pip. Where the distribution splits ensurepip off, pip comes from Debian's or Ubuntu's own
# package, which apt-get fetches without being root.
make_venv() {
    local python folder
    python=$(find_python) || exit 1
    rm -rf "$VENV"
    if "$python" -P -m venv "$VENV" >/dev/null 2>&1; then return; fi
    folder=$(mktemp -d)
    (
        cd "$folder" && mkdir -p lists/partial cache/archives/partial
        options=(-qq -o "Dir::State::Lists=$folder/lists" -o "Dir::Cache=$folder/cache" -o APT::Sandbox::User=root)
        "$python" -P -m venv --clear --without-pip "$VENV" && apt-get "${options[@]}" update \
            && apt-get "${options[@]}" download python3-pip-whl && dpkg -x python3-pip-whl_*.deb . \
            && wheel=$(echo "$folder"/usr/share/python-wheels/pip-*.whl) \
            && PYTHONPATH=$wheel "$VENV_PYTHON" -P -m pip install -q --no-index --ignore-installed "$wheel"
    )
    rm -rf "$folder"
    venv_works
}
