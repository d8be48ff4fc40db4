"""The checkouts whose services are measured."""

import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from bench.errors import BenchError
from trial.environment import CHECKOUT
from trial.errors import tail


class Code(NamedTuple):
    """A checkout whose service is measured, and the Python that runs it."""

    name: str
    folder: Path
    python: str

    def migrate(self, database_url: str) -> None:
        """Make the tables that this checkout's service needs.

        Raises:
            BenchError: that failed.
        """
        environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(self.folder), "DATABASE_URL": database_url}
        command = [self.python, "-P", "-m", "app", "migrate"]
        done = subprocess.run(command, cwd=self.folder, env=environ, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BenchError(f"the tables of {self.name} cannot be made: {tail(done.stderr, lines=1)}")


THIS = Code("this checkout", CHECKOUT, sys.executable)
