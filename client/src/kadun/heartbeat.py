"""A heartbeat: while the program runs, ask again now and then whether the card is still good."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from typing import TYPE_CHECKING, Callable, final

from kadun.errors import CardRejected, KadunError, ServerUnreachable
from kadun.messages import rejection
from kadun.request import OPEN

if TYPE_CHECKING:
    from kadun.client import Client
    from kadun.verdict import Verdict

_log = logging.getLogger("kadun")
_log.addHandler(logging.NullHandler())  # a program that sets up no logging shows nothing of ours

_random = secrets.SystemRandom()
_SHORTEST_JITTER = 0.9
_AFTER_EXPIRY_SECONDS = 1.0  # asked a moment too early, the server would still say yes
_LONGEST_OUTAGE_PAUSE_SECONDS = 60.0
_LONGEST_FUNCTION = 64
_LONGEST_INTERVAL_SECONDS = 7 * 86_400.0


@final
class Heartbeat:
    """Asks from a thread of its own, and calls back when the card is no longer good.

    with Heartbeat(client, on_rejected=lambda error: window.close_with(error.message)):
        run_the_program()

    The callbacks run on the heartbeat's thread. Whatever they raise is logged (logger `kadun`) and harms nothing; so
    `sys.exit()` there ends nothing either: set a flag that the program looks at, or call `os._exit(1)`, which ends it
    on the spot. (`_thread.interrupt_main()` wakes no program that sleeps or waits.)
    """

    def __init__(  # noqa: PLR0913 - all but one are named, and have a default
        self,
        client: Client,
        *,
        function: str = "心跳",
        interval_seconds: float = 300,
        on_rejected: Callable[[CardRejected], object] | None = None,
        on_unreachable: Callable[[KadunError], object] | None = None,
        verdict: Verdict | None = None,
    ) -> None:
        """Prepare; `start`, or entering a `with` block, begins.

        Args:
            client: the one that the program opened with; `report` is safe beside its other calls.
            function: the name under which the beats stand in the server's records, 1 to 64 characters.
            interval_seconds: how long between two beats, at most a week; each is up to a tenth sooner, so that
                customers who start together do not ask together. After a failed one, at most a minute.
            on_rejected: called once, with the signed no: expired, frozen, … Afterwards the heartbeat is over.
                Where the server cannot be asked and the card's time, by the server's last word, is over, it is
                called with a `CARD_EXPIRED` of our own, whose `reference` is empty: blocking the server is no use.
            on_unreachable: called after each beat that got no answer to believe, with the error. It says
                nothing about the card: the network may be away. The heartbeat goes on.
            verdict: what `open` returned. It saves the first beat, which otherwise comes at the start.

        Raises:
            ValueError: the interval is not positive or longer than a week, or the function's name is none.
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
        self._expiry: float | None = None  # on this machine's monotonic clock; its wall clock may be wrong
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Heartbeat:
        """Start."""
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        """Stop."""
        self.stop()

    def start(self) -> None:
        """Begin, on a daemon thread: it keeps no program alive.

        Raises:
            RuntimeError: it was started before. Make a new one.
        """
        if self._thread is not None:
            raise RuntimeError("a heartbeat starts once; make a new one")
        if self._first is not None:
            self._note_expiry(self._first)
        self._thread = threading.Thread(target=self._run, name="kadun-heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End at once, without waiting for a beat that is under way. From here on no callback begins."""
        self._stopped.set()

    @property
    def running(self) -> bool:
        """Whether there will be more beats: started, not stopped, and the card not refused."""
        return self._thread is not None and self._thread.is_alive() and not self._stopped.is_set()

    def _run(self) -> None:
        pause = 0.0 if self._first is None else self._until_next()
        while not self._stopped.wait(pause):
            pause = self._beat()

    def _beat(self) -> float:
        """Ask once; how many seconds until the next time."""
        try:
            self._note_expiry(self._client.report(self._function))
        except CardRejected as no:
            self._call(self._on_rejected, no)
            self.stop()
            return 0
        except KadunError as failure:
            self._call(self._on_unreachable, failure)
            return self._after_failure(failure.retry_after if isinstance(failure, ServerUnreachable) else None)
        except Exception:  # noqa: BLE001
            # Never into the program: a thread's traceback would go to the customer's screen.
            _log.exception("a heartbeat failed in an unforeseen way")
            return self._after_failure(None)
        return self._until_next()

    def _note_expiry(self, verdict: Verdict) -> None:
        self._expiry = None
        if verdict.card_expires_at is not None and not verdict.offline:
            left = (verdict.card_expires_at - verdict.issued_at).total_seconds()  # both are the server's times
            self._expiry = time.monotonic() + left

    def _until_next(self) -> float:
        return min(self._interval_seconds * _random.uniform(_SHORTEST_JITTER, 1), self._until_expired())

    def _until_expired(self) -> float:
        if self._expiry is None:
            return _LONGEST_INTERVAL_SECONDS
        # Not below a second, or a server whose clock is behind would be asked without end.
        return max(self._expiry - time.monotonic(), 0) + _AFTER_EXPIRY_SECONDS

    def _after_failure(self, asked_for: int | None) -> float:
        if self._expiry is not None and time.monotonic() >= self._expiry:
            # Known by the server's own word, be it signed once more or not.
            message = rejection("CARD_EXPIRED", "", self._client._language)  # noqa: SLF001 - one package
            self._call(self._on_rejected, CardRejected("CARD_EXPIRED", message))
            self.stop()
            return 0
        pause = min(self._interval_seconds, _LONGEST_OUTAGE_PAUSE_SECONDS) * _random.uniform(_SHORTEST_JITTER, 1)
        # Whoever blocks the server could ask for days: the expiry is not slept through.
        return min(max(pause, asked_for or 0), self._until_expired())

    def _call(self, callback: Callable[..., object] | None, error: KadunError) -> None:
        if callback is None or self._stopped.is_set():
            return
        try:
            callback(error)
        except Exception:  # noqa: BLE001 - whatever it is, the heartbeat goes on
            _log.exception("a callback of the heartbeat raised")
        except BaseException:  # noqa: BLE001 - SystemExit would end this thread alone, without a word
            _log.warning("a callback of the heartbeat raised what ends no program from a thread", exc_info=True)
