"""The vendor's functions as they are now: a generation of modules, replaced when their folder changes."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.functions.generation import Generation, GenerationGoneError, Said, load
from app.functions.guardian import Limits
from app.functions.modules import packages_dir
from app.functions.outcomes import Listing

RELOAD_SECONDS = 40
_LOOK_SECONDS = 1.0
_REST = 20
"""Looking through a large folder takes at most one part in so many of the time."""
Signature = frozenset[tuple[str, int, int, int]]
logger = logging.getLogger(__name__)


class NotLoadedError(Exception):
    """The modules are not loaded: not yet, or they take too long."""


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
            if self._current is None:
                raise NotLoadedError
            return Listing(list(self._current.functions.values()), self._current.broken, self._number)

    def reload(self) -> Listing:
        """Load the modules anew, wait until they serve, and return what is served then.

        Raises:
            NotLoadedError: that took more than 40 s.
        """
        with self._changed:
            self._asked += 1
            mine = self._asked
            self._changed.notify_all()
            if not self._changed.wait_for(lambda: self._answered >= mine, RELOAD_SECONDS):
                raise NotLoadedError
        return self.listing()

    def call(self, function: str, request: bytes) -> Said | None:
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
                raise NotLoadedError from error

    @contextmanager
    def _borrowed(self) -> Iterator[Generation]:
        """Lend the current generation; whoever has one keeps it alive."""
        with self._changed:
            generation = self._current
            if generation is None:
                raise NotLoadedError
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

    def _keep_current(self) -> None:
        """Load when asked, when the folder has changed and then stood still for one look, and when a process ended."""
        loaded: Signature | None = None
        last: Signature | None = None
        while True:
            began = time.monotonic()
            seen = signature(self._folder)
            pause = max(_LOOK_SECONDS, _REST * (time.monotonic() - began))
            with self._changed:
                if self._is_closed:
                    return
                asked = self._asked
                is_due = asked > self._answered or self._current is None or not self._current.is_alive
            if is_due or (seen != loaded and seen == last):
                loaded = seen
                self._load(asked)
            last = seen
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or self._asked > self._answered, pause)

    def _load(self, asked: int) -> None:
        try:
            generation = load(self._folder, self._limits)
        except OSError as error:
            logger.error("the functions cannot be loaded", extra={"reason": str(error)})  # noqa: TRY400
            return
        with self._changed:
            former, self._current = self._current, generation
            self._users[generation] = 1  # our own use; it ends with the next generation
            self._number += 1
            self._answered = asked
            self._changed.notify_all()
        names = {"functions": sorted(generation.functions), "broken": [broken.module for broken in generation.broken]}
        logger.info("functions loaded", extra=names)
        if former is not None:
            self._let_go(former)


def signature(folder: Path) -> Signature:
    """Return what changes when a file below a folder does, or what is installed for it."""
    found = set()
    for where, folders, files in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if name != "__pycache__" and not name.startswith(".")]
        found |= {_status(os.path.join(where, name)) for name in files}  # noqa: PTH118  # of thousands, once a second
    return frozenset({*found, _status(str(packages_dir(folder)))})


def _status(path: str) -> tuple[str, int, int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:  # gone, or a link to nowhere
        return path, 0, 0, 0
    return path, status.st_mtime_ns, status.st_size, status.st_ino
