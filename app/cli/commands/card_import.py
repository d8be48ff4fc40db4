"""`cardctl card import`."""

import sys
from datetime import timedelta
from typing import Any

import click

from app.cli import output
from app.cli.context import Session, format_option, pass_session, program_option
from app.cli.durations import LENGTHS, PERMANENT, Duration
from app.domain.imports import Chosen
from app.domain.texts import RefusedError
from app.runtime.clock import utc_now
from app.services.cards.issuing import Issuing
from app.services.formatting import escaped
from app.services.imports import imports
from app.services.imports.imports import Reading
from app.services.programs import find

_SHOWN_BATCHES = 20


@click.command("import")
@click.argument("path", metavar="FILE")
@click.option("--dry-run", is_flag=True, help="只检查，不导入 / Check it and import nothing.")
@click.option(
    "--validity",
    type=Duration(PERMANENT),
    help=f"文件没有有效期时，未使用卡密的有效期 / Of unused cards, where the file says none: {LENGTHS}, permanent",
)
@click.option("--size", type=click.IntRange(min=0), help="标准输入的字节数 / How many bytes standard input will bring.")
@program_option()
@format_option("table", "json")
@pass_session
def import_cards(  # noqa: PLR0913  # one argument an option
    session: Session,
    path: str,
    validity: timedelta | str | None,
    size: int | None,
    program: str,
    output_format: str,
    *,
    dry_run: bool,
) -> None:
    """导入已售出的卡密 / Import cards sold before, all or none; FILE `-` is standard input.

    CSV 或 XLSX。表头列 / CSV or XLSX. Columns: id; validity (or validity_seconds), status, activated_at, expires_at,
    hardware, ip, batch, note.
    """
    if size is not None and path != "-":
        raise click.UsageError("--size 仅用于标准输入 / --size is for standard input alone")
    with click.open_file(path, "rb") as source:
        content = source.read()
    if size is not None and len(content) != size:  # a broken connection looks like the end of the file
        raise RefusedError(f"只收到 {len(content)}/{size} 字节", f"only {len(content)} of {size} bytes arrived")
    chosen = None if validity is None else Chosen(validity if isinstance(validity, timedelta) else None)
    issuing = session.acting(Issuing)
    reading = imports.read(content, utc_now(), session.zone, chosen, find(program).id)
    is_good = not reading.faults
    if is_good and not dry_run:
        if not reading.cards:
            raise RefusedError("文件中没有卡密", "the file contains no cards")
        issuing.import_cards(reading.cards)
    _print(reading, output_format, imported=is_good and not dry_run)
    if not is_good:
        wrong = reading.fault_count
        raise RefusedError(f"{wrong} 处有误，未导入任何卡密", f"{wrong} errors, nothing was imported")


def _print(reading: Reading, output_format: str, *, imported: bool) -> None:
    document = _document(reading, imported=imported)
    if output_format == "json":
        output.print_json(document)
        return
    for fault in reading.faults:
        zh, en = (f" {fault.column} 列", f", {fault.column}") if fault.column else ("", "")
        said = f"第 {fault.line} 行{zh}：{fault.text.zh} / line {fault.line}{en}: {fault.text.en}"
        sys.stdout.write(escaped(said) + "\n")
    if more := reading.fault_count - len(reading.faults):
        sys.stdout.write(f"还有 {more} 个问题 / And {more} more\n")
    for text in imports.warnings(reading):
        sys.stdout.write(escaped(f"注意 / Note: {text}") + "\n")
    output.print_fields(
        [
            ("编码 encoding", reading.encoding),
            ("读取的列 columns", ", ".join(f"{header} → {column}" for header, column in document["columns"].items())),
            ("未读取的列 not read", ", ".join(reading.ignored) or "—"),
            ("正确的卡密 good cards" if reading.faults else "卡密 cards", document["cards"]),
            ("使用中 in use", document["activated"]),
            ("已绑定 bound", document["bound"]),
            ("已冻结 frozen", document["frozen"]),
            ("有效期 validity", _counts(document["validities"])),
            ("批次 batches", _counts(document["batches"])),
        ]
    )
    if imported:
        output.say(f"已导入 {len(reading.cards)} 张 / Imported {len(reading.cards)}")
    elif not reading.faults:
        output.say("检查无误，未导入（--dry-run）/ No errors; nothing was imported (--dry-run)")


def _document(reading: Reading, *, imported: bool) -> dict[str, Any]:
    return {
        "imported": imported,
        "encoding": reading.encoding,
        "columns": {column.header: column.field for column in reading.columns},
        "warnings": [str(text) for text in imports.warnings(reading)],
        "not_read": reading.ignored,
        **imports.summary(reading),
        "fault_count": reading.fault_count,
        "faults": [{"line": f.line, "column": f.column, "problem": str(f.text)} for f in reading.faults],
    }


def _counts(counts: dict[str, int]) -> str:
    shown = [f"{name} × {count}" for name, count in list(counts.items())[:_SHOWN_BATCHES]]
    return ", ".join(shown + ["…"] * (len(counts) > _SHOWN_BATCHES)) or "—"
