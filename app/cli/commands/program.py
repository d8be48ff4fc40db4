"""`cardctl program …`."""

import click

from app.cli import output
from app.cli.context import Session, format_option, pass_session
from app.domain.texts import RefusedError
from app.services.programs import card_counts, programs

_name_option = click.option("--name", required=True, help="名称，供您识别 / Its name, for you.")


@click.group()
def program() -> None:
    """程序 / The programs that you sell."""


@program.command()
@click.argument("program_id", metavar="ID")
@_name_option
@click.option(
    "--data-key-file", metavar="F", help="自有的数据密钥，默认新建 / Your own data key; without it one is generated."
)
@pass_session
def add(session: Session, program_id: str, name: str, data_key_file: str | None) -> None:
    """添加程序 / Add a program, with a data key of its own."""
    key = None
    if data_key_file is not None:
        with click.open_file(data_key_file, "rb") as file:
            key = _text(file.read())
    session.programs.add(program_id, name, key)
    output.say(f"已添加程序 {program_id} / Added the program {program_id}")


@program.command("list")
@format_option("table", "json")
@pass_session
def list_programs(session: Session, output_format: str) -> None:
    """列出程序 / List the programs."""
    _ = session.database
    counts = card_counts()
    listed = output.records(programs(), _COLUMNS, session.zone, lambda row: {"cards": counts.get(row.id, 0)})
    output.print_records(listed, _COLUMNS, output_format, "")


@program.command()
@click.argument("program_id", metavar="ID")
@_name_option
@pass_session
def rename(session: Session, program_id: str, name: str) -> None:
    """改名 / Give a program another name; its ID stays."""
    session.programs.rename(program_id, name)
    output.say(f"已改名 {program_id} / Renamed {program_id}")


@program.command()
@click.argument("program_id", metavar="ID")
@pass_session
def remove(session: Session, program_id: str) -> None:
    """移除没有卡密的程序 / Remove a program that has no cards."""
    session.programs.remove(program_id)
    output.say(f"已移除程序 {program_id} / Removed the program {program_id}")


def _text(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise RefusedError("数据密钥须为 UTF-8 文本", "the data key must be text in UTF-8") from error


_COLUMNS = ("id", "name", "cards", "created_at")
