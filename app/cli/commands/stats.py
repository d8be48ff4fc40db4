"""`cardctl stats`."""

from datetime import timedelta
from typing import Any

import click

from app.cli import output
from app.cli.context import Session, format_option, pass_session, program_option
from app.runtime.clock import utc_now
from app.services.formatting import local
from app.services.programs import checked
from app.services.reports.statistics import EXPIRING_WITHIN, ONLINE_WITHIN, collect


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
    minutes, within = ONLINE_WITHIN // timedelta(minutes=1), EXPIRING_WITHIN.days
    output.print_section("卡密 / Cards", [figures["cards"]])
    output.print_section(
        f"批次，最大 {len(batches['largest'])}/{batches['count']} / Largest batches",
        ({**row, "batch": row["batch"] or "—"} for row in batches["largest"]),
    )
    output.print_section(f"每日 / By day ({zone})", figures["days"])
    output.print_section(
        f"客户，在线指 {minutes} 分钟内 / Customers, online: seen in {minutes} minutes ({zone})", [figures["customers"]]
    )
    output.print_section("日志中的拒绝 / Rejections in the journal", figures["rejections"])
    output.print_section(f"{within} 天内到期 {expiring['count']} 张 / Expiring within {within} days", expiring["first"])
    output.print_section(f"功能，{days} 天内最常用 / Functions used most in {days} days", figures["functions"])
