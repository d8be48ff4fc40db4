"""`cardctl events`."""

import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from typing import Any

import click

from app.cli import output
from app.cli.card import Duration
from app.cli.context import Session, format_option, pass_session
from app.clock import utc_now
from app.domain.cards import parse_card_id
from app.domain.codes import Code, EventKind
from app.domain.errors import ConflictError, DatabaseUnavailableError, SchemaMismatchError
from app.domain.texts import Text
from app.services.formatting import json_text, local, shown
from app.services.journal_follow import Follower
from app.storage import journal, models

TABLE_ROWS = 200
FOLLOWED_ROWS = 10  # shown before the first new entry, unless --since says otherwise
LOOK_SECONDS = 1.0
_TRACEBACK = "detail"  # of a core function that failed: many lines
_NO_SUCH_REFERENCE = Text(
    f"日志中没有这个参考号：请求已被接受、同一地址的同类拒绝一分钟超过 {journal.REFUSALS_A_MINUTE} 条，或已过期清理",
    "The journal has no such reference: the request was accepted, or its address had more than "
    f"{journal.REFUSALS_A_MINUTE} refusals of the kind in a minute, or it is pruned by now",
)
_KINDS: dict[str, EventKind | Code] = {k.value: k for k in EventKind} | {c.value: c for c in Code if c is not Code.OK}


@click.command()
@click.option(
    "--kind", type=click.Choice(list(_KINDS), case_sensitive=False), help="类型或拒绝代码 / A kind or a code."
)
@click.option("--card", "card_id", help="卡密 / Of this card.")
@click.option("--reference", help="参考号 / The reference in a customer's message.")
@click.option("--since", type=Duration(), help="最近多久 / As 7d: not older than that.")
@click.option("--follow", is_flag=True, help="持续显示新条目 / Go on with each new entry; json: one object a line.")
@click.option("--until-input-ends", is_flag=True, hidden=True)  # how scripts/cardctl ends it inside a container
@format_option("table", "json")
@pass_session
def events(  # noqa: PLR0913  # one argument an option
    session: Session,
    kind: str | None,
    card_id: str | None,
    reference: str | None,
    since: timedelta | None,
    output_format: str,
    *,
    follow: bool,
    until_input_ends: bool,
) -> None:
    """日志 / The journal, newest first."""
    wanted = journal.Filter(
        kind=None if kind is None else _KINDS[kind],
        card_id=None if card_id is None else parse_card_id(card_id) or card_id,
        reference=None if reference is None else reference.upper(),
        since=None if since is None else utc_now() - since,
    )
    if follow:
        with suppress(KeyboardInterrupt):
            _follow(session, wanted, output_format, until_input_ends=until_input_ends)
        return
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
    if not found and reference is not None and (kind, card_id, since) == (None, None, None):
        output.say(str(_NO_SUCH_REFERENCE))
    if reference is not None:
        for event in found:
            sys.stdout.writelines(f"{shown(line)}\n" for line in _traceback(event).splitlines())
    if len(found) > TABLE_ROWS:
        output.say(
            f"仅显示最新 {TABLE_ROWS} 条，可用 --since 等筛选 / Only the newest {TABLE_ROWS}: filter with --since …"
        )


def _follow(session: Session, wanted: journal.Filter, output_format: str, *, until_input_ends: bool) -> None:
    follower = Follower(session.database, wanted)
    found = follower.begin(FOLLOWED_ROWS if wanted.since is None else None)
    away = False
    while True:
        for event in found:
            line = json_text(_document(event, session)) if output_format == "json" else _line(event, session)
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        if _ended(until_input_ends=until_input_ends):
            return
        try:
            found = follower.look()
        except SchemaMismatchError:
            raise
        except (DatabaseUnavailableError, ConflictError) as error:
            if not away:
                output.say(f"数据库不可用，等待中 / The database is away, waiting: {' '.join(str(error).split())}")
            away, found = True, []
            continue
        if away:
            output.say("数据库已恢复 / The database is back")
            away = False


def _ended(*, until_input_ends: bool) -> bool:
    """Wait until the next look is due, and tell whether standard input's end says that nobody looks on any more."""
    if not until_input_ends:
        time.sleep(LOOK_SECONDS)
        return False
    readable, _, _ = select.select([sys.stdin], [], [], LOOK_SECONDS)
    return bool(readable) and not os.read(sys.stdin.fileno(), 4096)


def _line(event: models.Event, session: Session) -> str:
    return "  ".join(shown(cell) for cell in _cells(event, session) if cell)


def _document(event: models.Event, session: Session) -> dict[str, Any]:
    return {**event.__data__, "at": local(event.at, session.zone)}


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
