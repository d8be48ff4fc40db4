"""`cardctl key …` and `cardctl seal`."""

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from app.cli import output
from app.cli.context import Session, operator_name, pass_session
from app.clock import utc_now
from app.domain.codes import EventKind
from app.storage import journal
from app.tokens import keyring, sealing
from app.tokens.keyring import KeyState


@click.group()
def key() -> None:
    """签名密钥 / The signing keys."""


@key.command("list")
@pass_session
def list_keys(session: Session) -> None:
    """列出密钥 / List the keys, oldest first."""
    ring = keyring.load(session.settings.keys_dir)
    states = {KeyState.CURRENT: "当前 current", KeyState.NEXT: "下一个 next", KeyState.RETIRED: "已停用 retired"}
    output.print_table(
        ("kid", "状态 state", "创建 created", "停用 retired"),
        ((k.kid, states[ring.state(k)], k.created_at, k.retired_at) for k in ring.keys),
    )


@key.command()
@pass_session
def rotate(session: Session) -> None:
    """轮换 / Put the next key to work; the running service takes it up within seconds."""
    session.database.with_connection(lambda: None)  # no rotation that the journal would not know of
    ring = keyring.rotate(session.settings.keys_dir, utc_now())
    entry = journal.Entry(
        at=utc_now(), kind=EventKind.KEY_ROTATED, actor=operator_name(), details={"kid": ring.current.kid}
    )
    session.database.with_connection(lambda: journal.append([entry]))
    output.say(f"当前密钥 / The current key is now {ring.current.kid}")


@key.command()
@pass_session
def create(session: Session) -> None:
    """新建密钥（仅在丢失时） / Make signing keys where there are none."""
    folder = session.settings.keys_dir
    if keyring.exists(folder):
        raise keyring.KeyRingError(
            f"{folder} 中已有密钥，未更改 / there are keys in {folder} already: nothing was changed"
        )
    ring = keyring.create(folder, utc_now())
    output.say(f"已新建密钥，请重启服务 / Made {ring.current.kid}: restart the service")


@key.command()
@pass_session
def export(session: Session) -> None:
    """导出公钥 / Print the public keys for clients to pin, as {"iss", "keys"}."""
    ring = keyring.load(session.settings.keys_dir)
    output.print_json({"iss": session.settings.issuer, "keys": ring.pinned})


@key.command()
@pass_session
def recipient(session: Session) -> None:
    """核心数据加密公钥 / Print the age recipient, to seal with on any machine."""
    sys.stdout.write(f"{sealing.age_recipient(session.settings.kernal_data_key)}\n")


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
    """Give a file to write, which takes `target`'s place only when all went well."""
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
