"""`cardctl seal`."""

from pathlib import Path

import click

from app.cli.context import Session, pass_session
from app.cli.files import open_input, replace_output
from app.tokens import sealing


@click.command()
@click.argument("source", metavar="FILE")
@click.option("-o", "--output", "target", metavar="FILE.age", required=True, help="输出文件 / Where to write it.")
@pass_session
def seal(session: Session, source: str, target: str) -> None:
    """加密核心数据 / Seal a file for KERNAL_DATA_KEY; `-` is standard input or output."""
    to = sealing.age_recipient(session.settings.kernal_data_key)
    both_here = "-" not in {source, target}
    if both_here and Path(target).exists() and Path(source).samefile(target):
        raise click.UsageError("FILE 与输出相同 / FILE and the output are the same file")
    with open_input(source) as (plain, _), replace_output(target) as sealed:
        sealing.seal_file(plain, sealed, to)
