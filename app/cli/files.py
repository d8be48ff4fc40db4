"""Files that a command reads or writes, which may lie on the other side of a container's wall.

scripts/cardctl runs commands in the app's container. It first has print_named_files tell which of the
caller's files the command line names, connects them to standard input and output, and says so in the environment.
"""

import contextlib
import io
import os
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import click

INPUT_SIZE = "KADUN_CALLER_INPUT_SIZE"
"""Environment: standard input is the file that the command line names, and has so many bytes."""
OUTPUT = "KADUN_CALLER_OUTPUT"
"""Environment: standard output is the file that the command line names."""


class InputPath(click.ParamType[str]):
    """The path of a file to read; `-` is standard input."""

    name = "file"


class OutputPath(click.ParamType[str]):
    """The path of a file to write; `-` is standard output."""

    name = "file"


@contextlib.contextmanager
def open_input(path: str, size: int | None = None) -> Iterator[tuple[BinaryIO, int | None]]:
    """Open a file to read, with its size in bytes where that is known; `size` is that of standard input."""
    if INPUT_SIZE in os.environ:
        yield sys.stdin.buffer, int(os.environ[INPUT_SIZE])
    elif path == "-":
        yield sys.stdin.buffer, size
    else:
        with Path(path).open("rb") as source:
            status = os.fstat(source.fileno())
            yield source, status.st_size if stat.S_ISREG(status.st_mode) else None


@contextlib.contextmanager
def replace_output(target: str) -> Iterator[BinaryIO]:
    """Open a file to write, which takes the place of `target` only when all went well."""
    if target == "-" or OUTPUT in os.environ:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    path = Path(target)
    handle, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(partial).chmod(0o644)
        Path(partial).replace(path)
    except BaseException:
        Path(partial).unlink(missing_ok=True)
        raise


def print_named_files() -> None:
    """Print the input and the output that the arguments of this process name, each ended by a NUL."""
    sys.stdout.write("".join(f"{path}\0" for path in named_files(sys.argv[1:])))


def named_files(words: Sequence[str]) -> tuple[str, str]:
    """Return the input and the output that a command line names, empty where it names none or is wrong."""
    from app.cli.main import cardctl  # noqa: PLC0415  # the commands import this module

    command: click.Command | None = cardctl
    rest = list(words)
    while isinstance(command, click.Group):  # groups have no options of their own
        command = command.get_command(click.Context(command), rest.pop(0)) if rest else None
    if command is None:
        return "", ""
    with contextlib.suppress(click.ClickException, click.exceptions.Exit), contextlib.redirect_stdout(io.StringIO()):
        given = command.make_context(command.name, rest).params
        paths = {type(one.type): given[one.name or ""] or "" for one in command.params}
        return paths.get(InputPath, ""), paths.get(OutputPath, "")
    return "", ""
