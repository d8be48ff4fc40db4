"""Places for calls. Each has user IDs of its own, so that the kernel separates the calls from one another."""

import contextlib
import os
import pwd
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from app.environment import SettingsError
from app.functions import privileges

MAX_PLACES = 64
IDS = 1 + 2 * MAX_PLACES
"""How many user IDs the functions service needs."""
_LEFTOVER_SECONDS = 5


class Place(NamedTuple):
    """The user IDs and the group ID of one place.

    A call runs as `user`, its supervisor as `supervisor`: the call can neither signal its supervisor nor lower its
    priority. The supervisor keeps SETUID, to take on `user` when it ends the call.
    """

    user: int
    supervisor: int
    group: int

    @classmethod
    def numbered(cls, first: int, number: int) -> "Place":
        """Return a place by its number, where the service's user IDs begin with `first`."""
        if not 0 <= number < MAX_PLACES:
            raise ValueError(f"place {number} is not between 0 and {MAX_PLACES - 1}")
        return cls(first + 1 + 2 * number, first + 2 + 2 * number, first)

    def enter(self) -> None:
        """Become a supervisor in this place. Its files are the call's, and it may look at the call in /proc."""
        privileges.become(self.supervisor, self.group, kept=(privileges.SETUID,))
        privileges.use_files_of(self.user)
        privileges.set_dumpable(0)

    def become_call(self) -> None:
        """Become a call in this place, without any capability; only a supervisor can."""
        os.setresuid(self.user, self.user, self.user)
        privileges.keep(())
        privileges.set_dumpable(1)  # for its own user: the supervisor adds up its memory

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Let a supervisor have the call's effective user ID for a while."""
        os.seteuid(self.user)
        try:
            yield
        finally:
            os.seteuid(self.supervisor)
            privileges.use_files_of(self.user)

    def kill_others(self) -> None:
        """Kill all other processes of this place at once; none of them can fork meanwhile.

        Raises:
            RuntimeError: this process is not a supervisor in this place. It might kill the whole machine's processes.
        """
        if os.getresuid() != (self.supervisor,) * 3 or privileges.holds(privileges.KILL):
            raise RuntimeError("only a supervisor may end a place's processes")
        with contextlib.suppress(ProcessLookupError, PermissionError), self.owned():
            os.kill(-1, signal.SIGKILL)  # at once: until then the call could lower this process's priority


def claim(first: int) -> socket.socket:
    """Claim the user IDs from `first` on for this process, until it closes the socket that is returned.

    Raises:
        SettingsError: another service has claimed them, an account has one of them, or a process runs under one.
    """
    last = first + IDS - 1
    name = "KADUN_FUNCTION_FIRST_UID"
    claimed = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        claimed.bind(f"\0kadun-function-users-{first}")  # abstract: it ends with the process that holds it
    except OSError as error:
        raise SettingsError(f"{name} is {first}: another functions service of this machine uses that range") from error
    for number in range(first, last + 1):
        with contextlib.suppress(KeyError):
            account = pwd.getpwuid(number).pw_name
            raise SettingsError(f"{name} is {first}: user {account} has a user ID from {first} to {last}")
    deadline = time.monotonic() + _LEFTOVER_SECONDS  # what a killed service has left ends soon
    while running := next(_processes_of(first, last), None):
        if time.monotonic() > deadline:
            raise SettingsError(f"{name} is {first}: process {running} runs under a user ID from {first} to {last}")
        time.sleep(0.1)
    return claimed


def _processes_of(first: int, last: int) -> Iterator[int]:
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):  # it has ended
            if entry.name.isdigit():
                lines = (entry / "status").read_text("utf-8", "replace").splitlines()
                ids = next(line.split()[1:] for line in lines if line.startswith("Uid:"))
                if any(first <= int(number) <= last for number in ids):
                    yield int(entry.name)
