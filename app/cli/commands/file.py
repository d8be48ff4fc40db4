"""`cardctl file …`."""

import os
import unicodedata
from pathlib import Path
from typing import Any

import click
from jinja2.filters import do_filesizeformat

from app.cli import output
from app.cli.context import Session, format_option, operator_name, pass_session, program_option
from app.runtime.clock import utc_now
from app.services.files.file_moves import PLACES, FileMoves
from app.services.files.file_store import FileStore
from app.services.formatting import local

_STATES = {False: "", True: "缺失 missing", None: "未知 unknown"}
_ALL = ["所有卡密 every card"]


@click.group()
def file() -> None:
    """授权文件 / Licensed files."""


def _store(session: Session, program: str) -> FileStore:
    return FileStore.of_installation(
        session.database, session.settings, operator_name(), utc_now, lambda text: output.say(str(text)), program
    )


@file.command()
@click.argument("path")
@click.option("--name", help="客户端所用的文件名 / The name for clients; default: that of PATH.")
@click.option(
    "--batch", "batches", multiple=True, help="仅限该批次的卡密，可多次 / For cards of this batch only; repeatable."
)
@click.option("--all-cards", is_flag=True, help="所有卡密可用 / For every card.")
@click.option("--size", type=click.IntRange(min=0), help="标准输入的字节数 / The size of standard input in bytes.")
@program_option()
@format_option("table", "json")
@pass_session
def add(  # noqa: PLR0913  # one argument an option
    session: Session,
    path: str,
    name: str | None,
    batches: tuple[str, ...],
    size: int | None,
    program: str,
    output_format: str,
    *,
    all_cards: bool,
) -> None:
    """添加或更新文件 / Add a file, or a new version of it; PATH `-` is standard input."""
    if path == "-" and name is None:
        raise click.UsageError("标准输入需要 --name / standard input needs --name")
    if path != "-" and size is not None:
        raise click.UsageError("--size 仅用于标准输入 / --size is for standard input only")
    if batches and all_cards:
        raise click.UsageError("--batch 与 --all-cards 只能选一个 / --batch or --all-cards, not both")
    name = _typed(Path(path).name if name is None else name)
    with click.open_file(path, "rb") as source:
        if path != "-":
            size = os.fstat(source.fileno()).st_size or None  # a pipe's is 0
        stored = _store(session, program).add(name, source, size=size, batches=batches or (() if all_cards else None))
    _print([stored], output_format, session)


@file.command("list")
@program_option()
@format_option("table", "json")
@pass_session
def list_files(session: Session, program: str, output_format: str) -> None:
    """列出文件 / List the files."""
    stored = _store(session, program).listed(program)
    if not stored and output_format == "table":
        output.say("没有文件 / There are no files")
        return
    _print(stored, output_format, session)


@file.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@program_option()
@pass_session
def remove(session: Session, names: tuple[str, ...], program: str) -> None:
    """移除文件 / Remove files, all or none; downloads in progress continue."""
    wanted = list(dict.fromkeys(map(_typed, names)))
    _store(session, program).remove(wanted)
    output.say(f"已移除 {len(wanted)} 个 / Removed: {len(wanted)}")


@file.command("move-to")
@click.argument("place", type=click.Choice(PLACES))
@format_option("table", "json")
@pass_session
def move_to(session: Session, place: str, output_format: str) -> None:
    """移动全部文件的内容 / Move the bytes of all files into the bucket, or back into the folder.

    可以中断并再次执行，下载不受影响 / It may be interrupted and run again, and downloads go on meanwhile.
    """
    moves, done = FileMoves(session.database, session.settings), []
    try:
        for move in moves.run(place):
            done.append(move)
            outcome = f"未移动 / not moved: {move.left}" if move.left else "已在该处 / is there"
            output.say(f"{', '.join(move.names)}: {outcome}")
    except KeyboardInterrupt:
        raise click.ClickException(
            f"已中断，完成 {len(done)} 个；再次执行即可继续 / Interrupted after {len(done)}: run it again to go on"
        ) from None
    if output_format == "json":
        output.print_json_list(move._asdict() | {"left": move.left and str(move.left)} for move in done)
    left = [name for move in done if move.left for name in move.names]
    if left:
        raise click.ClickException(f"未移动 {len(left)} 个 / Not moved: {len(left)} ({', '.join(left)})")
    output.say(f"全部就位 / All are in place: {len(done)}")


def _typed(name: str) -> str:
    """Return a name as a keyboard gives it: macOS stores it decomposed."""
    return unicodedata.normalize("NFC", name)


def _print(stored: list[Any], output_format: str, session: Session) -> None:
    zone = session.zone
    if output_format == "json":
        names = ("name", "size", "sha256", "added_at", "batches", "missing")
        output.print_json_list(output.records(stored, names, zone))
        return
    columns = ("name", "size", "sha256", "created_at", "batches", "status")
    rows = (
        (
            f.name,
            do_filesizeformat(f.size, binary=True),
            f.sha256,
            local(f.added_at, zone),
            ", ".join(f.batches or _ALL),
            _STATES[f.missing],
        )
        for f in stored
    )
    output.print_table(columns, rows)
