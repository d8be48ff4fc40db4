"""The current generation of the vendor's modules, replaced when their folder changes."""

import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.domain.texts import Text
from app.functions.concurrency import Slot
from app.functions.folder import Signature, digest, signature
from app.functions.generation import Generation, GenerationGoneError, RawResult, load
from app.functions.messages import Listing
from app.functions.monitor import Limits

RELOAD_SECONDS = 40
_SCAN_SECONDS = 1.0
_MAX_BACKOFF_SECONDS = 60.0
_REST = 20
"""Scanning a large folder takes at most one part in so many of the time."""
logger = logging.getLogger(__name__)


class NotLoadedError(Exception):
    """The modules are not loaded: not yet, not in time, or loading failed. The message says which."""


class _Backoff:
    """Exponential backoff before a zygote that ended by itself is started again."""

    def __init__(self) -> None:
        self._pause = 0.0
        self._began = self._until = time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether the modules may be loaded again."""
        return time.monotonic() >= self._until

    def begin(self) -> None:
        """Record that modules were loaded."""
        self._began = time.monotonic()

    def grow(self) -> None:
        """Record that the zygote has ended."""
        now = time.monotonic()
        soon = now - self._began < _MAX_BACKOFF_SECONDS
        self._pause = min(2 * self._pause + 1, _MAX_BACKOFF_SECONDS) if soon else 0
        self._until = now + self._pause


class Library:
    """Serves calls from the current generation and loads the next one beside it, so that no call is dropped.

    Args:
        folder: The folder of the vendor's modules.
        limits: The limits of a call.
        launcher: Starts zygotes: the socket of `app.functions.launcher`.
    """

    def __init__(self, folder: Path, limits: Limits, launcher: socket.socket) -> None:
        self._folder = folder
        self._limits = limits
        self._launcher = launcher
        self._changed = threading.Condition()
        self._current: Generation | None = None
        self._users: dict[Generation, int] = {}
        self._number = 0
        self._loaded: Signature | None = None
        self._sha256 = ""
        self._requested = 0
        self._completed = 0
        self._failure: str | None = None
        self._is_closed = False
        self._thread = threading.Thread(target=self._keep_current, name="functions", daemon=True)

    def start(self) -> None:
        """Load the modules, and watch their folder from then on."""
        self._thread.start()

    def close(self) -> None:
        """End all processes."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(_SCAN_SECONDS)  # loading in progress ends with this process, or closes what it has loaded
        with self._changed:
            generations = list(self._users)
        for generation in generations:
            generation.close()

    def listing(self) -> Listing:
        """Return the functions that are served and the modules that are broken.

        Raises:
            NotLoadedError: nothing is loaded.
        """
        seen = signature(self._folder)
        with self._changed:
            if self._current is None or self._current.end is not None:
                raise self._not_loaded()
            functions = list(self._current.functions.values())
            return Listing(functions, self._current.broken, self._number, seen != self._loaded, self._sha256)

    def reload(self) -> Listing:
        """Load the modules again, wait until they are served, and return the new listing.

        Raises:
            NotLoadedError: loading failed, or took more than 40 s.
        """
        with self._changed:
            self._requested += 1
            mine = self._requested
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._completed >= mine, RELOAD_SECONDS):
                text = Text(f"{RELOAD_SECONDS} 秒内未加载完", f"the functions are not loaded after {RELOAD_SECONDS} s")
                raise NotLoadedError(str(text))
            if self._failure is not None:
                raise self._not_loaded()
        return self.listing()

    def call(self, function: str, request: bytes, slot: Slot) -> RawResult | None:
        """Call a function in a free slot, and return None if there is no such function.

        `request` is a `CallRequest` as JSON.

        Raises:
            NotLoadedError: nothing is loaded.
        """
        with self._in_use() as generation:
            if function not in generation.functions:
                return None
            try:
                return generation.call(request, self._limits.outcome_bytes, slot)
            except GenerationGoneError as error:
                ended = Text(
                    "功能进程已结束，正在重新启动", "the functions' process has ended, and another is being started"
                )
                raise NotLoadedError(str(ended)) from error

    @contextmanager
    def _in_use(self) -> Iterator[Generation]:
        """Give the current generation, which is not closed while it is in use."""
        with self._changed:
            generation = self._current
            if generation is None:
                raise self._not_loaded()
            self._users[generation] += 1
        try:
            yield generation
        finally:
            self._release(generation)

    def _release(self, generation: Generation) -> None:
        with self._changed:
            self._users[generation] -= 1
            is_over = self._users[generation] == 0
            if is_over:
                del self._users[generation]
        if is_over:
            generation.close()

    def _not_loaded(self) -> NotLoadedError:
        return NotLoadedError(self._failure or str(Text("功能尚在加载", "the functions are not loaded yet")))

    def _keep_current(self) -> None:
        """Load when asked to, when the folder has changed and then not between two scans, and after a failure."""
        loaded: Signature | None = None
        last: Signature | None = None
        backoff = _Backoff()
        while True:
            began = time.monotonic()
            seen = signature(self._folder)
            pause = max(_SCAN_SECONDS, _REST * (time.monotonic() - began))
            with self._changed:
                if self._is_closed:
                    return
                requested = self._requested
                self._note_end(backoff)
                is_lacking = (self._current is None or self._failure is not None) and backoff.is_over
                is_due = is_lacking or requested > self._completed
            if is_due or (seen != loaded and seen == last):
                loaded = seen
                self._load(requested, seen)
                backoff.begin()
            last = seen
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or self._requested > self._completed, pause)

    def _note_end(self, backoff: _Backoff) -> None:
        """Notice that the current generation's zygote has ended by itself, which a module may do."""
        end = None if self._current is None else self._current.end
        if end is None or self._failure is not None:
            return
        backoff.grow()
        self._failure = str(Text(f"功能进程已结束：{end.zh}", f"the functions' process has ended: {end.en}"))
        logger.error("the functions' process has ended", extra={"reason": end.en})

    def _load(self, requested: int, seen: Signature) -> None:
        content = digest(self._folder)
        try:
            generation = load(self._folder, self._limits, self._launcher)
        except Exception as error:  # noqa: BLE001  # whatever modules do to their process, this thread goes on
            reason = f"{type(error).__name__}: {error}"
            logger.error("the functions cannot be loaded", extra={"reason": reason})  # noqa: TRY400
            with self._changed:
                self._failure = str(Text(f"功能无法加载：{reason}", f"the functions cannot be loaded: {reason}"))
                self._completed = requested  # callers of `reload` are told at once; the next try comes after a pause
                self._changed.notify_all()
            return
        with self._changed:
            if self._is_closed:
                generation.close()
                return
            former, self._current = self._current, generation
            self._users[generation] = 1  # the library's own use, until the next generation
            self._number += 1
            self._loaded = seen
            self._sha256 = content
            self._failure = None
            self._completed = requested
            self._changed.notify_all()
        names = {"functions": sorted(generation.functions), "broken": [broken.module for broken in generation.broken]}
        logger.info("functions loaded", extra=names)
        if former is not None:
            self._release(former)
