"""Runs each case against the client under test, a command, and decides what the client made of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kadun_conformance.cases import REJECTED, Case
from kadun_conformance.forger import OPEN
from kadun_conformance.server import serving

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from kadun_conformance.forger import Vendor
    from kadun_conformance.server import CaseServer

STATUS_OPENED, STATUS_REJECTED = 0, 3
ACCEPTED, REFUSED, HUNG, CRASHED = "accepted", "refused", "hung", "crashed"
_LONGEST_NOTE = 160
HABITS = (
    ("nonce-repeated", "nonce 重复使用 / a nonce used more than once"),
    ("public-key-repeated", "多次启动用同一把公钥 / the same public key for several starts"),
)


@dataclass(frozen=True)
class Result:
    """What a client made of a case."""

    name: str
    group: str
    about: str
    genuine: bool
    outcome: str  # `accepted` as genuine, `refused`, `hung` or `crashed`
    status: int | None = None  # the client's; None if it had to be killed
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the client conforms."""
        return self.outcome == (ACCEPTED if self.genuine else REFUSED)


class Runner:
    """Runs cases against one command, which is started anew for each, and killed after `run_seconds`."""

    def __init__(
        self, vendor: Vendor, command: Sequence[str], folder: Path, try_seconds: float, run_seconds: float
    ) -> None:
        self.vendor, self._command, self._folder = vendor, command, folder
        self._try_seconds, self._run_seconds = try_seconds, run_seconds
        self.keys_file, self.core_file = folder / "keys.json", folder / "core.age"
        self.keys_file.write_text(json.dumps(vendor.pinned), encoding="utf-8")
        self.core_file.write_bytes(vendor.sealed_core())
        self._nonces: list[str] = []
        self._public_keys: list[str] = []

    def settings(self, url: str, state: str) -> dict[str, str]:
        """Return what the client is told: by name, and as `KADUN_` and the name in upper case in its environment."""
        return {
            "url": url,
            "keys": str(self.keys_file),
            "card": self.vendor.card,
            "function": OPEN,
            "hardware": self.vendor.hardware,
            "core": str(self.core_file),
            "state": state,
            "timeout_seconds": f"{self._try_seconds:g}",
        }

    def run_all(self, genuine: Iterable[Case], forged: Iterable[Case], jobs: int) -> Iterator[Result]:
        """Run the genuine cases one by one, which records a response for the replays, then the forged in parallel."""
        for case in genuine:
            yield self.run(case)
        with ThreadPoolExecutor(jobs) as pool:
            yield from pool.map(self.run, forged)
        for (name, about), values in zip(HABITS, (self._nonces, self._public_keys)):  # what must be new each time
            repeated = len(values) - len(set(values))
            outcome, note = (ACCEPTED, f"{repeated} of {len(values)}") if repeated else (REFUSED, "")
            yield Result(name, "习惯 habits", about, genuine=False, outcome=outcome, note=note)

    def run(self, case: Case) -> Result:
        """Start the client once."""
        state = tempfile.mkdtemp(prefix="state-", dir=self._folder)
        with serving(self.vendor, case) as server:
            status, output, note = self._started(self.settings(server.url, state))
        self._nonces += [request["nonce"] for request in server.requests]
        self._public_keys += {request["client_public_key"] for request in server.requests}
        outcome, why = self._outcome(case, status, self.vendor.core in output, server)
        return Result(case.name, case.group, case.about, case.genuine, outcome, status, why or note)

    def _started(self, settings: dict[str, str]) -> tuple[int | None, bytes, str]:
        told = {f"KADUN_{name.upper()}": value for name, value in settings.items()}
        command = list(self._command)
        for name, value in settings.items():  # other braces stay
            command = [argument.replace(f"{{{name}}}", value) for argument in command]
        with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
            status: int | None = None
            with subprocess.Popen(
                command,
                env={**os.environ, **told},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                start_new_session=os.name == "posix",
            ) as process:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    status = process.wait(self._run_seconds)
                if status is None:
                    _kill_with_children(process)
            output.seek(0)
            errors.seek(0)
            return status, output.read(), _last_line(errors.read())

    def _outcome(self, case: Case, status: int | None, shown: bool, server: CaseServer) -> tuple[str, str]:  # noqa: FBT001
        opened = status == STATUS_OPENED or shown
        if not opened and (status is None or status < 0):
            return (HUNG, "") if status is None else (CRASHED, f"ended by signal {-status}")
        if case.genuine:
            if not server.requests:
                return REFUSED, server.problems[0] if server.problems else "no request arrived"
            if opened and not shown:
                return REFUSED, "exit status 0, but the unsealed core data was not printed"
            return (REFUSED, "") if opened is (case.expected == REJECTED) else (ACCEPTED, "")
        if not opened and status == STATUS_REJECTED and "may_reject" not in case.options:
            return ACCEPTED, f"exit status {STATUS_REJECTED}: treated a forged rejection as genuine"
        return (ACCEPTED if opened else REFUSED), ""


def _kill_with_children(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.kill()
    else:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _last_line(raw: bytes) -> str:
    shown = raw.decode("utf-8", "replace").strip().rpartition("\n")[2][:_LONGEST_NOTE]
    return "".join(character if character.isprintable() else "?" for character in shown)
