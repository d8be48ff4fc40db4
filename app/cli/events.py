"""`cardctl events`."""

import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import click

from app.cli import output
from app.cli.card import Duration
from app.cli.context import Session, format_option, pass_session
from app.clock import utc_now
from app.domain.cards import parse_card_id
from app.domain.codes import Code, EventKind
from app.storage import journal, models

TABLE_ROWS = 200
_TRACEBACK = "detail"  # of a core function that failed: many lines
_KINDS: dict[str, EventKind | Code] = {k.value: k for k in EventKind} | {c.value: c for c in Code if c is not Code.OK}


@click.command()
@click.option(
    "--kind", type=click.Choice(list(_KINDS), case_sensitive=False), help="类型或拒绝代码 / A kind or a code."
)
@click.option("--card", "card_id", help="卡密 / Of this card.")
@click.option("--reference", help="参考号 / The reference in a customer's message.")
@click.option("--since", type=Duration(), help="最近多久 / As 7d: not older than that.")
@format_option("table", "json")
@pass_session
def events(  # noqa: PLR0913  # one argument an option
    session: Session,
    kind: str | None,
    card_id: str | None,
    reference: str | None,
    since: timedelta | None,
    output_format: str,
) -> None:
    """日志 / The journal, newest first."""
    wanted = journal.Filter(
        kind=None if kind is None else _KINDS[kind],
        card_id=None if card_id is None else parse_card_id(card_id) or card_id,
        reference=None if reference is None else reference.upper(),
        since=None if since is None else utc_now() - since,
    )
    # Where the database is away, that is said before anything is printed.
    session.database.with_connection(lambda: None)
    if output_format == "json":
        output.print_json_list(_document(event, session) for event in journal.search(wanted))
        return
    found = list(journal.search(wanted, limit=TABLE_ROWS + 1))
    output.print_table(
        (
            "时间 at",
            "类型 kind",
            "卡密 card",
            "参考号 reference",
            "地址 IP",
            "硬件 hardware",
            "功能 function",
            "其他 more",
        ),
        (list(_cells(event, session)) for event in found[:TABLE_ROWS]),
    )
    if reference is not None:
        for event in found:
            sys.stdout.writelines(f"{output.shown(line)}\n" for line in _traceback(event).splitlines())
    if len(found) > TABLE_ROWS:
        output.say(
            f"仅显示最新 {TABLE_ROWS} 条，可用 --since 等筛选 / Only the newest {TABLE_ROWS}: filter with --since …"
        )


def _document(event: models.Event, session: Session) -> dict[str, Any]:
    return {**event.__data__, "at": output.local(event.at, session.zone)}


def _cells(event: models.Event, session: Session) -> Iterator[str | None]:
    yield event.at.astimezone(session.zone).isoformat(sep=" ", timespec="seconds")
    yield event.code or event.kind
    yield event.card_id
    yield event.reference
    yield event.ip
    yield event.hardware
    yield event.function
    details = {k: v for k, v in (event.details or {}).items() if v is not None and k != _TRACEBACK}
    more = [event.actor, *(f"{k}={v}" for k, v in details.items()), _traceback(event).strip().rpartition("\n")[2]]
    if event.claimed_ip and event.claimed_ip != event.ip:
        more.append(f"claimed_ip={event.claimed_ip}")
    yield " ".join(part for part in more if part)


def _traceback(event: models.Event) -> str:
    return str((event.details or {}).get(_TRACEBACK, ""))
