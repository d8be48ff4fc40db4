"""Plays each scenario to the client under test, and judges what it made of it."""

from __future__ import annotations

import json
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kadun.hostile.stage import playing
from kadun.hostile.subject import OPENED, REJECTED, Settings
from kadun.hostile.world import OPEN, Scenario, World

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from kadun.hostile.stage import Stage
    from kadun.hostile.subject import Finished, Subject

BELIEVED, REFUSED, UNTRIED, HONOURED, FAILED = "believed", "refused", "untried", "honoured", "failed"
HUNG, CRASHED = "hung", "crashed"
_FINE = {REFUSED, UNTRIED, HONOURED}


@dataclass(frozen=True)
class Result:
    """What a client made of a scenario.

    Attributes:
        outcome: of a lie `refused`, `believed`, `hung` or `untried`; of an honest answer `honoured`, `failed`
            or `hung`; of both `crashed`.
        status: the client's exit status; None when it had to be ended.
        note: why, where that is known.
    """

    name: str
    group: str
    honest: bool
    outcome: str
    status: int | None = None
    seconds: float = 0
    note: str = ""

    @property
    def fine(self) -> bool:
        """Whether a good client does so."""
        return self.outcome in _FINE


@dataclass(frozen=True)
class Limits:
    """Seconds: `client` is what the client is told to allow one try, `run` after which it is ended."""

    client: float
    run: float


class Trial:
    """One client before one world."""

    def __init__(self, world: World, subject: Subject, folder: Path, limits: Limits) -> None:
        """Write the files that the client needs into `folder`."""
        self.world, self._subject, self._folder, self._limits = world, subject, folder, limits
        self.keys_file, self.core_file = folder / "keys.json", folder / "core.age"
        self.keys_file.write_text(json.dumps(world.pinned), encoding="utf-8")
        self.core_file.write_bytes(world.sealed_core())
        self._nonces: list[str] = []
        self._public_keys: list[str] = []

    def settings(self, url: str, state: str) -> Settings:
        """What the client is told."""
        world, timeout = self.world, self._limits.client
        files = str(self.keys_file), str(self.core_file)
        return Settings(url, files[0], world.card, OPEN, world.hardware, files[1], state, timeout)

    def play(self, scenario: Scenario) -> Result:
        """One start of the client.

        Raises:
            CommandError: the client cannot be started.
        """
        state = tempfile.mkdtemp(prefix="state-", dir=self._folder)
        begun = time.monotonic()
        with playing(self.world, scenario) as stage:
            finished = self._subject(self.settings(stage.url, state), self._limits.run)
        seconds = time.monotonic() - begun
        self._nonces += [request["nonce"] for request in stage.requests]
        self._public_keys += {request.get("client_public_key") or "" for request in stage.requests} - {""}
        outcome, note = self._judge(scenario, finished, stage)
        about = scenario.name, scenario.group, scenario.honest
        return Result(*about, outcome, finished.status, round(seconds, 3), note or finished.note)

    def play_all(self, honest: Iterable[Scenario], lies: Iterable[Scenario], jobs: int) -> Iterator[Result]:
        """The honest answers first and in turn, so that there is something to replay; then the lies, side by side.

        Raises:
            CommandError: the client cannot be started.
        """
        for scenario in honest:
            yield self.play(scenario)
        with ThreadPoolExecutor(jobs) as pool:
            yield from pool.map(self.play, lies)
        yield from self._habits()

    def _judge(self, scenario: Scenario, finished: Finished, stage: Stage) -> tuple[str, str]:
        shown = self.world.core in finished.output
        opened = finished.status == OPENED or shown
        if not opened and (finished.status is None or finished.status < 0):
            return self._broken(finished)
        if not scenario.honest:
            return _of_a_lie(scenario, stage, opened=opened, heeded=finished.status == REJECTED)
        if not stage.requests:
            return FAILED, _why_nothing_was_asked(stage)
        if opened is (scenario.expects == "rejected"):
            return FAILED, "opened after a signed no" if opened else ""
        if opened and not shown:
            return FAILED, "exit status 0, but the unsealed core data was not printed"
        return HONOURED, ""

    def _broken(self, finished: Finished) -> tuple[str, str]:
        if finished.status is None:
            return HUNG, f"still running after {self._limits.run:g} s"
        return CRASHED, finished.note or f"ended by signal {-finished.status}"

    def _habits(self) -> Iterator[Result]:
        """Whether the client leaves to chance what must be new each time."""
        for name, seen in (("nonce-repeated", self._nonces), ("public-key-repeated", self._public_keys)):
            again = len(seen) - len(set(seen))
            outcome, note = (BELIEVED, f"{again} of {len(seen)}") if again else (REFUSED, "")
            yield Result(name, "习惯 habits", honest=False, outcome=outcome if seen else UNTRIED, note=note)


def _of_a_lie(scenario: Scenario, stage: Stage, *, opened: bool, heeded: bool) -> tuple[str, str]:
    if opened:
        return BELIEVED, ""
    if heeded and scenario.expects == "refused":
        return BELIEVED, f"exit status {REJECTED}: took a forged no for a real one"
    if stage.not_asked:
        return UNTRIED, "it asks for the key in clear"
    if not stage.requests:
        return UNTRIED, _why_nothing_was_asked(stage)
    return REFUSED, ""


def _why_nothing_was_asked(stage: Stage) -> str:
    return stage.complaints[0] if stage.complaints else "it never asked"
