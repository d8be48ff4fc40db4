# shellcheck shell=bash
# Programs that the tests need, from the distribution's packages. Sourced after common.sh and python.sh.

readonly POLICY=/usr/sbin/policy-rc.d POLICY_MARK="# kadun: no package starts its service meanwhile"

PATH+=:/usr/sbin:/sbin # where nginx and ip lie, and an ordinary user does not look

# bring_tools PROGRAM[:PACKAGE]…: installs what is missing, as root on Debian and Ubuntu; a file may stand for a program,
# by its absolute path. Where it cannot, it fails and leaves the packages that are missing in MISSING.
bring_tools() {
    MISSING=$(missing_packages "$@")
    [[ -n $MISSING ]] || return 0
    [[ $EUID == 0 ]] && command -v apt-get >/dev/null || return 1
    echo "installing $MISSING …"
    forbid_services
    # shellcheck disable=SC2086  # the names are words
    apt_install $MISSING >"$SCRATCH/apt" 2>&1 || tail -n 15 "$SCRATCH/apt" >&2
    allow_services
    # Not at the next boot either: the package was wanted for its program.
    [[ $MISSING != *nginx* ]] || systemctl disable nginx >/dev/null 2>&1 || true
    MISSING=$(missing_packages "$@")
    [[ -z $MISSING ]]
}

missing_packages() {
    local tool
    for tool in "$@"; do
        [[ ${tool%%:*} == /* && -e ${tool%%:*} ]] || command -v "${tool%%:*}" >/dev/null || printf '%s ' "${tool##*:}"
    done | sed 's/ $//'
}

# libpython: the shared library of .venv's Python and its package; Debian splits off what packaging a program wants.
libpython() {
    "$VENV_PYTHON" -c 'import sys; from sysconfig import get_config_var as var
shared, version = var("Py_ENABLE_SHARED"), "%d.%d" % sys.version_info[:2]
print(var("LIBDIR") + "/" + var("INSTSONAME") + ":libpython" + version if shared else "bash")'
}

# forbid_services, allow_services: Debian's own hook, unless the machine has one already.
forbid_services() {
    [[ -e $POLICY ]] || { printf '#!/bin/sh\n%s\nexit 101\n' "$POLICY_MARK" >"$POLICY" && chmod 755 "$POLICY"; }
}

allow_services() {
    if grep -qxF "$POLICY_MARK" "$POLICY" 2>/dev/null; then rm -f "$POLICY"; fi
}
