"""Downloads by curl, as customers' machines make them."""

import contextlib
import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from bench import children
from bench.errors import BenchError

_GRACE_SECONDS = 30
_FROM_ONE_ADDRESS = 40  # nginx lets one address hold 50 requests open
_TIMED_OUT = 28
_WRITTEN = "%{http_code} %{exitcode} %{size_download} %{time_total}\\n"
_LINE = re.compile(r"^(\d{3}) (\d+) (\d+) ([0-9.]+)$", re.MULTILINE)


def mib_per_second(url: str, certificate: Path, size: int, *, seconds: float) -> float:
    """Return how fast one download of a file of `size` bytes is.

    Raises:
        BenchError: it did not come whole.
    """
    command = ["curl", "--disable", "--silent", "--http1.1", "--noproxy", "*", "--cacert", str(certificate)]
    command += ["--output", "/dev/null", "--write-out", _WRITTEN, url]
    printed = children.run(command, environ=_environ(), seconds=seconds)
    found = _LINE.search(printed)
    if not found or found[1] != "200" or int(found[3]) != size:
        raise BenchError(f"a download did not come whole: {printed.strip()!r}")
    return size / 2**20 / float(found[4])


class Crowd:
    """Downloads that begin at once with the block, each by a link of its own; some 40 from one address.

    Args:
        urls: The links.
        certificate: What to trust, for https.
        seconds: After so long all are cut off.
        bytes_a_second: The speed of each; None: what it gets.
    """

    def __init__(
        self, urls: Sequence[str], certificate: Path | None, *, seconds: int, bytes_a_second: int | None
    ) -> None:
        self._urls = urls
        self._seconds = seconds
        self._options = ["http1.1", "silent", "parallel", "parallel-immediate", f"parallel-max = {_FROM_ONE_ADDRESS}"]
        self._options += ['noproxy = "*"', f"max-time = {seconds}", f'write-out = "{_WRITTEN}"']
        if certificate:
            self._options.append(f'cacert = "{certificate}"')
        if bytes_a_second:
            self._options.append(f"limit-rate = {bytes_a_second}")
        self._curls: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        for number, first in enumerate(range(0, len(self._urls), _FROM_ONE_ADDRESS), start=1):
            lines = [*self._options, f'interface = "127.0.1.{number}"']
            for url in self._urls[first : first + _FROM_ONE_ADDRESS]:
                lines += [f'url = "{url}"', 'output = "/dev/null"']
            with tempfile.TemporaryFile("w+") as options:  # links are no one's business on a command line
                options.write("\n".join(lines))
                options.seek(0)
                self._curls.append(_curl(options.fileno()))
        return self

    def finish(self) -> list[float]:
        """Wait until all have been cut off; return the Mbit/s of each that was not refused and did not break off.

        Raises:
            BenchError: they do not end.
        """
        try:
            printed = "".join(curl.communicate(timeout=self._seconds + _GRACE_SECONDS)[0] for curl in self._curls)
        except subprocess.TimeoutExpired as error:
            raise BenchError("the downloads have not ended in time") from error
        ended = [tuple(map(float, line)) for line in _LINE.findall(printed)]
        good = [size / taken for status, code, size, taken in ended if status == 200 and code in (0, _TIMED_OUT)]
        return [rate * 8 / 1e6 for rate in good if rate]

    def __exit__(self, *_: object) -> None:
        for curl in self._curls:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(curl.pid, signal.SIGKILL)
            curl.communicate()


def _curl(options: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*children.tied(), "nice", "-n", "19", "curl", "--disable", "--config", "-"],
        env=_environ(),
        stdin=options,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def _environ() -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "LC_ALL": "C"}
