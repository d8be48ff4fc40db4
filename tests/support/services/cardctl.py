"""`cardctl` in the test's own process, which takes a third of the time of a fork.

Not for tests of terminals, pipes, `--follow`, Ctrl-C or several commands at once: these use `Service.run_cardctl`.
"""

import logging
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from unittest.mock import patch

from click.testing import CliRunner

from app.cli.main import main
from app.services.operators import passwords
from app.storage import models
from tests.support.console.passwords import CHEAP


def run(*arguments: str, environment: Mapping[str, str], text: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command to its end with exactly this environment; `text` is its standard input."""
    status: object = None
    with (
        patch.dict("os.environ", environment, clear=True),
        patch.object(sys, "argv", ["cardctl", *arguments]),
        patch.object(passwords.PASSWORDS, "_hasher", CHEAP),
        _own_state(),
        CliRunner().isolation(input=text) as (output, errors, _),
    ):
        try:
            main()
        except SystemExit as ended:
            status = ended.code
        sys.stdout.flush()
        sys.stderr.flush()
    assert isinstance(status, int)
    return subprocess.CompletedProcess(["cardctl", *arguments], status, *map(_text, (output, errors)))


@contextmanager
def _own_state() -> Iterator[None]:
    """Put back what a command changes of a process: the models' database and the log's handlers."""
    database, handlers = models.database.obj, logging.getLogger().handlers[:]
    try:
        yield
    finally:
        if models.database.obj is not database:
            models.database.close()
            models.database.initialize(database)
        logging.getLogger().handlers[:] = handlers


def _text(stream: object) -> str:
    return stream.getvalue().decode()  # type: ignore[attr-defined,no-any-return]
