# shellcheck shell=bash
# Programs that the tests need, from the distribution's packages. Sourced after common.sh and python.sh.

readonly POLICY=/usr/sbin/policy-rc.d POLICY_MARK="# kadun: no package starts its service meanwhile"

PATH+=:/usr/sbin:/sbin # where nginx and ip lie, and an ordinary user does not look

# bring_tools PROGRAM[:PACKAGE]…: installs what is missing, as root on Debian and Ubuntu; a file may stand for a program,
# by its absolute path. Where it cannot, it fails and leaves the packages that are missing in MISSING.
bring_tools() {
    local -a packages
    local packages_text
    packages_text=$(missing_packages "$@")
    read -ra packages <<<"$packages_text"
    MISSING=${packages[*]}
    ((${#packages[@]})) || return 0
    [[ $EUID == 0 ]] && command -v apt-get >/dev/null || return 1
    echo "installing $MISSING …"
    forbid_services
    apt_install "${packages[@]}" >"$SCRATCH/apt" 2>&1 || tail -n 15 "$SCRATCH/apt" >&2
    allow_services
    # Not at the next boot either: the package was wanted for its program.
    if [[ $MISSING == *nginx* ]] && command -v systemctl >/dev/null; then
        systemctl disable nginx >/dev/null 2>&1 || true
    fi
    MISSING=$(missing_packages "$@")
    [[ -z $MISSING ]]
}

# bring_libpython: the shared library of .venv's Python, which packaging a program wants and Debian splits off.
bring_libpython() {
    if has_libpython; then return; fi
    MISSING=lib$("$VENV_PYTHON" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
    [[ $EUID == 0 ]] && command -v apt-get >/dev/null || return 1
    echo "installing $MISSING …"
    apt_install "$MISSING" >"$SCRATCH/apt" 2>&1 || tail -n 15 "$SCRATCH/apt" >&2
    has_libpython
}

has_libpython() {
    "$VENV_PYTHON" -c 'import ctypes, sysconfig
if sysconfig.get_config_var("Py_ENABLE_SHARED"): ctypes.CDLL(sysconfig.get_config_var("INSTSONAME"))' 2>/dev/null
}

missing_packages() {
    local tool
    for tool in "$@"; do
        [[ ${tool%%:*} == /* && -e ${tool%%:*} ]] || command -v "${tool%%:*}" >/dev/null || printf '%s ' "${tool##*:}"
    done | sed 's/ $//'
}

# forbid_services, allow_services: Debian's own hook, unless the machine has one already.
forbid_services() {
    [[ -e $POLICY ]] || { printf '#!/bin/sh\n%s\nexit 101\n' "$POLICY_MARK" >"$POLICY" && chmod 755 "$POLICY"; }
}

allow_services() {
    if grep -qxF "$POLICY_MARK" "$POLICY" 2>/dev/null; then rm -f "$POLICY"; fi
}
