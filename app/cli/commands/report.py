"""`cardctl report …`."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

import click

from app.cli import output
from app.cli.context import Session, format_option, pass_session, program_option
from app.cli.durations import Duration
from app.runtime.clock import utc_now
from app.services.formatting import local
from app.services.programs import checked
from app.services.reports.abuse_report import LATELY, LIMITS, MAX_ROWS, collect

_REJECTED = (
    (
        "cards",
        "被拒：一张卡密，多台其他设备 / Rejected: one card from other machines",
        ("card_id", "machines", "networks"),
    ),
    ("machines", "被拒：一台设备，多张卡密 / Rejected: one machine with many cards", ("hardware", "cards", "networks")),
    ("networks", "被拒：一个地址，多张卡密 / Rejected: one address with many cards", ("network", "cards", "machines")),
)
"""Of each group of rejections: name, title, and the columns of what they share and of counts."""


@click.group()
def report() -> None:
    """报告 / Reports."""


@report.command()
@click.option("--since", type=Duration(), default="7d", show_default=True, help="最近多久，至少 1d / 1d at least.")
@program_option(None)
@format_option("table", "json")
@pass_session
def abuse(session: Session, since: timedelta, program: str | None, output_format: str) -> None:
    """共享与攻击 / Shared cards, and machines and addresses that try many cards."""
    if since < LATELY:
        raise click.BadParameter("至少 1d / must be 1d at least", param_hint="--since")
    now = utc_now()
    with session.database.hold():
        found = collect(now, session.zone, since, checked(program))
    if output_format == "json":
        head = {"at": local(now, session.zone), "since": local(now - since, session.zone), "limits": LIMITS}
        output.print_json(head | found)
    else:
        _print_tables(found)


def _print_tables(found: dict[str, Any]) -> None:
    accepted = found["accepted"]
    shown = "" if accepted["count"] <= MAX_ROWS else f"，前 {MAX_ROWS} 张 / the first {MAX_ROWS}"
    output.print_section(
        f"已通过但疑似共享的卡密 {accepted['count']} 张（全部｜24 小时）/ "
        f"Accepted, but possibly shared (whole period | 24 h){shown}",
        _accepted(accepted["first"]),
    )
    for name, title, columns in _REJECTED:
        output.print_section(title, found[name], (*columns, "rejections", "first_at", "last_at"))
    output.print_section("客户自助解绑最多的卡密 / Cards that their customers unbound most often", found["unbindings"])


def _accepted(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        numbers = {name: f"{number} | {row['last_24_hours'][name]}" for name, number in row["period"].items()}
        yield {"card_id": row["card_id"], **numbers, "last_at": row["last_at"]}
