"""`cardctl stats`."""

import sys
from collections.abc import Iterable, Sequence

import click

from app.cli import output
from app.cli.context import Session, format_option, pass_session
from app.clock import utc_now
from app.domain.codes import CardStatus
from app.services.formatting import local
from app.services.statistics import EXPIRING_WITHIN, Statistics, collect, document

_STATUS_HEADINGS = ("冻结 frozen", "到期 expired", "使用中 active", "未激活 unused")


@click.command()
@format_option("table", "json")
@pass_session
def stats(session: Session, output_format: str) -> None:
    """统计 / Cards, activations, requests, rejections."""
    now = utc_now()
    figures = collect(session.database, now, session.zone)
    if output_format == "json":
        output.print_json({"at": local(now, session.zone), **document(figures, session.zone)})
    else:
        _print_tables(figures, session)


def _print_tables(figures: Statistics, session: Session) -> None:
    total = sum(figures.statuses.values())
    _section("卡密 / Cards", ("总数 total", *_STATUS_HEADINGS), [(total, *_counts(figures.statuses))])
    _section(
        f"批次，最大 {len(figures.batches)}/{figures.batch_count} / Largest batches",
        ("批次 batch", "卡密 cards", *_STATUS_HEADINGS),
        ((b.batch or "—", b.cards, *_counts(b.statuses)) for b in figures.batches),
    )
    _section(
        f"每日 / By day ({session.zone.key})",
        ("日期 day", "激活 activations", "通过的请求 accepted requests"),
        ((d.day.isoformat(), d.activations, d.requests) for d in figures.days),
    )
    _section("日志中的拒绝 / Rejections in the journal", ("代码 code", "24 h", "7 d"), figures.rejections)
    _section(
        f"{EXPIRING_WITHIN.days} 天内到期 {figures.expiring_count} 张 / Expiring within {EXPIRING_WITHIN.days} days",
        ("卡密 ID", "到期 expires", "批次 batch", "备注 note"),
        ((c.id, local(c.expires_at, session.zone), c.batch, c.note) for c in figures.expiring),
    )
    _section(
        f"功能，{len(figures.days)} 天内最常用 / Functions used most in {len(figures.days)} days",
        ("功能 function", "请求 requests"),
        figures.functions,
    )


def _counts(statuses: dict[str, int]) -> list[int]:
    return [statuses[status] for status in CardStatus]


def _section(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    sys.stdout.write(f"{title}\n")
    output.print_table(columns, ([None if cell is None else str(cell) for cell in row] for row in rows))
