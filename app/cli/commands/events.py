"""`cardctl events`."""

import os
import select
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

import click

from app.cli import output
from app.cli.context import Session, format_option, pass_session
from app.cli.durations import Duration
from app.domain.codes import Code
from app.domain.errors import SchemaMismatchError, UnavailableError
from app.runtime.clock import utc_now
from app.services.cards.exports import Row, journal_documents
from app.services.cards.filters import KINDS, parse_journal_filter
from app.services.formatting import escaped, json_text
from app.services.journal.journal_follow import Follower
from app.services.journal.journal_lists import NO_SUCH_REFERENCE, every, page, rejection_first
from app.services.licence.refusals import REASONS

TABLE_ROWS = 200
FOLLOWED_ROWS = 10  # shown before the first new entry, unless --since says otherwise
LOOK_SECONDS = 1.0
_TRACEBACK = "detail"  # of a core function that failed: many lines
_COLUMNS = ("at", "kind", "card_id", "reference", "ip", "hardware", "function", "其他 more")


@click.command()
@click.option("--kind", type=click.Choice(list(KINDS), case_sensitive=False), help="类型或拒绝代码 / A kind or a code.")
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
    fields = {"kind": kind or "", "card": card_id or "", "reference": reference or ""}
    wanted = parse_journal_filter(fields, session.zone)
    if since is not None:
        wanted = replace(wanted, since=utc_now() - since)
    database = session.database  # opened now: the lists read from it
    if follow:
        with suppress(KeyboardInterrupt):
            first = FOLLOWED_ROWS if since is None else None
            _follow(session, Follower(database, wanted), first, output_format, until_input_ends=until_input_ends)
        return
    if output_format == "json":
        output.print_json_list(journal_documents(every(wanted), session.zone))
        return
    found = page(wanted, limit=TABLE_ROWS + 1).rows
    rows = list(journal_documents(found if reference is None else rejection_first(found), session.zone))
    output.print_table(_COLUMNS, (list(_cells(row)) for row in rows[:TABLE_ROWS]))
    if reference is not None:
        if not rows and (kind, card_id, since) == (None, None, None):
            output.say(str(NO_SUCH_REFERENCE))
        for row in rows[:1]:
            _explain(session, row)
        for row in rows:
            sys.stdout.writelines(f"{escaped(line)}\n" for line in _traceback(row).splitlines())
    if len(rows) > TABLE_ROWS:
        output.say(
            f"仅显示最新 {TABLE_ROWS} 条，可用 --since 等筛选 / Only the newest {TABLE_ROWS}: filter with --since …"
        )


def _explain(session: Session, row: Row) -> None:
    """Print why a request was refused, and what the card was and is bound to."""
    if row["code"] not in REASONS:
        return
    found = session.cards.find(row["card_id"])
    before = (row["details"] or {}).get("before") or {}
    client = None if found is None else found.client
    output.print_fields(
        [
            ("原因 reason", str(REASONS[row["code"]])),
            ("卡密状态 card now", "—" if found is None else found.status.value),
            ("当时绑定 bound then", _machine(before.get("hardware"), before.get("ip"))),
            ("发来请求 asked", _machine(row["hardware"], row["ip"])),
            ("现在绑定 bound now", "—" if client is None else _machine(client.hardware, client.ip)),
        ]
    )
    if row["code"] == Code.CLIENT_MISMATCH and found is not None:
        command = f"cardctl card move {row['card_id']} --reference {row['reference']}"
        output.say(f"换绑到这台设备 / Move the card to this machine: {command}")


def _machine(hardware: str | None, ip: str | None) -> str:
    return " @ ".join(part for part in (hardware, ip) if part) or "—"


def _follow(
    session: Session, follower: Follower, first: int | None, output_format: str, *, until_input_ends: bool
) -> None:
    found = follower.begin(first)
    away = False
    while True:
        for row in journal_documents(found, session.zone):
            line = json_text(row) if output_format == "json" else escaped("  ".join(filter(None, _cells(row))))
            sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
        if _ended(until_input_ends=until_input_ends):
            return
        try:
            found = follower.look()
        except SchemaMismatchError:
            raise
        except UnavailableError as error:
            if not away:
                output.say(f"数据库不可用，等待中 / The database is away, waiting: {' '.join(str(error).split())}")
            away, found = True, []
            continue
        if away:
            output.say("数据库已恢复 / The database is back")
            away = False


def _ended(*, until_input_ends: bool) -> bool:
    """Wait until the next look is due; return whether standard input ended, where that ends the command."""
    readable, _, _ = select.select([sys.stdin] if until_input_ends else [], [], [], LOOK_SECONDS)
    return bool(readable) and not os.read(sys.stdin.fileno(), 4096)


def _cells(row: Row) -> Iterator[str | None]:
    yield datetime.fromisoformat(row["at"]).isoformat(sep=" ", timespec="seconds")
    yield row["code"] or row["kind"]
    yield from (row[name] for name in ("card_id", "reference", "ip", "hardware", "function"))
    details = {k: v for k, v in (row["details"] or {}).items() if v is not None and k != _TRACEBACK}
    more = [row["actor"], *(f"{k}={v}" for k, v in details.items()), _traceback(row).strip().rpartition("\n")[2]]
    if row["claimed_ip"] and row["claimed_ip"] != row["ip"]:
        more.append(f"claimed_ip={row['claimed_ip']}")
    yield " ".join(part for part in more if part)


def _traceback(row: Row) -> str:
    return str((row["details"] or {}).get(_TRACEBACK, ""))
