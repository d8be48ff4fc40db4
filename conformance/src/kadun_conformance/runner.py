"""Runs each case against the client under test, and decides what the client made of it."""

from __future__ import annotations

import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kadun_conformance.case import REJECTED, Case
from kadun_conformance.client_under_test import OPENED as STATUS_OPENED
from kadun_conformance.client_under_test import REJECTED as STATUS_REJECTED
from kadun_conformance.client_under_test import Settings
from kadun_conformance.forger import OPEN
from kadun_conformance.server import serving

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from kadun_conformance.client_under_test import ClientUnderTest, Finished
    from kadun_conformance.forger import Vendor
    from kadun_conformance.server import CaseServer

ACCEPTED, REFUSED, UNTESTED, HUNG, CRASHED = "accepted", "refused", "untested", "hung", "crashed"
_HABITS = "习惯 habits"
HABITS = (
    ("nonce-repeated", "nonce 重复使用 / a nonce used more than once"),
    ("public-key-repeated", "多次启动用同一把公钥 / the same public key for several starts"),
)


@dataclass(frozen=True)
class Result:
    """What a client made of a case.

    Attributes:
        genuine: whether the response was genuine.
        outcome: `accepted` as genuine, `refused`, `untested`, `hung` or `crashed`.
        status: the client's exit status; None if it had to be killed.
        note: the reason, where it is known.
    """

    name: str
    group: str
    about: str
    genuine: bool
    outcome: str
    status: int | None = None
    seconds: float = 0
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether the client conforms."""
        return self.outcome in (UNTESTED, ACCEPTED if self.genuine else REFUSED)


@dataclass(frozen=True)
class Limits:
    """Seconds: `client` is what the client may take for one try, `run` is after how long it is killed."""

    client: float
    run: float


class Runner:
    """Runs cases against one client."""

    def __init__(self, vendor: Vendor, client: ClientUnderTest, folder: Path, limits: Limits) -> None:
        """Write the files that the client needs into `folder`."""
        self.vendor, self._client, self._folder, self._limits = vendor, client, folder, limits
        self.keys_file, self.core_file = folder / "keys.json", folder / "core.age"
        self.keys_file.write_text(json.dumps(vendor.pinned), encoding="utf-8")
        self.core_file.write_bytes(vendor.sealed_core())
        self._nonces: list[str] = []
        self._public_keys: list[str] = []

    def settings(self, url: str, state: str) -> Settings:
        """Return what the client is told."""
        vendor, timeout = self.vendor, self._limits.client
        files = str(self.keys_file), str(self.core_file)
        return Settings(url, files[0], vendor.card, OPEN, vendor.hardware, files[1], state, timeout)

    def run(self, case: Case) -> Result:
        """Start the client once.

        Raises:
            CommandError: the client cannot be started.
        """
        state = tempfile.mkdtemp(prefix="state-", dir=self._folder)
        started = time.monotonic()
        with serving(self.vendor, case) as server:
            finished = self._client(self.settings(server.url, state), self._limits.run)
        seconds = time.monotonic() - started
        self._nonces += [request["nonce"] for request in server.requests]
        self._public_keys += {request.get("client_public_key") or "" for request in server.requests} - {""}
        outcome, note = self._outcome(case, finished, server)
        about = case.name, case.group, case.about, case.genuine
        return Result(*about, outcome, finished.status, round(seconds, 3), note or finished.note)

    def run_all(self, genuine: Iterable[Case], forged: Iterable[Case], jobs: int) -> Iterator[Result]:
        """Run the genuine cases one by one, which records a response for the replays, then the forged in parallel.

        Raises:
            CommandError: the client cannot be started.
        """
        for case in genuine:
            yield self.run(case)
        with ThreadPoolExecutor(jobs) as pool:
            yield from pool.map(self.run, forged)
        yield from self._habits()

    def _outcome(self, case: Case, finished: Finished, server: CaseServer) -> tuple[str, str]:
        shown = self.vendor.core in finished.output
        opened = finished.status == STATUS_OPENED or shown
        if not opened and finished.status is None:
            return HUNG, f"still running after {self._limits.run:g} s"
        if not opened and finished.status is not None and finished.status < 0:
            return CRASHED, finished.note or f"ended by signal {-finished.status}"
        if case.genuine:
            return _of_genuine(case, server, opened=opened, shown=shown)
        return _of_forged(case, server, opened=opened, rejected=finished.status == STATUS_REJECTED)

    def _habits(self) -> Iterator[Result]:
        """Report whether the client repeated what must be new each time."""
        for (name, about), values in zip(HABITS, (self._nonces, self._public_keys)):
            repeated = len(values) - len(set(values))
            outcome, note = (ACCEPTED, f"{repeated} of {len(values)}") if repeated else (REFUSED, "")
            yield Result(name, _HABITS, about, genuine=False, outcome=outcome if values else UNTESTED, note=note)


def _of_genuine(case: Case, server: CaseServer, *, opened: bool, shown: bool) -> tuple[str, str]:
    if not server.requests:
        return REFUSED, _why_no_request(server)
    if opened is (case.expected == REJECTED):
        return REFUSED, "opened after a signed rejection" if opened else ""
    if opened and not shown:
        return REFUSED, "exit status 0, but the unsealed core data was not printed"
    return ACCEPTED, ""


def _of_forged(case: Case, server: CaseServer, *, opened: bool, rejected: bool) -> tuple[str, str]:
    if opened:
        return ACCEPTED, ""
    if rejected and "may_reject" not in case.options:
        return ACCEPTED, f"exit status {STATUS_REJECTED}: treated a forged rejection as genuine"
    if server.clear_key_requested:
        return UNTESTED, "the client asks for the key in clear"
    if not server.requests:
        return UNTESTED, _why_no_request(server)
    return REFUSED, ""


def _why_no_request(server: CaseServer) -> str:
    return server.problems[0] if server.problems else "no request arrived"
