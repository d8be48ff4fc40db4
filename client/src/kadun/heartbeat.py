"""The heartbeat: asks periodically, while the program runs, whether the card is still valid."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from typing import Callable, final

from kadun.client import Client
from kadun.errors import CardRejected, KadunError, ServerUnreachable
from kadun.messages import rejection
from kadun.request import OPEN
from kadun.verdict import Verdict

_log = logging.getLogger("kadun")
_log.addHandler(logging.NullHandler())  # without logging set up, nothing is shown

_random = secrets.SystemRandom()
_SHORTEST_JITTER = 0.9
_AFTER_EXPIRY_SECONDS = 1.0  # a moment too early, the server would still accept the card
_LONGEST_OUTAGE_PAUSE_SECONDS = 60.0
_LONGEST_FUNCTION = 64
_LONGEST_INTERVAL_SECONDS = 7 * 86_400.0


@final
class Heartbeat:
    """Asks in a separate thread, and calls back when the card is no longer valid.

    with Heartbeat(client, on_rejected=lambda error: window.close_with(error.message)):
        run_the_program()

    The callbacks run in the heartbeat's thread. Their exceptions are logged (logger `kadun`) and otherwise ignored, so
    that `sys.exit()` in them does not end the program: set a flag that the program reads, or call `os._exit(1)`, which
    ends it immediately. (`_thread.interrupt_main()` does not wake a program that sleeps or waits.)
    """

    def __init__(  # noqa: PLR0913 - all but one are keyword-only and have a default
        self,
        client: Client,
        *,
        function: str = "心跳",
        interval_seconds: float = 300,
        on_rejected: Callable[[CardRejected], object] | None = None,
        on_unreachable: Callable[[KadunError], object] | None = None,
        verdict: Verdict | None = None,
    ) -> None:
        """Prepare a heartbeat; `start`, or entering a `with` block, starts it.

        Args:
            client: the client that the program opened with; `report` may run beside its other calls.
            function: the name of the beats in the server's records, 1 to 64 characters.
            interval_seconds: the time between two beats, at most a week; up to a tenth less at random, so that
                customers who start together do not ask together. After a failed beat, at most a minute, unless
                `Retry-After` asks for more; then at most the interval.
            on_rejected: called once, with the signed rejection (expired, frozen, …). Then the heartbeat ends. If the
                server cannot be reached and the card has expired by its last verdict, it is called with a local
                `CARD_EXPIRED`, whose `reference` is empty: blocking the server does not help.
            on_unreachable: called with the error after each beat without a trusted answer. It says nothing about the
                card, and the heartbeat continues.
            verdict: the result of `open`. It replaces the first beat, which is otherwise sent at the start.

        Raises:
            ValueError: the interval is not positive or longer than a week, or the function's name is invalid.
        """
        if function == OPEN or not 1 <= len(function) <= _LONGEST_FUNCTION:
            raise ValueError(f"function must have 1 to {_LONGEST_FUNCTION} characters, and not be {OPEN}")
        if not 0 < interval_seconds <= _LONGEST_INTERVAL_SECONDS:
            raise ValueError("interval_seconds must be positive, and at most a week")
        self._client = client
        self._function = function
        self._interval_seconds = interval_seconds
        self._on_rejected = on_rejected
        self._on_unreachable = on_unreachable
        self._first = verdict
        self._expiry: float | None = None  # on this machine's monotonic clock, because its wall clock may be wrong
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Heartbeat:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start a daemon thread, which does not keep the program alive; RuntimeError if it was started before."""
        if self._thread is not None:
            raise RuntimeError("a heartbeat starts once; make a new one")
        if self._first is not None:
            self._note_expiry(self._first)
        self._thread = threading.Thread(target=self._run, name="kadun-heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop at once: no callback starts, nothing more is sent; `Client.unbind` waits for a beat in progress."""
        self._stopped.set()

    @property
    def running(self) -> bool:
        """Whether there will be more beats: started, not stopped, and the card not rejected."""
        return self._thread is not None and self._thread.is_alive() and not self._stopped.is_set()

    def _run(self) -> None:
        pause = 0.0 if self._first is None else self._until_next()
        while not self._stopped.wait(pause):
            pause = self._beat()

    def _beat(self) -> float:
        """Ask once, and return the seconds until the next beat."""
        try:
            self._note_expiry(self._client._beat(self._function, self._stopped))  # noqa: SLF001 - one package
        except CardRejected as rejected:
            self._call(self._on_rejected, rejected)
            self.stop()
            return 0
        except KadunError as failure:
            self._call(self._on_unreachable, failure)
            return self._after_failure(failure.retry_after if isinstance(failure, ServerUnreachable) else None)
        except Exception:  # noqa: BLE001
            # Not into the program: the traceback of a thread would appear on the customer's screen.
            _log.exception("a heartbeat failed unexpectedly")
            return self._after_failure(None)
        return self._until_next()

    def _note_expiry(self, verdict: Verdict) -> None:
        self._expiry = None
        if verdict.card_expires_at is not None and not verdict.offline:
            left = (verdict.card_expires_at - verdict.issued_at).total_seconds()  # both by the server's clock
            self._expiry = time.monotonic() + left

    def _until_next(self) -> float:
        return min(self._interval_seconds * _random.uniform(_SHORTEST_JITTER, 1), self._until_expired())

    def _until_expired(self) -> float:
        if self._expiry is None:
            return _LONGEST_INTERVAL_SECONDS
        # Not below a second, or a server whose clock is slow would be asked without pause.
        return max(self._expiry - time.monotonic(), 0) + _AFTER_EXPIRY_SECONDS

    def _after_failure(self, asked_for: int | None) -> float:
        if self._expiry is not None and time.monotonic() >= self._expiry:
            # Known from the last signed verdict.
            message = rejection("CARD_EXPIRED", "", self._client._asker.language)  # noqa: SLF001 - one package
            self._call(self._on_rejected, CardRejected("CARD_EXPIRED", message))
            self.stop()
            return 0
        pause = min(self._interval_seconds, _LONGEST_OUTAGE_PAUSE_SECONDS) * _random.uniform(_SHORTEST_JITTER, 1)
        # Retry-After is not signed: it may delay a beat to the regular interval, but never past the expiry.
        wait = min(asked_for or 0, self._interval_seconds)
        return min(max(pause, wait), self._until_expired())

    def _call(self, callback: Callable[..., object] | None, error: KadunError) -> None:
        if callback is None or self._stopped.is_set():
            return
        try:
            callback(error)
        except Exception:  # noqa: BLE001 - the heartbeat continues
            _log.exception("a heartbeat callback raised an exception")
        except BaseException:  # noqa: BLE001 - SystemExit would silently end this thread only
            _log.warning(
                "a heartbeat callback raised SystemExit, which does not end the program from a thread", exc_info=True
            )
