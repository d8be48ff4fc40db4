"""scripts/run.sh as a person starts it, for tests: on a folder and a port of its own."""

import os
import signal
import subprocess
from pathlib import Path
from typing import Any, Self

from tests.support.services.http_exchange import quiet_port
from tests.support.services.service import ROOT, wait_for

START_SECONDS = 600  # the first time, packages are downloaded


class TrialRun:
    """One `scripts/run.sh`; what it printed is in `output`."""

    def __init__(
        self,
        folder: Path,
        *,
        data_dir: Path | None = None,
        port: int | None = None,
        root: Path = ROOT,
        uid: int | None = None,
    ) -> None:
        self.data_dir = data_dir or folder / "state"
        self.port = port or quiet_port()
        self.root = root
        self._identity: dict[str, Any] = {} if uid is None else {"user": uid, "group": uid, "extra_groups": []}
        self._printed = folder / f"printed-{self.port}"
        self.environ = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("KADUN_", "DATABASE_URL", "KERNAL_DATA_KEY"))
        } | {"KADUN_DATA_DIR": str(self.data_dir), "KADUN_PORT": str(self.port)}
        if uid is not None:
            self.environ["HOME"] = str(root.parent)
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start, and wait until it says that it serves."""
        self.start()
        wait_for(lambda: "\nready: " in self.output or self.ended, START_SECONDS)
        assert f"\nready: {self.url}\n" in self.output, self.output
        return self

    def __exit__(self, *_: object) -> None:
        if not self.ended:
            self.interrupt()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def output(self) -> str:
        return self._printed.read_text(encoding="utf-8")

    @property
    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def start(self) -> None:
        with self._printed.open("wb") as printed:
            self.process = subprocess.Popen(
                [self.root / "scripts" / "run.sh"],
                env=self.environ,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **self._identity,
            )

    def wait(self, seconds: float = 60) -> int:
        assert self.process is not None
        return self.process.wait(seconds)

    def interrupt(self) -> int:
        """Press Ctrl-C: the whole foreground group gets it."""
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGINT)
        return self.wait()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.wait()

    def cardctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.root / "scripts" / "cardctl", *arguments],
            env=self.environ,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            text=True,
            **self._identity,
        )
