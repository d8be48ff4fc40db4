"""The page of one card: its binding, the possible actions, its journal and its usage."""

from collections import Counter
from collections.abc import Mapping
from datetime import date, timedelta

import falcon

from app.console.forms import Form
from app.console.page import Access, Page, Values, page_request, visitor_of
from app.console.rendering import url
from app.console.reports.charts import Chart, Say, Series
from app.domain.cards.cards import answers_to, card_id_of, parse_card_id
from app.domain.texts import Text
from app.http.problems import card_not_found
from app.services.cards.card_lists import MAX_RENEWALS
from app.services.cards.filters import parse_journal_filter
from app.services.journal.journal_lists import MAX_ENTRIES_PER_DAY, cards_of, page_for
from app.services.reports import usage_lists

_DAYS = 30
_ENTRIES = 20
_FUNCTIONS = 6
"""The number of functions with a colour of their own; the others share one."""
_OTHERS = Text("其余功能（点开为当天全部）", "all others (lead to the whole day)")
"""There is no list of these functions alone: the name says what the link leads to."""


class CardPage(Page):
    """`/admin/card?id=…`: a card, or the journal of a deleted one. The key is in the query, since paths are logged."""

    access = {"GET": Access.OPERATOR}
    template = "cards/card.html"

    def values(self, request: falcon.Request, form: Form) -> Values:
        console, visitor, typed = self.console, visitor_of(request), form.one("id")
        if not typed:
            raise _not_found()
        card_id = card_id_of(typed)
        last = console.clock().astimezone(console.zone).date()
        days = [last - timedelta(days=back) for back in reversed(range(_DAYS))]
        card = console.cards.find(card_id)
        is_imported = card is not None and card.imported_key is not None
        if not (visitor.is_owner or answers_to(typed, is_imported=is_imported)):
            raise _not_found()
        wanted = parse_journal_filter({"card": typed}, console.zone)
        entries = page_for(visitor.who, wanted, page_request(form, _ENTRIES))
        if card is None and not entries.rows:
            raise _not_found()
        renewed_by = [] if card is None else console.cards.renewed_by(card_id)
        renewed = None if card is None else card.renewed_card_id
        key = card.key if card is not None else parse_card_id(typed) or typed
        return {
            "key": key,
            "card": card,
            "possible": [] if card is None else self.possible_actions(request, card),
            "renewed_by": renewed_by,
            "max_renewals": MAX_RENEWALS,
            "found": entries,
            "card_keys": console.cards.keys(visitor.who, [*cards_of(entries.rows), *renewed_by, renewed]),
            "counts": console.cards.daily_counts(card_id, days[0]),
            "max_entries": MAX_ENTRIES_PER_DAY,
            "chart": _chart(usage_lists.of_card(card_id, days[0]), days, key, visitor.say),
        }


def _chart(used: Mapping[tuple[date, str], int], days: list[date], key: str, say: Say) -> Chart:
    total: Counter[str] = Counter()
    for (_day, function), count in used.items():
        total[function] += count
    shown = [name for name, _count in total.most_common(_FUNCTIONS)]
    counts: Counter[tuple[str | None, date]] = Counter()
    for (day, function), count in used.items():
        counts[function if function in shown else None, day] += count
    names: list[str | None] = [*shown, None] if len(total) > len(shown) else [*shown]
    series = [
        Series(
            say(_OTHERS) if name is None else name,
            [counts[name, day] for day in days],
            [url("/admin/usage", card=key, day=day, function=name) for day in days],
            [f"--chart-{number}"],
        )
        for number, name in enumerate(names, 1)
    ]
    return Chart("bar", say(Text("日期", "Day")), [f"{day:%m-%d}" for day in days], series, stacked=True)


def _not_found() -> Exception:
    return card_not_found(Text("没有这张卡密。", "There is no such card."), "id")
