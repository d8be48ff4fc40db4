"""The vendor's functions as they are now: a generation of modules, replaced when their folder changes."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.domain.texts import Text
from app.functions.generation import Generation, GenerationGoneError, RawResult, load
from app.functions.messages import Listing
from app.functions.modules import packages_dir
from app.functions.supervisor import Limits

RELOAD_SECONDS = 40
_LOOK_SECONDS = 1.0
_LONGEST_PAUSE_SECONDS = 60.0
_REST = 20
"""Looking through a large folder takes at most one part in so many of the time."""
Signature = frozenset[tuple[str, int, int, int]]
logger = logging.getLogger(__name__)


class NotLoadedError(Exception):
    """The modules are not loaded: not yet, they take too long, or they cannot be. The message says which."""


class _Backoff:
    """How long to wait before loading again what ended by itself: a little, and longer each time that it ends soon."""

    def __init__(self) -> None:
        self._pause = 0.0
        self._began = self._until = time.monotonic()

    @property
    def is_over(self) -> bool:
        """Whether it is time."""
        return time.monotonic() >= self._until

    def begin(self) -> None:
        """Note that modules were loaded."""
        self._began = time.monotonic()

    def grow(self) -> None:
        """Note that their process has ended."""
        now = time.monotonic()
        soon = now - self._began < _LONGEST_PAUSE_SECONDS
        self._pause = min(2 * self._pause + 1, _LONGEST_PAUSE_SECONDS) if soon else 0
        self._until = now + self._pause


class Library:
    """Serves calls from the current generation, and loads the next beside it, so that no call is dropped.

    Args:
        folder: The vendor's modules.
        limits: What a call may take.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder = folder
        self._limits = limits
        self._changed = threading.Condition()
        self._current: Generation | None = None
        self._users: dict[Generation, int] = {}
        self._number = 0
        self._asked = 0
        self._answered = 0
        self._failure: str | None = None
        self._is_closed = False
        self._thread = threading.Thread(target=self._keep_current, name="functions", daemon=True)

    def start(self) -> None:
        """Load the modules, and watch their folder from now on."""
        self._thread.start()

    def close(self) -> None:
        """End all processes."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join(_LOOK_SECONDS)  # a load under way ends with this process
        with self._changed:
            generations = list(self._users)
        for generation in generations:
            generation.close()

    def listing(self) -> Listing:
        """Return what is served.

        Raises:
            NotLoadedError: nothing yet.
        """
        with self._changed:
            if self._current is None or self._current.end is not None:
                raise self._not_loaded()
            return Listing(list(self._current.functions.values()), self._current.broken, self._number)

    def reload(self) -> Listing:
        """Load the modules anew, wait until they serve, and return what is served then.

        Raises:
            NotLoadedError: that failed, or took more than 40 s.
        """
        with self._changed:
            self._asked += 1
            mine = self._asked
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._answered >= mine, RELOAD_SECONDS):
                raise NotLoadedError(
                    str(
                        Text(f"{RELOAD_SECONDS} 秒内未加载完", f"the functions are not loaded after {RELOAD_SECONDS} s")
                    )
                )
            if self._failure is not None:
                raise self._not_loaded()
        return self.listing()

    def call(self, function: str, request: bytes) -> RawResult | None:
        """Make a call, None when there is no such function. `request` is a `CallRequest` as JSON.

        Raises:
            NotLoadedError: nothing is loaded yet.
        """
        with self._borrowed() as generation:
            if function not in generation.functions:
                return None
            try:
                return generation.call(request, self._limits.outcome_bytes)
            except GenerationGoneError as error:
                ended = Text(
                    "功能进程已结束，正在重新启动", "the functions' process has ended, and another is being started"
                )
                raise NotLoadedError(str(ended)) from error

    @contextmanager
    def _borrowed(self) -> Iterator[Generation]:
        """Lend the current generation; whoever has one keeps it alive."""
        with self._changed:
            generation = self._current
            if generation is None:
                raise self._not_loaded()
            self._users[generation] += 1
        try:
            yield generation
        finally:
            self._let_go(generation)

    def _let_go(self, generation: Generation) -> None:
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
        """Load when asked, when the folder has changed and then stood still for one look, and after a failure."""
        loaded: Signature | None = None
        last: Signature | None = None
        patience = _Backoff()
        while True:
            began = time.monotonic()
            seen = signature(self._folder)
            pause = max(_LOOK_SECONDS, _REST * (time.monotonic() - began))
            with self._changed:
                if self._is_closed:
                    return
                asked = self._asked
                self._note_end(patience)
                is_lacking = (self._current is None or self._failure is not None) and patience.is_over
                is_due = is_lacking or asked > self._answered
            if is_due or (seen != loaded and seen == last):
                loaded = seen
                self._load(asked)
                patience.begin()
            last = seen
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or self._asked > self._answered, pause)

    def _note_end(self, patience: "_Backoff") -> None:
        """See whether the current generation's process has ended by itself: a module of it has ended it."""
        end = None if self._current is None else self._current.end
        if end is None or self._failure is not None:
            return
        patience.grow()
        self._failure = str(Text(f"功能进程已结束：{end.zh}", f"the functions' process has ended: {end.en}"))
        logger.error("the functions' process has ended", extra={"reason": end.en})

    def _load(self, asked: int) -> None:
        try:
            generation = load(self._folder, self._limits)
        except Exception as error:  # noqa: BLE001  # whatever modules have done to their process, this thread goes on
            reason = f"{type(error).__name__}: {error}"
            logger.error("the functions cannot be loaded", extra={"reason": reason})  # noqa: TRY400
            with self._changed:
                self._failure = str(Text(f"功能无法加载：{reason}", f"the functions cannot be loaded: {reason}"))
                self._answered = asked  # whoever asked is told at once; the next try comes after a pause
                self._changed.notify_all()
            return
        with self._changed:
            former, self._current = self._current, generation
            self._users[generation] = 1  # our own use; it ends with the next generation
            self._number += 1
            self._failure = None
            self._answered = asked
            self._changed.notify_all()
        names = {"functions": sorted(generation.functions), "broken": [broken.module for broken in generation.broken]}
        logger.info("functions loaded", extra=names)
        if former is not None:
            self._let_go(former)


def signature(folder: Path) -> Signature:
    """Return what changes when a file below a folder does, or what is installed for it."""
    found = set()
    visited = set()
    for where, folders, files in os.walk(folder, followlinks=True):
        try:
            status = os.stat(where)  # noqa: PTH116
        except OSError:  # gone meanwhile
            continue
        if (status.st_dev, status.st_ino) in visited:  # a link may lead to where it lies
            folders.clear()
            continue
        visited.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if name != "__pycache__" and not _is_an_editors(name))
        found |= {
            _status(os.path.join(where, name))  # noqa: PTH118  # of thousands, once a second
            for name in files
            if not _is_an_editors(name)
        }
    return frozenset({*found, _status(str(packages_dir(folder)))})


def _is_an_editors(name: str) -> bool:
    """Tell hidden files, swap files and backups by their names."""
    return name.startswith((".", "#")) or name.endswith("~")


def _status(path: str) -> tuple[str, int, int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:  # gone, or a link to nowhere
        return path, 0, 0, 0
    return path, status.st_mtime_ns, status.st_size, status.st_ino
