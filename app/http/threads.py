"""The requests that run in native threads, and those that run on the hub (docs/decisions.md)."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, BinaryIO

from app import hub
from app.domain.errors import UnavailableError
from app.http.problems import sentence, too_many_requests
from app.services.passwords import LoginBusyError

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_ON_THE_HUB = ("/v1/verify", "/v1/files", "/v1/execute", "/healthz")
"""Paths whose requests wait for nothing but the hub, and compute little; they ask for threads themselves."""

_PATIENCE_SECONDS = 20.0
_AT_ONCE = 2
_LOG_INS, _WAITING_LOG_INS = 2, 10
_UNDER_WAY, _ALL_UNDER_WAY = 8, 16
REFUSED = "kadun.refused"
"""In the environ, the error to answer a request with: too many are under way or waiting, or it has waited too long."""
OPERATOR = "kadun.operator"
"""In the environ of an answered request: whose session it came with."""
_SESSIONS = 10_000

Sender = Callable[[dict[str, Any]], str | None]
"""Returns what names the sender of a request, None for a request of another kind."""


class Threads:
    """WSGI middleware: runs a request in a native thread unless it belongs to the few that are made for the hub.

    Operators' pages and shops' orders may take a hundred times as long as a verification, and be large; self-service
    waits for the locks of cards. Of either kind so many run at once in this process, and so many of each sender's, and
    of all, are under way until the answer is sent. Otherwise one sender could keep all customers waiting, or fill the
    memory. The sessions of one operator are one sender, from the first answer to each on.

    Args:
        application: What answers.
        is_log_in: Whether a request waits its turn on the hub: anybody may send many that are slow.
        senders: One for each kind: what an operator or shop proves to be with; one name for all of self-service.
    """

    def __init__(
        self,
        application: Application,
        is_log_in: Callable[[dict[str, Any]], bool],
        *senders: Sender,
    ) -> None:
        self._application = application
        self._is_log_in = is_log_in
        self._log_ins = hub.Places(_LOG_INS, _PATIENCE_SECONDS, _WAITING_LOG_INS)
        self._queues = [(sender, _Queue()) for sender in senders]
        self._operators: dict[str, str] = {}

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        if environ["PATH_INFO"].startswith(_ON_THE_HUB):
            return self._application(environ, start_response)
        environ["wsgi.input"] = _Body(environ["wsgi.input"])
        in_thread = partial(hub.in_thread, partial(self._application, environ, start_response))

        is_log_in = self._is_log_in(environ)
        refuse = partial(self._application, environ | {REFUSED: _refusal(is_log_in)}, start_response)
        if is_log_in:
            with self._log_ins.taken() as is_taken:
                return in_thread() if is_taken else refuse()
        for sender_of, queue in self._queues:
            sender = sender_of(environ)
            if sender is not None:
                try:
                    return queue.run(self._operators.get(sender, sender), in_thread, refuse)
                finally:
                    if OPERATOR in environ:
                        self._keep(sender, environ[OPERATOR])
        return in_thread()

    def _keep(self, session: str, operator: str) -> None:
        if len(self._operators) >= _SESSIONS:
            self._operators.clear()
        self._operators[session] = operator


class _Queue:
    """The requests of one kind that run, wait and are under way."""

    def __init__(self) -> None:
        self._places = hub.Places(_AT_ONCE, _PATIENCE_SECONDS)
        self._under_way: Counter[str] = Counter()

    def run(
        self, sender: str, run: Callable[[], Iterable[bytes]], refuse: Callable[[], Iterable[bytes]]
    ) -> Iterable[bytes]:
        """Run a request in its turn, or refuse it where too many are under way, or its turn does not come."""
        if self._under_way[sender] >= _UNDER_WAY or self._under_way.total() >= _ALL_UNDER_WAY:
            return refuse()
        self._under_way[sender] += 1
        over = partial(self._end, sender)
        try:
            with self._places.taken() as is_taken:
                if is_taken:
                    return _Counted(run(), over)
        except BaseException:
            over()
            raise
        over()
        return refuse()

    def _end(self, sender: str) -> None:
        self._under_way[sender] -= 1
        if not self._under_way[sender]:
            del self._under_way[sender]


class _Counted:
    """An answer that is under way until it is closed: while it is sent, the whole page is in memory."""

    def __init__(self, body: Iterable[bytes], over: Callable[[], None]) -> None:
        self._body = body
        self._over = over

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._body)

    def close(self) -> None:
        """End it, as PEP 3333 wants of every server."""
        try:
            if hasattr(self._body, "close"):
                self._body.close()
        finally:
            self._over()


def _refusal(is_log_in: bool) -> Exception:  # noqa: FBT001  # the only argument
    if is_log_in:
        busy = LoginBusyError()
        return too_many_requests(busy.retry_after, sentence(busy))
    return UnavailableError("too many such requests are under way")


class _Body:
    """A request's body for a native thread; its socket belongs to the hub."""

    def __init__(self, body: BinaryIO) -> None:
        self._body = body

    def read(self, *size: int) -> bytes:
        return hub.on_hub(partial(self._body.read, *size))

    def readline(self, *size: int) -> bytes:
        return hub.on_hub(partial(self._body.readline, *size))
