"""`cardctl seal`."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from app.cli.context import Session, pass_session
from app.tokens import sealing


@click.command()
@click.argument("source", metavar="FILE")
@click.option("-o", "--output", "target", metavar="FILE.age", required=True, help="输出文件 / Where to write it.")
@pass_session
def seal(session: Session, source: str, target: str) -> None:
    """加密核心数据 / Seal a file for KERNAL_DATA_KEY; `-` is standard input or output."""
    to = sealing.age_recipient(session.settings.kernal_data_key)
    if source == "-":
        with _replaced(target) as sealed:
            sealing.seal_file(sys.stdin.buffer, sealed, to)
        return
    if target != "-" and Path(target).exists() and Path(source).samefile(target):
        raise click.UsageError("FILE 与输出相同 / FILE and the output are the same file")
    with Path(source).open("rb") as plain, _replaced(target) as sealed:
        sealing.seal_file(plain, sealed, to)


@contextmanager
def _replaced(target: str) -> Iterator[BinaryIO]:
    """Give a file to write, which replaces `target` only when everything went well."""
    if target == "-":
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
