"""Offline starts (docs/client.md): the last accepted verdict stands in for the server, never after a rejection."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace
from typing import Callable, NamedTuple

from kadun.clocks import synchronized
from kadun.errors import KadunError, RequestRefused, UntrustedAnswer
from kadun.keys import TrustedKeys
from kadun.learned import take_up, with_floor
from kadun.request import OPEN, VerificationRequest
from kadun.sealing import KeyPair, Secret
from kadun.store import CachedVerdict, Rejection, State, StateStore, normalized_card_id
from kadun.tokens import key_id
from kadun.verdict import Verdict, verify_verdict

Clock = Callable[[], float]


class Baseline(NamedTuple):
    """The last rejection known when a request began: to this client, and in the file."""

    here: Verdict | None
    stored: Rejection | None


class ClientState:
    """The state of a client, in memory and in files, which other processes may write, too. Threads may share it."""

    def __init__(self, keys: TrustedKeys, of_keys: StateStore, of_card: StateStore, clock: Clock) -> None:
        self.keys = keys
        self._of_keys = of_keys  # the server's, for all cards
        self._store = of_card
        self._clock = clock
        self._lock = threading.Lock()  # for the files, the key and the last rejection, which change together
        self._last_no: Verdict | None = None
        self.data_key: Secret | None = None  # of the last opening, online or offline, unless a rejection revoked it

    def load_keys(self, hardware: str) -> None:
        """Take up the stored keys and floor; call this before a token is verified."""
        with self._lock:
            self._of_keys.update(hardware, lambda before: take_up(before, self.keys, self._clock()))

    def baseline(self, hardware: str) -> Baseline:
        """Return the rejections known now; call this before a request is sent, whose answer is later than these."""
        return Baseline(self._last_no, self._store.load(hardware).rejection)

    def verify(self, token: str, request: VerificationRequest, key_pair: KeyPair | None, begun: Baseline) -> Verdict:
        """Verify an online verdict, and raise the floor to its key, if that is a later one.

        Store its time, and the verdict itself if it allows offline starts. A rejection ends them. A folder that cannot
        be written is not an error: the server has accepted the card. Return the verdict, or for an opening a later
        rejection that arrived during the request.
        """
        verdict = verify_verdict(token, request, self.keys, key_pair)
        with self._lock:
            self.keys.saw(key_id(token), self._clock())
            self._of_keys.update(request.hardware, lambda before: with_floor(before, self.keys, self._clock()))
            later_no = self._last_no if self._last_no is not begun.here else None
            if verdict.revokes_access:
                self._last_no = verdict
                if verdict.revokes_key:
                    self.data_key = None
            elif later_no and verdict.issued_at <= later_no.issued_at:
                return later_no if key_pair else verdict
            elif key_pair and verdict.accepted:
                self._last_no, self.data_key = None, verdict.data_key
            kept = None
            if key_pair:
                times = synchronized(_seconds(verdict), self._clock())
                kept = CachedVerdict(
                    token, request.card_id, request.nonce, key_pair.secret(), times, request.body_sha256
                )
            self._store.update(request.hardware, lambda before: self._after(before, verdict, kept, begun))
            return verdict

    def _after(self, before: State, verdict: Verdict, kept: CachedVerdict | None, begun: Baseline) -> State:
        after = State(cached=before.cached, rejection=before.rejection)
        said_at, no = _seconds(verdict), before.rejection
        if verdict.revokes_access:
            mistyped = verdict.code == "CARD_NOT_FOUND" and before == State()  # a typing error leaves no file
            return replace(after, cached=None, rejection=None if mistyped else Rejection(said_at, verdict.reference))
        if no and no != begun.stored and said_at <= no.at:
            return after  # another process has received a later rejection
        if kept and verdict.accepted:
            return State(cached=kept if verdict.offline_until else None)
        if after.cached:
            return replace(after, cached=replace(after.cached, times=synchronized(said_at, self._clock())))
        return after

    def forget_offline_start(self, hardware: str) -> None:
        """Remove the stored verdict, so that the next start needs the server."""
        with self._lock:
            self._store.update(hardware, lambda before: replace(before, cached=None))

    def offline_verdict(self, failure: KadunError, card_id: str, hardware: str) -> Verdict:
        """Return the stored verdict, verified anew; raise the failure if there is none, or its time is over."""
        with self._lock:
            if self._store.load(hardware).cached is None:
                raise failure
            with self._store.locked():
                verdict = self._offline_verdict(failure, card_id, hardware)
            self.data_key = verdict.data_key
            return verdict

    def _offline_verdict(self, failure: KadunError, card_id: str, hardware: str) -> Verdict:
        state = self._store.load(hardware)
        if state.cached is None:
            raise failure
        with suppress(UntrustedAnswer):  # as release 1.0 stored them
            self.keys.add_endorsed(state.endorsements)
        verdict = self._checked(state.cached, card_id, hardware)
        if verdict is None or verdict.offline_until is None:  # only an accepted opening contains it
            raise failure
        if self._last_no and verdict.issued_at <= self._last_no.issued_at:  # the file could not be erased
            raise failure
        begins = _seconds(verdict)
        ends = min(verdict.offline_until, verdict.card_expires_at or verdict.offline_until)
        times = state.cached.times.not_before(begins).started(self._clock(), ends.timestamp() - begins)
        try:
            self._store.save(replace(state, cached=replace(state.cached, times=times)), hardware)
        except OSError as refusal:
            failure.offline_refused(f"their time cannot be stored ({type(refusal).__name__})", over=False)
            raise failure from None
        if times.spent >= ends.timestamp():
            failure.offline_refused(f"their time ended at {ends:%Y-%m-%d %H:%M:%S} UTC", over=True)
            raise failure
        return replace(verdict, offline=True, activated=False)

    def _checked(self, kept: CachedVerdict, card_id: str, hardware: str) -> Verdict | None:
        key_pair = KeyPair.from_secret(kept.key_pair)
        if key_pair is None or normalized_card_id(kept.card_id) != normalized_card_id(card_id):
            return None
        request = VerificationRequest(kept.card_id, hardware, OPEN, kept.nonce, kept.body_sha256)
        try:
            return verify_verdict(kept.token, request, self.keys, key_pair)
        except (UntrustedAnswer, RequestRefused):
            return None


def _seconds(verdict: Verdict) -> float:
    return verdict.issued_at.timestamp()
