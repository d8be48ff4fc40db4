"""Changes of a running stack that are undone afterwards."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.support.stack import Stack


@contextmanager
def rewritten(path: Path, text: str) -> Iterator[None]:
    """Overwrite a file in place, as mounted files must be."""
    before = path.read_bytes()
    path.write_text(text)
    try:
        yield
    finally:
        path.write_bytes(before)


@contextmanager
def mode(path: Path, bits: int) -> Iterator[None]:
    before = path.stat().st_mode
    path.chmod(bits)
    try:
        yield
    finally:
        path.chmod(before)


def more_settings(stack: Stack, line: str) -> AbstractContextManager[None]:
    file = stack.folder / ".env"
    return rewritten(file, f"{file.read_text()}\n{line}\n")


@contextmanager
def sql(stack: Stack, plant: str, heal: str) -> Iterator[None]:
    """Run statements as the database's superuser."""

    def execute(statement: str) -> None:
        stack.compose("exec", "-T", "database", "psql", "-qX", "-U", "postgres", "-d", "kadun", "-c", statement)

    execute(plant)
    try:
        yield
    finally:
        execute(heal)


@contextmanager
def stopped(stack: Stack, service: str) -> Iterator[None]:
    stack.compose("stop", "--timeout", "1", service)
    try:
        yield
    finally:
        stack.up()
