"""The current generation of the vendor's modules, replaced when their folder changes.

A generation is the modules as they were when they were loaded, in a zygote that calls are forked from.
multiprocessing's fork server does not fit: a process has only one, it imports the program's main module into every
child, and it does not end grandchildren.
"""

import contextlib
import logging
import os
import socket
import threading
import time
from pathlib import Path
from typing import NoReturn

import msgspec

from app.domain.texts import Text
from app.functions.call import failed, tail
from app.functions.messages import Contents, Failed, Limits, Listing, Outcome, TimedOut
from app.functions.modules import Signature, digest, names_in, signature

_SCAN_SECONDS = 1.0
_REST = 20
"""Scanning a large folder takes at most one part in so many of the time."""
_RETRY_SECONDS = 5.0
"""How often modules are loaded that cannot be loaded, or that end their process."""
_MARGIN_SECONDS = 8
_NOT_YET = Text("功能尚在加载", "the functions are not loaded yet")
_ENDED = Text("功能进程已结束，正在重新启动", "the functions' process has ended, and another is being started")
_WITHOUT_OUTCOME = Text("进程没有给出有效的结果就结束了", "its process ended without a valid outcome")
logger = logging.getLogger(__name__)


class NotLoadedError(Exception):
    """The modules are not loaded: not yet, or loading failed, or their process has ended. The message says which."""


class Generation:
    """Loaded modules, and the connection to the zygote that has imported them, where there are modules at all."""

    def __init__(self, contents: Contents, zygote: socket.socket | None = None) -> None:
        functions, self.broken = contents
        self.functions = {function.key: function for function in functions}
        self._zygote = zygote
        if zygote is not None:
            zygote.setblocking(False)  # noqa: FBT003  # it reads at once, or hangs

    @property
    def has_ended(self) -> bool:
        """Whether the zygote has ended, which a module may do."""
        if self._zygote is None:
            return False
        try:
            return not self._zygote.recv(1)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def begin(self, request: bytes, place: int) -> socket.socket:
        """Begin a call by a `CallRequest` as JSON; return the connection to its supervisor, or raise OSError."""
        if self._zygote is None:
            raise OSError("without modules there is no zygote")
        connection, supervisor_end = socket.socketpair()
        with supervisor_end, os.fdopen(os.memfd_create("request"), "w+b") as file:
            file.write(request)
            file.seek(0)
            try:
                socket.send_fds(self._zygote, [bytes((place,))], [supervisor_end.fileno(), file.fileno()])
            except OSError:
                connection.close()
                raise
        return connection

    def close(self) -> None:
        """Have the zygote end; calls that have begun go on."""
        if self._zygote is not None:
            self._zygote.close()


def load(folder: Path, limits: Limits, launcher: socket.socket) -> Generation:
    """Load the modules in a folder; raise OSError if their process cannot be started, or ends meanwhile."""
    with contextlib.suppress(OSError):  # a folder that cannot be read: the zygote says so
        if not names_in(folder):
            return Generation(([], []))
    zygote, zygote_end = socket.socketpair()
    with zygote_end:
        socket.send_fds(launcher, [msgspec.json.encode((str(folder), limits))], [zygote_end.fileno()])
    with zygote.makefile("rb") as file:
        contents = file.readline()
    if not contents:
        zygote.close()
        raise OSError("their process ended while it imported them: see the log")
    return Generation(msgspec.json.decode(contents, type=Contents), zygote)


def result_of(connection: socket.socket, limits: Limits) -> tuple[bytes, str]:
    """Wait for the end of a call that has begun; return the outcome as JSON, and the end of what was printed.

    The function might have written its outcome itself: it is checked, and what is journalled of it has its bounds.
    """
    with connection:
        connection.settimeout(limits.seconds + _MARGIN_SECONDS)
        try:
            with connection.makefile("rb") as file:
                answer = file.read()
        except TimeoutError:
            return msgspec.json.encode(TimedOut()), ""
        except OSError:
            answer = b""
    line, newline, outcome = answer.partition(b"\n")
    printed = msgspec.json.decode(line, type=str) if newline else ""
    try:
        checked = msgspec.json.decode(outcome, type=Outcome)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        checked = failed(f"{printed}\n{_WITHOUT_OUTCOME}".lstrip())
        printed = ""
    if isinstance(checked, Failed | TimedOut):
        outcome = msgspec.json.encode(msgspec.structs.replace(checked, detail=tail(checked.detail)))
    return outcome, printed


class Library:
    """Serves calls from the current generation and loads the next one beside it, so that no call is dropped.

    Its methods raise NotLoadedError where nothing is loaded. `launcher` is the socket on which to ask for zygotes.
    """

    def __init__(self, folder: Path, limits: Limits, launcher: socket.socket) -> None:
        self._folder = folder
        self._limits = limits
        self._launcher = launcher
        self._loading = threading.Lock()
        self._replacing = threading.Lock()
        self._current: Generation | None = None
        self._failure: Text | None = _NOT_YET
        self._number = 0
        self._seen: Signature | None = None
        self._loaded: Signature | None = None
        self._sha256 = ""
        self._tried_at = -_RETRY_SECONDS

    def listing(self) -> Listing:
        """Return the functions that are served and the modules that are broken."""
        with self._replacing:
            current = self._usable()
            return Listing(list(current.functions.values()), current.broken, self._number, self._sha256)

    def reload(self) -> Listing:
        """Load the modules again, and return the new listing."""
        with self._loading:
            self._load(signature(self._folder))
        return self.listing()

    def call(self, function: tuple[str, str], request: bytes, place: int) -> tuple[bytes, str] | None:
        """Call a function in a free place by a `CallRequest` as JSON; return `result_of` it, or None without one."""
        with self._replacing:
            current = self._usable()
            if function not in current.functions:
                return None
            try:
                connection = current.begin(request, place)
            except OSError as error:
                raise NotLoadedError(_ENDED) from error
        return result_of(connection, self._limits)

    def keep_current(self) -> NoReturn:
        """Load the modules, and again whenever their folder has changed or their process has ended."""
        while True:
            began = time.monotonic()
            self.look()
            time.sleep(max(_SCAN_SECONDS, _REST * (time.monotonic() - began)))

    def look(self) -> None:
        """Load the modules if their folder has changed, and then not between two looks, or if none are loaded."""
        before, self._seen = self._seen, signature(self._folder)
        with self._loading:
            has_ended = self._current is not None and self._current.has_ended
            if has_ended:
                logger.error("the functions' process has ended")
            if self._failure is not None or has_ended:
                is_due = time.monotonic() - self._tried_at >= _RETRY_SECONDS
            else:
                is_due = self._seen == before != self._loaded
            if is_due:
                with contextlib.suppress(NotLoadedError):
                    self._load(self._seen)

    def _usable(self) -> Generation:
        if self._current is None:
            raise NotLoadedError(self._failure)
        if self._current.has_ended:
            raise NotLoadedError(_ENDED)
        return self._current

    def _load(self, seen: Signature) -> None:
        self._tried_at = time.monotonic()
        content = digest(self._folder)
        try:
            generation = load(self._folder, self._limits, self._launcher)
        except Exception as error:  # whatever modules do to their process, the service goes on
            reason = f"{type(error).__name__}: {error}"
            logger.error("the functions cannot be loaded", extra={"reason": reason})  # noqa: TRY400
            self._failure = Text(f"功能无法加载：{reason}", f"the functions cannot be loaded: {reason}")
            raise NotLoadedError(self._failure) from error
        with self._replacing:
            former, self._current = self._current, generation
            if former is not None:
                former.close()
            self._number += 1
            self._loaded = seen
            self._sha256 = content
            self._failure = None
        names = {
            "functions": [name for _program, name in sorted(generation.functions)],
            "broken": [broken.module for broken in generation.broken],
        }
        logger.info("functions loaded", extra=names)
