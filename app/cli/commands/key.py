"""`cardctl key …` and `cardctl seal`."""

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import click

from app.cli import output
from app.cli.context import Session, operator_name, pass_session, program_option
from app.domain.programs import MAIN, issuer_of, named
from app.runtime.clock import utc_now
from app.runtime.settings import DATABASE, FOLDER
from app.services.keys.signing_keys import SigningKeys
from app.services.programs import find
from app.tokens import data_key_marks, sealing
from app.tokens.keyring import KeyRingError, decoded_copy
from app.tokens.keys import KeyState

_STORES = {FOLDER: "文件夹 data/keys / folder data/keys", DATABASE: "数据库 / database"}


@click.group()
def key() -> None:
    """签名密钥 / The signing keys."""


def _keys(session: Session) -> SigningKeys:
    return SigningKeys(session.database, session.settings)


@key.command("list")
@pass_session
def list_keys(session: Session) -> None:
    """列出密钥 / List the keys, oldest first."""
    ring = _keys(session).store.load()
    states = {KeyState.CURRENT: "当前 current", KeyState.NEXT: "下一个 next", KeyState.RETIRED: "已停用 retired"}
    rows = (
        (k.kid, states[ring.state(k)], k.created_at.isoformat(), k.retired_at.isoformat() if k.retired_at else None)
        for k in ring.keys
    )
    output.print_table(("kid", "状态 state", "创建 created", "停用 retired"), rows)


@key.command()
@click.option(
    "--force", is_flag=True, help="距上次轮换不足 15 分钟时仍轮换 / Even within 15 minutes of the last rotation."
)
@pass_session
def rotate(session: Session, *, force: bool) -> None:
    """轮换 / Make the next key the current one; the running service uses it within seconds."""
    ring = _keys(session).rotate(operator_name(), utc_now, force=force)
    output.say(f"当前密钥 / The current key is now {ring.current.kid}")
    output.say("请立即备份，使备份含有它 / Back up now, so that a backup has it: scripts/backup.sh")


@key.command()
@click.argument("place", metavar="folder|database", type=click.Choice([FOLDER, DATABASE]))
@pass_session
def store(session: Session, place: str) -> None:
    """移到文件夹或数据库 / Move the keys into the folder, or into the database for several machines."""
    ring, is_copied = _keys(session).move(place, operator_name(), utc_now)
    if not is_copied:
        output.say(f"{_STORES[place]}: 其中的密钥较新，已保留 / the keys there are newer, and stay")
    output.say(f"{_STORES[place]}: {ring.current.kid}")
    if place != session.settings.keys:
        output.say(
            f"请在每台机器的 .env 中设置 KADUN_KEYS={place}，再 docker compose up -d；此前服务照常，但不能轮换 / "
            f"Set KADUN_KEYS={place} in .env on each machine and run docker compose up -d; until then the service goes "
            "on, but the keys cannot be rotated"
        )


@key.command()
@pass_session
def create(session: Session) -> None:
    """新建密钥（仅在丢失时） / Make signing keys where there are none."""
    keys = _keys(session)
    if keys.store.exists():
        place = _STORES[session.settings.keys]
        raise KeyRingError(f"已有密钥，未更改 / there are keys already, nothing was changed: {place}")
    output.say(f"已新建密钥，请重启服务 / Made {keys.create(utc_now).current.kid}: restart the service")


@key.command()
@click.option("--only-newer", is_flag=True, hidden=True)  # how scripts keep the present keys when a backup is restored
@click.argument("source", metavar="FILE")
@pass_session
def restore(session: Session, source: str, *, only_newer: bool) -> None:
    """放回签名密钥的副本，现有的较新则保留 / Put back a copy of keyring.json, unless the present keys are newer."""
    with click.open_file(source, "rb") as file:
        copy = decoded_copy(file.read())
    keys = _keys(session).store
    restored = keys.restore(copy, utc_now(), only_newer=only_newer)
    kid = keys.load().current.kid
    if restored:
        output.say(f"已放回签名密钥 / The signing keys are in place: {kid}")
    else:
        output.say(f"现有签名密钥较新，已保留 / The present signing keys are newer, and stay: {kid}")


@key.command()
@pass_session
def accept(session: Session) -> None:
    """确认已更换 KERNAL_DATA_KEY / Accept a KERNAL_DATA_KEY that you replaced on purpose."""
    data_key_marks.accept(session.settings.keys_dir, session.settings.kernal_data_key)
    output.say("已确认 / KERNAL_DATA_KEY is accepted as the one in use")


@key.command()
@program_option()
@pass_session
def export(session: Session, program: str) -> None:
    """导出公钥 / Print the public keys for a program to pin, as {"iss", "keys"} (with "program" but for main)."""
    ring = _keys(session).store.load()
    if program != MAIN:
        find(program)
    output.print_json({"iss": issuer_of(session.settings.issuer, program), **named(program), "keys": ring.pinned})


@key.command()
@program_option()
@pass_session
def recipient(session: Session, program: str) -> None:
    """核心数据加密公钥 / Print the age recipient, to seal files on any machine."""
    sys.stdout.write(f"{sealing.age_recipient(session.data_key(program))}\n")


@click.command()
@click.argument("source", metavar="FILE")
@click.option("-o", "--output", "target", metavar="FILE.age", required=True, help="输出文件 / Where to write it.")
@program_option()
@pass_session
def seal(session: Session, source: str, target: str, program: str) -> None:
    """加密核心数据 / Seal a file for KERNAL_DATA_KEY; `-` is standard input or output."""
    to = sealing.age_recipient(session.data_key(program))
    both_here = "-" not in {source, target}
    if both_here and Path(target).exists() and Path(source).samefile(target):
        raise click.UsageError("FILE 与输出相同 / FILE and the output are the same file")
    with click.open_file(source, "rb") as plain, _replacing(target) as sealed:
        sealing.seal_file(plain, sealed, to)


@contextlib.contextmanager
def _replacing(target: str) -> Iterator[IO[bytes]]:
    """Open a file that takes the place of `target` only when all went well; click's does so after a failure, too."""
    path = Path(target)
    if target == "-" or (path.exists() and not path.is_file()):
        with click.open_file(target, "wb") as output_file:
            yield output_file
        return
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".sealing-") as folder:
        part = Path(folder, "part")
        with part.open("wb") as output_file:
            yield output_file
        part.replace(path)
