"""Requests for verdicts on one card: retries, learned keys, verification, and the stored state."""

from __future__ import annotations

import hashlib
import secrets
import threading
from dataclasses import dataclass, replace
from typing import Any, Callable, TypeVar

from kadun import errors
from kadun.messages import rejection
from kadun.offline import ClientState
from kadun.request import VerificationRequest, json_body
from kadun.responses import endorsements_from, token_from
from kadun.retries import RetryPolicy
from kadun.sealing import KeyPair
from kadun.tokens import key_id
from kadun.transport import Transport
from kadun.verdict import UPDATE_REQUIRED, Verdict, is_function_failure

_FUNCTION_ERRORS = {
    "FUNCTION_NOT_FOUND": errors.FunctionNotFound,
    "FUNCTION_FAILED": errors.FunctionFailed,
    "FUNCTION_TIMEOUT": errors.FunctionTimeout,
}
_NONCE_BYTES = 24
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Asker:
    """Sends a client's requests. The attributes are those of `Client`; once `stopped` is set, nothing is sent."""

    card_id: str
    version: str | None
    language: str
    transport: Transport
    retry_policy: RetryPolicy
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

        def attempt() -> tuple[VerificationRequest, str]:
            # A new nonce for each try: a late answer to an earlier try must not count for this one.
            nonce = secrets.token_urlsafe(_NONCE_BYTES)
            fields = {
                "card_id": self.card_id,
                "hardware": hardware,
                "function": function,
                "nonce": nonce,
                "version": self.version,
                "program": self.state.keys.program,
                "client_public_key": key_pair.public_key if key_pair else None,
                "arguments": arguments,
            }
            body = json_body(fields)
            token = token_from(self.transport.exchange(path, body, self.language))
            return VerificationRequest(self.card_id, hardware, function, nonce, hashlib.sha256(body).hexdigest()), token

        request, token = self.with_retries(attempt, at_most_once=arguments is not None)
        self.state.load_keys(hardware)
        if key_id(token) not in self.state.keys:
            self.state.keys.add_endorsed(self.with_retries(self._fetch_endorsements))
            self.state.load_keys(hardware)  # the keys may lead to its floor now
        verdict = self.state.verify(token, request, key_pair, begun)
        if not verdict.accepted:
            raise _rejection_error(verdict, self.language)
        return verdict

    def with_retries(self, attempt: Callable[[], _Result], *, at_most_once: bool = False) -> _Result:
        """Return the first result within the retry policy; `at_most_once` retries only if no connection was made."""
        tries_made = 0
        while True:
            if self.stopped is not None and self.stopped.is_set():
                raise errors.ServerUnreachable("stopped before the request was sent", sent=False)
            tries_made += 1
            try:
                return attempt()
            except errors.ServerUnreachable as failure:
                if at_most_once and failure.sent:
                    failure.passing = False
                self.retry_policy.wait_after(failure, tries_made)

    def _fetch_endorsements(self) -> list[object]:
        try:
            return endorsements_from(self.transport.exchange("/.well-known/jwks.json", None, self.language))
        except errors.ServerUnreachable as failure:
            failure.sent = True  # this follows an answer: the function may have run
            raise


def _rejection_error(verdict: Verdict, language: str) -> errors.KadunError:
    code, reference = verdict.code, verdict.reference
    message = rejection(code, reference, language)
    if code == UPDATE_REQUIRED:
        return errors.UpdateRequired(code, message, reference, verdict.latest_version, verdict.update_url)
    if is_function_failure(code):
        return _FUNCTION_ERRORS.get(code, errors.CoreFunctionError)(code, message, reference)
    return errors.CardRejected(code, message, reference)
