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

_CARD, _FIRST, _LAST = {"card_id": "卡密 card"}, {"first_at": "首次 first"}, {"last_at": "最近 last"}
_SPREAD = {
    "machines": "设备 machines",
    "networks": "网段 networks",
    "blocks": "大网段 blocks",
    "changes": "变化 changes",
    "places": "地点 places",
}


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
        _CARD | _SPREAD | _LAST,
        _accepted(accepted["first"]),
    )
    for name, title, columns in _REJECTED:
        output.print_section(title, columns | {"rejections": "被拒 rejections"} | _FIRST | _LAST, found[name])
    output.print_section(
        "客户自助解绑最多的卡密 / Cards that their customers unbound most often",
        _CARD | {"unbindings": "解绑 unbindings"} | _FIRST | _LAST,
        found["unbindings"],
    )


_CARDS, _MACHINES, _NETWORKS = {"cards": "卡密 cards"}, {"machines": "设备 machines"}, {"networks": "地址 addresses"}
_REJECTED = (
    ("cards", "被拒：一张卡密，多台其他设备 / Rejected: one card from other machines", _CARD | _MACHINES | _NETWORKS),
    (
        "machines",
        "被拒：一台设备，多张卡密 / Rejected: one machine with many cards",
        {"hardware": "设备 machine"} | _CARDS | _NETWORKS,
    ),
    (
        "networks",
        "被拒：一个地址，多张卡密 / Rejected: one address with many cards",
        {"network": "地址 address"} | _CARDS | _MACHINES,
    ),
)
"""Of each group of rejections: name, title, and the columns of what they share and of counts."""


def _accepted(rows: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        numbers = {name: f"{row['period'][name]} | {row['last_24_hours'][name]}" for name in _SPREAD}
        yield {**row, **numbers}
