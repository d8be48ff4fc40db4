"""`cardctl card …`."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import chain
from typing import Any

import click

from app.cli import output
from app.cli.commands.card_import import import_cards
from app.cli.context import Session, format_option, pass_session, program_option, together
from app.cli.durations import LENGTHS, PERMANENT, Duration
from app.domain.cards.card_actions import TIMED, Action
from app.domain.cards.cards import format_validity
from app.domain.cards.pasted import bare_reference, reference_in
from app.domain.codes import CardStatus
from app.runtime.clock import utc_now
from app.services.cards import exports
from app.services.cards.card_actions import CardActions
from app.services.cards.card_lists import COUNTED_DAYS
from app.services.cards.card_moves import CardMoves
from app.services.cards.filters import parse_card_filter, parse_journal_filter
from app.services.cards.issuing import Issuing
from app.services.journal import journal_lists
from app.services.programs import checked


@click.group()
def card() -> None:
    """卡密 / Cards."""


card.add_command(import_cards)


@card.command()
@click.option("--validity", type=Duration(PERMANENT), required=True, help=f"{LENGTHS}, 永久, permanent")
@click.option("--count", type=click.IntRange(1, 1_000_000), default=1, show_default=True, help="数量 / How many.")
@click.option("--batch", help="批次 / Your name for these cards.")
@click.option("--note", help="备注 / A note on each.")
@program_option()
@format_option("table", "json", "csv", "txt")
@pass_session
def issue(  # noqa: PLR0913  # one argument an option
    session: Session,
    validity: timedelta | str,
    count: int,
    batch: str | None,
    note: str | None,
    program: str,
    output_format: str,
) -> None:
    """发卡 / Issue cards, all or none."""
    lasting = validity if isinstance(validity, timedelta) else None
    issued = session.acting(Issuing).issue(count, lasting, batch, note, program).cards
    _print(exports.issued_documents(issued), exports.ISSUED_COLUMNS, output_format)


_filter_options = together(
    program_option(None),
    click.option("--status", type=click.Choice([s.value for s in CardStatus]), help="状态 / Only in this state."),
    click.option("--batch", help="批次 / Only this batch."),
    click.option(
        "--search", help="卡密、硬件、地址（可只输开头）、参考号或备注 / ID, hardware, address, reference, note."
    ),
)


@card.command("list")
@_filter_options
@format_option("table", "json", "csv", "txt")
@pass_session
def list_cards(
    session: Session, /, program: str | None, batch: str | None, output_format: str, **options: str | None
) -> None:
    """列出卡密 / List cards, oldest first."""
    search, no_batch = options["search"] or "", "1" if batch == "" else ""
    fields = {"status": options["status"] or "", "batch": batch or "", "no_batch": no_batch, "q": search}
    wanted = replace(parse_card_filter(fields, session.zone, utc_now()), oldest_first=True)
    _ = session.database
    wanted = replace(wanted, program=checked(program))
    _print(exports.card_documents(session.cards.every(wanted), session.zone), exports.CARD_COLUMNS, output_format)
    if missing := session.cards.missing(wanted):
        output.say(f"没有这些卡密 / No such cards: {', '.join(missing)}")
    if reference := reference_in(search) or bare_reference(search):
        entries = parse_journal_filter({"reference": reference}, session.zone)
        if journal_lists.page(entries, limit=1).rows:
            output.say(f"拒绝的原因 / Why it was refused: cardctl events --reference {reference}")


@card.command("export")
@_filter_options
@format_option("csv", "json", "txt")
@click.pass_context
def export_cards(context: click.Context, /, **options: str | None) -> None:
    """导出卡密 / Print cards as a file; as csv it is what `card import` reads."""
    context.invoke(list_cards, **options)


@card.command()
@click.argument("card_id", metavar="ID")
@format_option("table", "json")
@pass_session
def show(session: Session, card_id: str, output_format: str) -> None:
    """查看一张卡密 / Show a card and its client."""
    found = session.cards.get(card_id)
    since = (utc_now().astimezone(session.zone) - timedelta(days=COUNTED_DAYS)).date()
    document = exports.card_document(found, session.zone, session.cards.daily_counts(found.id, since))
    if output_format == "json":
        output.print_json(document)
        return
    validity = {"validity": format_validity(found.validity)}
    output.print_fields([(f"card.{k}", v) for k, v in (document["card"] | validity).items()])
    output.print_fields([(f"client.{k}", v) for k, v in (document["client"] or {"client": "—"}).items()])
    if document["counts"]:
        output.print_fields([(f"{row['day']} {row['kind']}", row["count"]) for row in document["counts"]])
    if renewed := found.renewed_card_id:
        output.say(f"已用于续费；要停用，请冻结 {renewed} / Used up for a renewal: to stop it, freeze {renewed}")


@card.command()
@click.argument("card_id", metavar="ID")
@click.option("--reference", required=True, help="参考号 / The reference in the rejected customer's message.")
@pass_session
def move(session: Session, card_id: str, reference: str) -> None:
    """换绑 / Bind a card to the machine that was rejected under a reference."""
    moved = session.acting(CardMoves).apply(card_id, reference)
    if not moved.is_changed:
        output.say("未改动：卡密已绑定这台设备 / Nothing changed: the card is bound to this machine")
        return
    output.say(f"已换绑 {moved.card.id} / Moved {moved.card.id}")
    before = moved.card.client
    fields = [("原硬件 hardware before", before and before.hardware), ("原地址 address before", before and before.ip)]
    now = [("现硬件 hardware now", moved.mismatch.hardware), ("现地址 address now", moved.mismatch.ip)]
    output.print_fields([(name, value or "—") for name, value in [*fields, *now]])


@card.command()
@click.argument("card_ids", metavar="ID...", nargs=-1, required=True)
@click.option("--batch", help="批次，空为清除 / The batch; an empty one clears it.")
@click.option("--note", help="备注，空为清除 / The note; an empty one clears it.")
@pass_session
def edit(session: Session, /, card_ids: tuple[str, ...], **texts: str | None) -> None:
    """修改批次与备注 / Change the batch or the note of cards, all or none."""
    changes = {name: text or None for name, text in texts.items() if text is not None}
    if not changes:
        raise click.UsageError("请给出 / Give --batch, --note")
    result = session.acting(CardActions).edit(card_ids, changes)
    output.say(f"已修改 {len(result.changed)} 张 / Changed: {len(result.changed)}")


def _print(rows: Iterator[exports.Row], columns: Sequence[str], output_format: str) -> None:
    if output_format != "table":
        sys.stdout.writelines(exports.file_pieces(output_format, rows, columns))
        return
    first = next(rows, None)
    if first is None:
        output.say("没有符合条件的卡密 / No cards match")
        return
    cells = ([_cell(name, value) for name, value in row.items()] for row in chain([first], rows))
    output.print_table([*first], cells)


def _cell(name: str, value: Any) -> object:  # noqa: ANN401  # any column's value
    if name == "validity_seconds":
        return format_validity(None if value is None else timedelta(seconds=value))
    return value


_ACTIONS = {
    Action.FREEZE: ("冻结 / Freeze cards; their time goes on.", "已冻结", "Frozen:"),
    Action.UNFREEZE: ("解冻 / Unfreeze cards.", "已解冻", "Unfrozen:"),
    Action.UNBIND: ("解绑 / Unbind cards: each binds to the next machine that uses it.", "已解绑", "Unbound:"),
    Action.EXTEND: ("延期 / Add time to cards.", "已延期", "Extended:"),
    Action.SHORTEN: (
        "缩短 / Take time from cards: from the expiry, which becomes now at the earliest, or from an unused validity.",
        "已缩短",
        "Shortened:",
    ),
    Action.DELETE: ("删除未激活的卡密 / Delete cards that were never activated.", "已删除", "Deleted:"),
}


def _add_command(action: Action) -> None:
    text, done_zh, done_en = _ACTIONS[action]

    def run(session: Session, card_ids: tuple[str, ...], by: timedelta | None = None) -> None:
        result = session.acting(CardActions).apply(action, card_ids, by)
        output.say(f"{done_zh} {len(result.changed)} 张 / {done_en} {len(result.changed)}")
        for card_id in result.revived_unbound:
            output.say(
                f"注意：{card_id} 重新生效，但未绑定任何设备，将绑定下一个使用它的设备 / "
                f"Note: {card_id} is live again but bound to no machine: it binds to the next one that uses it"
            )

    command = click.argument("card_ids", metavar="ID...", nargs=-1, required=True)(pass_session(run))
    if action in TIMED:
        command = click.option("--by", type=Duration(), required=True, help=LENGTHS)(command)
    card.command(action.value, help=text)(command)


for each in Action:
    _add_command(each)
