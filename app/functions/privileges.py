"""User IDs and capabilities of Linux processes."""

import ctypes
import os
from collections.abc import Iterable

from app.functions.processes import libc, prctl

SETGID, SETUID, KILL = 6, 7, 5
"""Numbers of capabilities(7)."""
_PR_SET_DUMPABLE = 4  # prctl(2)
_PR_SET_KEEPCAPS = 8
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Word(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def forbid_new() -> None:
    """Let no program that this process or a child executes gain privileges, neither by set-user-ID nor as root."""
    prctl(_PR_SET_NO_NEW_PRIVS, 1)


def set_dumpable(value: int) -> None:
    """Allow (1) or forbid (0) processes of the same user to trace this one and to read its memory and environment."""
    prctl(_PR_SET_DUMPABLE, value)


def become(user: int, group: int, *, kept: Iterable[int]) -> None:
    """Take on a user and a group, leave all other groups, and keep only these capabilities."""
    prctl(_PR_SET_KEEPCAPS, 1)
    os.setgroups([])
    os.setresgid(group, group, group)
    os.setresuid(user, user, user)
    keep(kept)


def use_files_of(user: int) -> None:
    """Access files, and /proc, as another user; this needs SETUID, and ends when the effective user ID changes."""
    libc.setfsuid(user)
    if libc.setfsuid(-1) != user:  # it returns the former user ID, and no error
        raise PermissionError("setfsuid")


def keep(numbers: Iterable[int]) -> None:
    """Give up all capabilities but these."""
    mask = sum(1 << number for number in numbers)
    words = (_Word * 2)(_Word(mask, mask, 0), _Word(0, 0, 0))
    if libc.capset(ctypes.byref(_Header(_CAPABILITY_VERSION, 0)), ctypes.byref(words)) != 0:
        raise OSError(ctypes.get_errno(), "capset")


def holds(number: int) -> bool:
    """Tell whether this process has a capability."""
    words = (_Word * 2)()
    if libc.capget(ctypes.byref(_Header(_CAPABILITY_VERSION, 0)), ctypes.byref(words)) != 0:
        raise OSError(ctypes.get_errno(), "capget")
    return bool((words[0].effective | words[0].permitted) >> number & 1)
