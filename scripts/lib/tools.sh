# shellcheck shell=bash
# Programs that the tests need, from the distribution's packages. Sourced after common.sh and python.sh.

PATH+=:/usr/sbin:/sbin # where nginx and ip lie, and an ordinary user does not look

# missing_packages PROGRAM[:PACKAGE]…: a file may stand for a program, by its absolute path.
missing_packages() {
    local tool
    for tool in "$@"; do
        [[ ${tool%%:*} == /* && -e ${tool%%:*} ]] || command -v "${tool%%:*}" >/dev/null || printf '%s ' "${tool##*:}"
    done | sed 's/ $//'
}

# bring_tools PROGRAM[:PACKAGE]…: installs what is missing, as root on Debian and Ubuntu, and prints what is missing then.
# No service is started: Debian has a hook for that. Nor is nginx at the next boot: its program alone is wanted.
bring_tools() (
    missing=$(missing_packages "$@") hook=/usr/sbin/policy-rc.d
    if [[ -n $missing && $EUID == 0 ]] && command -v apt-get >/dev/null; then
        echo "installing $missing …" >&2
        if [[ ! -e $hook ]]; then
            trap 'rm -f "$hook"' EXIT
            printf '#!/bin/sh\nexit 101\n' >"$hook" && chmod 755 "$hook"
        fi
        export DEBIAN_FRONTEND=noninteractive
        apt-get -qq -o DPkg::Lock::Timeout=300 update >&2 || true
        # shellcheck disable=SC2086  # the names are words
        apt-get -qq -o DPkg::Lock::Timeout=300 install -y --no-install-recommends $missing >/dev/null || true
        [[ $missing != *nginx* ]] || systemctl disable nginx >/dev/null 2>&1 || true
    fi
    missing_packages "$@"
)

# libpython: the shared library of .venv's Python and its package; Debian splits off what packaging a program wants.
libpython() {
    "$VENV_PYTHON" -c 'import sys; from sysconfig import get_config_var as var
shared, version = var("Py_ENABLE_SHARED"), "%d.%d" % sys.version_info[:2]
print(var("LIBDIR") + "/" + var("INSTSONAME") + ":libpython" + version if shared else "bash")'
}
