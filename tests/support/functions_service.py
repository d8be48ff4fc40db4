"""The functions' service with the real gunicorn, as a process, beside the service that asks it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Self

from app.functions.client import FunctionsClient, FunctionsUnavailableError
from tests.support import core_functions
from tests.support.service import ROOT, wait_for


class FunctionsService:
    """The functions service of a folder, on the socket that the `Service` of this folder uses."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.modules = folder / "functions"
        self.modules.mkdir(exist_ok=True)
        self.socket = folder / "functions.sock"
        self.log = folder / "functions.log"
        self.environment = {
            **{name: value for name, value in os.environ.items() if name == "PATH" or name.startswith("COVERAGE_")},
            "KADUN_FUNCTIONS_DIR": str(self.modules),
            "KADUN_FUNCTIONS_SOCKET": str(self.socket),
            **settings,
        }
        self.client = FunctionsClient(self.socket, 30)
        self.process: subprocess.Popen[bytes] | None = None

    def with_shop(self) -> Self:
        """Install `tests/support/core_functions.py`, good functions and bad ones."""
        shutil.copy(core_functions.__file__, self.modules / "shop.py")
        return self

    def start(self) -> Self:
        self.launch()
        wait_for(lambda: self._answers() or self.process.poll() is not None, 60)
        assert self.process.poll() is None, self.log.read_text()
        return self

    def launch(self) -> None:
        """Start it, and do not wait until it has loaded anything."""
        command = [sys.executable, "-m", "gunicorn"]
        command += ["--config", "python:app.functions.gunicorn_conf", "app.functions.wsgi:app"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, cwd=ROOT, env=self.environment, stderr=log, stdout=log)

    def stop(self) -> None:
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _answers(self) -> bool:
        try:
            self.client.list()
        except FunctionsUnavailableError:
            return False
        return True
