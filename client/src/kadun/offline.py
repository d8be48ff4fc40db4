"""Offline starts: the last good verdict stands in when the server cannot be reached, never when it says no.

The rules, and what they are worth:

- Only where the vendor allows it: the kept verdict carries `offline_until`. The server's time, from the verdict's
  `iat` on, is what counts; every online verdict sets it anew, whatever the local clock has said in between.
- Offline, time is the local clock, but never earlier than the highest time seen plus a second. A clock that is more
  than five minutes behind that was turned back, stopped or lost: then each start uses up a 24th of the time allowed.
  So a clock in the past shuts nobody out at once, and turning it back is worth some starts, not the freedom to go on
  for ever. A clock that is ahead ends offline starts early, until the server is heard again.
- The time of an offline start is written down before it counts, also that of one that came too late. Where it
  cannot be written down, there is no offline start.
- What no file can prevent: a customer who copies it, and puts the copy back together with the clock, has those starts
  again. Keep the time that you allow short, and valuable work on the server.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Callable

from kadun.errors import UntrustedAnswer
from kadun.question import OPEN, Question
from kadun.sealing import Envelope
from kadun.store import LATEST_TIME, Kept, State
from kadun.verdict import check

if TYPE_CHECKING:
    from kadun.errors import KadunError
    from kadun.keys import TrustedKeys
    from kadun.store import Store
    from kadun.verdict import Verdict

Clock = Callable[[], float]
LEAST_STEP_SECONDS = 1
"""How much each offline start moves time forward at least."""

TOLERATED_LAG_SECONDS = 300
"""So far a clock may be behind the highest time seen; clocks are set right, and programs started twice."""

STARTS_WITHOUT_CLOCK = 24
"""Into so many starts the time allowed is divided where the clock says nothing."""


def time_of_start(seen: float, clock: float, allowed_seconds: float) -> float:
    """What time an offline start counts as, in seconds since 1970.

    Args:
        seen: the highest time seen before it.
        clock: what this machine's clock says.
        allowed_seconds: how long the vendor allows offline starts in all.
    """
    if clock < seen - TOLERATED_LAG_SECONDS:
        return min(seen + max(allowed_seconds / STARTS_WITHOUT_CLOCK, LEAST_STEP_SECONDS), LATEST_TIME)
    return min(max(seen + LEAST_STEP_SECONDS, clock), LATEST_TIME)


class Memory:
    """What a client keeps from start to start. It reads the file each time: another process may have written it.

    Its methods may be called from several threads, as a heartbeat does beside the program.
    """

    def __init__(self, store: Store, keys: TrustedKeys, clock: Clock) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._lock = threading.Lock()  # between reading the file and writing it

    def recall_keys(self, hardware: str) -> None:
        """Learn again the keys that were learned before, from their endorsements; a false one ends it."""
        self._follow(self._store.load(hardware))

    def keep(self, token: str, question: Question, envelope: Envelope | None, verdict: Verdict) -> None:
        """Remember an online verdict: its time, and itself where it may stand in; a no ends what was kept.

        A folder that cannot be written is no reason to fail: the server has said yes.
        """
        with self._lock:
            self._keep(token, question, envelope, verdict)

    def _keep(self, token: str, question: Question, envelope: Envelope | None, verdict: Verdict) -> None:
        before = self._store.load(question.hardware)
        after = State(self._keys.endorsements or before.endorsements, before.kept)
        now = verdict.issued_at.timestamp()
        if verdict.ends_what_was_allowed:
            after = replace(after, kept=None)
        elif envelope and verdict.accepted:
            allowed = verdict.offline_until is not None
            kept = Kept(token, question.nonce, envelope.secret(), now) if allowed else None
            after = replace(after, kept=kept)
        elif after.kept:
            after = replace(after, kept=replace(after.kept, seen=now))
        if after == before:
            return
        try:
            self._store.save(after, question.hardware)
        except OSError:
            if before.kept and not after.kept:  # better no file than one that says yes
                self._store.erase()

    def stand_in_for(self, failure: KadunError, card_id: str, hardware: str) -> Verdict:
        """The kept verdict, checked as if it had come just now.

        Raises:
            KadunError: the failure itself: nothing is kept, or its time is over or cannot be written down.
        """
        with self._lock:
            return self._stand_in_for(failure, card_id, hardware)

    def _stand_in_for(self, failure: KadunError, card_id: str, hardware: str) -> Verdict:
        state = self._store.load(hardware)
        if state.kept is None:
            raise failure
        self._follow(state)
        verdict = self._checked(state.kept, card_id, hardware)
        if verdict is None or verdict.offline_until is None:  # only an accepted opening carries it
            raise failure
        begins = verdict.issued_at.timestamp()
        ends = min(verdict.offline_until, verdict.card_expires_at or verdict.offline_until)
        now = time_of_start(max(state.kept.seen, begins), self._clock(), ends.timestamp() - begins)
        try:
            self._store.save(replace(state, kept=replace(state.kept, seen=now)), hardware)
        except OSError as refusal:
            failure.offline_refused(f"their time cannot be written down ({type(refusal).__name__})", over=False)
            raise failure from None
        if now >= ends.timestamp():
            failure.offline_refused(f"their time ended at {ends:%Y-%m-%d %H:%M:%S} UTC", over=True)
            raise failure
        return replace(verdict, offline=True, activated=False)

    def _follow(self, state: State) -> None:
        with suppress(UntrustedAnswer):
            self._keys.follow(state.endorsements)

    def _checked(self, kept: Kept, card_id: str, hardware: str) -> Verdict | None:
        envelope = Envelope.restored(kept.envelope)
        if envelope is None:
            return None
        question = Question(card_id, hardware, OPEN, envelope.public_key, kept.nonce)
        try:
            return check(kept.token, question, self._keys, envelope)
        except UntrustedAnswer:
            return None
