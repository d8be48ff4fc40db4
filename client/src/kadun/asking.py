"""Requests for verdicts on one card: retries, learned keys, verification, and the stored state."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from kadun.errors import (
    CardRejected,
    CoreFunctionError,
    FunctionFailed,
    FunctionNotFound,
    FunctionTimeout,
    ServerUnreachable,
    UpdateRequired,
)
from kadun.messages import rejection
from kadun.request import VerificationRequest
from kadun.responses import key_set_from, token_from
from kadun.retries import at_most_once
from kadun.tokens import key_id
from kadun.verdict import UPDATE_REQUIRED, is_function_failure, verify_verdict

if TYPE_CHECKING:
    import threading

    from kadun.keys import TrustedKeys
    from kadun.learned import LearnedKeys
    from kadun.offline import ClientState
    from kadun.retries import RetryPolicy
    from kadun.sealing import KeyPair
    from kadun.transport import Transport
    from kadun.verdict import Verdict

_FUNCTION_ERRORS = {
    "FUNCTION_NOT_FOUND": FunctionNotFound,
    "FUNCTION_FAILED": FunctionFailed,
    "FUNCTION_TIMEOUT": FunctionTimeout,
}
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Asker:
    """Sends a client's requests. The attributes are those of `Client`; once `stopped` is set, nothing is sent."""

    card_id: str
    version: str | None
    language: str
    transport: Transport
    retry_policy: RetryPolicy
    keys: TrustedKeys
    learned: LearnedKeys
    state: ClientState
    stopped: threading.Event | None = None

    def until(self, stopped: threading.Event) -> Asker:
        """Return an asker that sends nothing more once the event is set, and then does not wait for a retry either."""
        return replace(self, stopped=stopped, retry_policy=replace(self.retry_policy, sleep=stopped.wait))

    def ask(
        self,
        function: str,
        hardware: str,
        key_pair: KeyPair | None = None,
        *,
        path: str = "/v1/verify",
        arguments: dict[str, Any] | None = None,
    ) -> Verdict:
        """Return an accepted verdict; the errors are those of `Client.open` and `Client.execute`."""
        begun = self.state.baseline(hardware)
        public_key = key_pair.public_key if key_pair else None

        def attempt() -> tuple[VerificationRequest, str]:
            # A new nonce for each try: a late answer to an earlier try must not count for this one.
            request = VerificationRequest(
                self.card_id, hardware, function, public_key, arguments=arguments, version=self.version
            )
            body = request.body()
            answer = self.transport.exchange(path, body, self.language)
            return request.sent_as(body), token_from(answer)

        request, token = self.with_retries(attempt if arguments is None else at_most_once(attempt))
        self.learned.load(hardware)
        if key_id(token) not in self.keys:
            self.keys.learn(self.with_retries(self._fetch_key_set))
            self.learned.load(hardware)  # the keys may lead to its floor now
        verdict = verify_verdict(token, request, self.keys, key_pair)
        self.learned.saw(token, hardware)
        verdict = self.state.record(token, request, key_pair, verdict, begun)
        if not verdict.accepted:
            raise _rejection_error(verdict, self.language)
        return verdict

    def with_retries(self, attempt: Callable[[], _Result]) -> _Result:
        """Return the result of the first attempt that has one, within the retry policy."""
        tries_made = 0
        while True:
            if self.stopped is not None and self.stopped.is_set():
                raise ServerUnreachable("stopped before the request was sent", sent=False)
            tries_made += 1
            try:
                return attempt()
            except ServerUnreachable as failure:
                self.retry_policy.wait_after(failure, tries_made)

    def _fetch_key_set(self) -> bytes:
        try:
            return key_set_from(self.transport.exchange("/.well-known/jwks.json", None, self.language))
        except ServerUnreachable as failure:
            failure.sent = True  # this follows an answer: the function may have run
            raise


def _rejection_error(verdict: Verdict, language: str) -> CardRejected | CoreFunctionError:
    code, reference = verdict.code, verdict.reference
    message = rejection(code, reference, language)
    if code == UPDATE_REQUIRED:
        return UpdateRequired(code, message, reference, verdict.latest_version, verdict.update_url)
    if is_function_failure(code):
        return _FUNCTION_ERRORS.get(code, CoreFunctionError)(code, message, reference)
    return CardRejected(code, message, reference)
