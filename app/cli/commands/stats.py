"""`cardctl stats`."""

from datetime import timedelta
from typing import Any

import click

from app.cli import output
from app.cli.context import Session, format_option, pass_session, program_option
from app.domain.codes import CardStatus
from app.runtime.clock import utc_now
from app.services.formatting import local
from app.services.programs import checked
from app.services.reports.statistics import EXPIRING_WITHIN, ONLINE_WITHIN, collect

_STATUSES = {
    str(CardStatus.SPENT): "已续费 spent",
    str(CardStatus.FROZEN): "冻结 frozen",
    str(CardStatus.EXPIRED): "到期 expired",
    str(CardStatus.ACTIVE): "使用中 active",
    str(CardStatus.UNUSED): "未激活 unused",
}


@click.command()
@program_option(None)
@format_option("table", "json")
@pass_session
def stats(session: Session, program: str | None, output_format: str) -> None:
    """统计 / Cards, activations, requests, rejections."""
    now = utc_now()
    with session.database.hold():
        figures = collect(now, session.zone, checked(program))
    if output_format == "json":
        output.print_json({"at": local(now, session.zone), **figures})
    else:
        _print_tables(figures, session.zone.key)


def _print_tables(figures: dict[str, Any], zone: str) -> None:
    batches, expiring, days = figures["batches"], figures["expiring"], len(figures["days"])
    output.print_section("卡密 / Cards", {"total": "总数 total"} | _STATUSES, [figures["cards"]])
    output.print_section(
        f"批次，最大 {len(batches['largest'])}/{batches['count']} / Largest batches",
        {"batch": "批次 batch", "cards": "卡密 cards"} | _STATUSES,
        ({**row, "batch": row["batch"] or "—"} for row in batches["largest"]),
    )
    output.print_section(
        f"每日 / By day ({zone})",
        {"day": "日期 day", "activations": "激活 activations", "requests": "通过的请求 accepted requests"},
        figures["days"],
    )
    minutes = ONLINE_WITHIN // timedelta(minutes=1)
    output.print_section(
        f"客户 / Customers ({zone})",
        {
            "online": f"在线，{minutes} 分钟内 seen in {minutes} minutes",
            "today": "今天 today",
            "yesterday": "昨天 yesterday",
        },
        [figures["customers"]],
    )
    output.print_section(
        "日志中的拒绝 / Rejections in the journal",
        {"code": "代码 code", "last_24_hours": "24 h", "last_7_days": "7 d"},
        figures["rejections"],
    )
    output.print_section(
        f"{EXPIRING_WITHIN.days} 天内到期 {expiring['count']} 张 / Expiring within {EXPIRING_WITHIN.days} days",
        {"id": "卡密 ID", "expires_at": "到期 expires", "batch": "批次 batch", "note": "备注 note"},
        expiring["first"],
    )
    output.print_section(
        f"功能，{days} 天内最常用 / Functions used most in {days} days",
        {"function": "功能 function", "requests": "请求 requests"},
        figures["functions"],
    )
