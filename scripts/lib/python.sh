# shellcheck shell=bash
# The checkout's own Python: .venv, made from the hashed requirements. Sourced after common.sh, never run.
# Needs ROOT, the checkout. What vendors see is in Chinese and English.

VENV=$ROOT/.venv VENV_PYTHON=$ROOT/.venv/bin/python

# The project's modules, wherever the caller stands. Run Python with -P, so that nothing of the caller's
# folder takes their place.
export PYTHONPATH=$ROOT:$ROOT/client/src:$ROOT/client/conformance/src

# find_python: prints a Python that is 3.11 or newer. Each is tried: pyenv's shims exist and fail.
find_python() {
    local candidate
    local -a candidates=(python3 python3.13 python3.12 python3.11 python3.14 /usr/bin/python3)
    [[ -z ${KADUN_PYTHON:-} ]] || candidates=("$KADUN_PYTHON")
    for candidate in "${candidates[@]}"; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            printf '%s' "$candidate"
            return
        fi
    done
    [[ -z ${KADUN_PYTHON:-} ]] || die "KADUN_PYTHON 须为 3.11 或更新版本。KADUN_PYTHON is no Python 3.11 or newer: $KADUN_PYTHON"
    die "需要 Python 3.11 或更新版本。Python 3.11 or newer is needed: apt-get install python3, or name one with KADUN_PYTHON"
}

# ensure_venv FILE…: .venv holds what these requirements files name; nothing is done when it already does.
ensure_venv() {
    if venv_is_current "$@"; then return; fi
    local lock log
    exec {lock}<"$ROOT"
    if command -v flock >/dev/null; then flock "$lock"; fi # another script may be at it
    log=$(mktemp)
    if ! venv_is_current "$@"; then
        echo "正在安装 Python 依赖（首次约一分钟）…  Setting up Python packages (the first time: about a minute) …"
        if ! { venv_works || make_venv "$log"; } || ! install_packages "$log" "$@"; then
            tail -n 15 "$log" >&2
            rm -f "$log"
            die "Python 依赖安装失败：请检查网络，可用 PIP_INDEX_URL 指定镜像站。Could not set up Python packages: check the network; PIP_INDEX_URL names a mirror"
        fi
    fi
    rm -f "$log"
    exec {lock}<&-
}

# venv_works: .venv is whole. An upgrade of the system's Python can break it, and so can Ctrl-C.
venv_works() {
    "$VENV_PYTHON" -P -c 'import pip' >/dev/null 2>&1
}

# venv_is_current FILE…: these very requirements are installed. A stamp is written last, so that it never lies.
venv_is_current() {
    local file
    [[ -x $VENV_PYTHON ]] || return 1
    for file in "$@"; do
        cmp -s <(sha256sum <"$ROOT/$file") "$VENV/.installed-${file//\//-}" || return 1
    done
    venv_works
}

# make_venv LOG: an empty .venv with pip, also where the distribution splits pip and ensurepip off.
make_venv() {
    local python
    python=$(find_python) || exit 1
    rm -rf "$VENV"
    has_ensurepip "$python" || install_ensurepip "$python" >>"$1" 2>&1
    if has_ensurepip "$python"; then
        "$python" -P -m venv "$VENV" >>"$1" 2>&1
    else
        { "$python" -P -m venv --without-pip "$VENV" && install_distribution_pip; } >>"$1" 2>&1
    fi
}

has_ensurepip() {
    "$1" -P -c 'import ensurepip' >/dev/null 2>&1
}

# install_ensurepip PYTHON: as root on Debian and Ubuntu, from the package that the distribution made of it.
install_ensurepip() {
    [[ $EUID == 0 ]] && command -v apt-get >/dev/null || return 1
    local version
    version=$("$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    apt_install "python$version-venv"
}

# install_distribution_pip: pip into .venv from the distribution's package, fetched without being root.
install_distribution_pip() {
    local folder wheel
    command -v apt-get >/dev/null || { echo "python3 lacks ensurepip: install your distribution's package for venv"; return 1; }
    folder=$(mktemp -d)
    (
        cd "$folder" || exit 1
        mkdir -p lists/partial cache/archives/partial
        options=(-q -o "Dir::State::Lists=$folder/lists" -o "Dir::Cache=$folder/cache")
        apt-get "${options[@]}" update
        apt-get "${options[@]}" download python3-pip-whl && dpkg -x python3-pip-whl_*.deb .
    )
    for wheel in "$folder"/usr/share/python-wheels/pip-*.whl; do
        PYTHONPATH=$wheel "$VENV_PYTHON" -P -m pip install --no-index --ignore-installed "$wheel"
    done
    rm -rf "$folder"
    venv_works
}

# install_packages LOG FILE…
install_packages() {
    local log=$1 file
    local -a requirements=()
    shift
    for file in "$@"; do
        requirements+=(--requirement "$ROOT/$file")
        rm -f "$VENV/.installed-${file//\//-}"
    done
    "$VENV_PYTHON" -P -m pip install --disable-pip-version-check --require-hashes "${requirements[@]}" >>"$log" 2>&1 \
        || return 1
    for file in "$@"; do
        sha256sum <"$ROOT/$file" >"$VENV/.installed-${file//\//-}"
    done
}

# apt_install PACKAGE…: as root on Debian and Ubuntu.
apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq -o DPkg::Lock::Timeout=300 update
    apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"
}
