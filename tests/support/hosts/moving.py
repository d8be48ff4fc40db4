"""Moving a service: a customer's program, and a terminal to type a passphrase on."""

import contextlib
import json
import os
import pty
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kadun

from tests.support.hosts.stack import ROOT, Stack

CONTENTS_SQL = ROOT / "scripts/lib/contents.sql"
CORE_DATA = b"what the program cannot do without\n"


@dataclass(frozen=True)
class Program:
    """A customer's program: public keys and sealed data as shipped, and a card."""

    keys: str
    core: Path
    card: str
    hardware: str

    def client(self, https_port: int, ca: Path, **options: Any) -> kadun.Client:
        """Return its SDK client for a server on this machine."""
        return kadun.Client(
            f"https://127.0.0.1:{https_port}",
            public_keys=self.keys,
            card_id=self.card,
            hardware=self.hardware,
            ca_file=ca,
            **options,
        )

    def client_of(self, stack: Stack, **options: Any) -> kadun.Client:
        """Return its SDK client for a stack, whose certificate it trusts."""
        return self.client(stack.https_port, stack.folder / "https_certificates/fullchain.pem", **options)

    def open(self, https_port: int, ca: Path) -> dict[str, Any]:
        """Open the program with a server on this machine; return the verdict's facts and the decrypted data."""
        client = self.client(https_port, ca)
        verdict = client.open()
        return {
            "activated": verdict.activated,
            "expires_at": verdict.card_expires_at,
            "core": client.unseal(self.core),
        }

    def open_on(self, stack: Stack) -> dict[str, Any]:
        """Open the program with a stack, whose certificate it trusts."""
        return self.open(stack.https_port, stack.folder / "https_certificates/fullchain.pem")


def ship(stack: Stack, folder: Path, hardware: str) -> Program:
    """Ship a program from this stack, with a new card for one customer."""
    (folder / "core").write_bytes(CORE_DATA)
    (folder / "core.age").unlink(missing_ok=True)
    stack.seal(folder / "core", folder / "core.age")
    return Program(json.dumps(stack.cardctl("key", "export")), folder / "core.age", stack.new_card(), hardware)


def type_at(command: list[str | Path], answers: list[str]) -> tuple[int, str]:
    """Run a command on a terminal of its own and type an answer at each prompt for a passphrase.

    Return its exit status and what the terminal showed.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir("/")
        os.execv(command[0], [str(word) for word in command])  # noqa: S606  # no shell is wanted
    shown = fresh = ""
    waiting = list(answers)
    with contextlib.suppress(OSError):  # EIO: the last one on the other side has gone
        while chunk := os.read(terminal, 4096).decode(errors="replace"):
            shown += chunk
            fresh += chunk
            if waiting and re.search(r"passphrase[^\n]*: *$", fresh):
                os.write(terminal, f"{waiting.pop(0)}\n".encode())
                fresh = ""
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), shown


def contents(stack: Stack) -> str:
    """Return every table of a stack with its number of rows and their digest."""
    return stack.as_role("owner", "psql", "-qAt", text=CONTENTS_SQL.read_text()).stdout


def rows(stack: Stack) -> dict[str, str]:
    """Return every card and every entry of the journal."""
    return {table: stack.sql("backup", f"SELECT * FROM {table} ORDER BY 1") for table in ("card", "event")}  # noqa: S608
