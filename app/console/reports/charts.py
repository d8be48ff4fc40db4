"""Charts, drawn in the browser and repeated as tables, both linking to the rows behind them; and the overview's."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any, Literal

from app.console.rendering import url
from app.console.words import word
from app.domain.codes import CardStatus, Code, EventKind
from app.domain.texts import Text
from app.services.formatting import escaped

Document = dict[str, Any]
"""The figures (`app.services.reports.figures`)."""
Say = Callable[[Text], str]
"""Picks the visitor's language."""
STATES = (CardStatus.ACTIVE, CardStatus.UNUSED, CardStatus.EXPIRED, CardStatus.FROZEN, CardStatus.SPENT)
_DAY, _CARDS, _TIMES = Text("日期", "Day"), Text("卡密", "Cards"), Text("次数", "Count")
_COLORS = {
    Code.CLIENT_MISMATCH: "--chart-4",
    Code.CLIENT_HAS_ANOTHER_CARD: "--chart-2",
    Code.CARD_NOT_FOUND: "--chart-8",
    Code.CARD_EXPIRED: "--chart-6",
    Code.CARD_FROZEN: "--chart-1",
    Code.CARD_SPENT: "--chart-9",
    Code.CLIENT_BLOCKED: "--chart-10",
    Code.TOO_MANY_CHANGES: "--chart-11",
    Code.UPDATE_REQUIRED: "--chart-12",
    Code.FUNCTION_NOT_FOUND: "--chart-7",
    Code.FUNCTION_FAILED: "--chart-5",
    Code.FUNCTION_TIMEOUT: "--chart-3",
}
"""The order is the stacks', what the vendor looks for first at the bottom."""


@dataclass(frozen=True, slots=True)
class Series:
    """A value and a link for each label of the chart. `colors` are names of CSS variables: one for all, or one each."""

    name: str
    values: list[int]
    links: list[str]
    colors: list[str]


@dataclass(frozen=True, slots=True)
class Chart:
    """What `console.js` draws. Texts may come from clients. `heading` names the labels."""

    kind: Literal["bar", "line", "doughnut"]
    heading: str
    labels: list[str]
    series: list[Series]
    stacked: bool = False
    horizontal: bool = False

    @property
    def is_empty(self) -> bool:
        return not any(value for series in self.series for value in series.values)

    @property
    def spec(self) -> dict[str, Any]:
        """The chart as the canvas element carries it."""
        series = []
        for each in self.series:
            colors = {"color": each.colors[0]} if len(each.colors) == 1 else {"colors": each.colors}
            series.append({"name": escaped(each.name), "values": each.values, "links": each.links, **colors})
        return {
            "type": self.kind,
            "labels": [escaped(label) for label in self.labels],
            "stacked": self.stacked,
            "horizontal": self.horizontal,
            "series": series,
        }


def charts(document: Document, say: Say) -> dict[str, Chart]:
    days, expiring = document["days"], document["expiring_days"]
    activated = [journal_of_day(day["day"], EventKind.ACTIVATED) for day in days]
    used = [url("/admin/usage", day=day["day"]) for day in days]
    expire = [
        url("/admin/cards", status=CardStatus.ACTIVE, expires_from=day["day"], expires_before=_day_after(day["day"]))
        for day in expiring
    ]
    return {
        "states": _states(document, say),
        "activations": _by_day(say, days, "activations", _CARDS, "--chart-active", activated),
        "requests": replace(_by_day(say, days, "requests", _TIMES, "--chart-1", used), kind="line"),
        "rejections": _rejections(document, say),
        "expiring": _by_day(say, expiring, "cards", _CARDS, "--chart-expired", expire),
        "functions": _functions(document, say),
        "batches": _batches(document, say),
    }


def recent(document: Document) -> list[tuple[Text, list[tuple[int, str]]]]:
    """Return what happened today and yesterday: names, and of each day how often, with a link to the rows."""
    days, customers, by_themselves = document["days"][:-3:-1], document["customers"], document["self_service"][::-1]

    def entries(kind: EventKind) -> list[str]:
        return [journal_of_day(day["day"], kind) for day in days]

    refused = [sum(day["counts"].values()) for day in document["rejection_days"][:-3:-1]]
    used = [url("/admin/usage", day=day["day"]) for day in days]
    rows = [
        (Text("激活", "Activations"), [day["activations"] for day in days], entries(EventKind.ACTIVATED)),
        (Text("活跃客户", "Active customers"), [customers["today"], customers["yesterday"]], used),
        (Text("拒绝", "Refusals"), refused, entries(EventKind.REJECTED)),
    ]
    for kind in (EventKind.SELF_UNBOUND, EventKind.RENEWED):
        counts = [day[kind] for day in by_themselves]
        rows += [(word(kind), counts, entries(kind))] if any(counts) else []
    return [(name, list(zip(counts, links, strict=True))) for name, counts, links in rows]


def _states(document: Document, say: Say) -> Chart:
    links = [url("/admin/cards", status=state) for state in STATES]
    values = [document["cards"].get(state, 0) for state in STATES]
    series = Series(say(_CARDS), values, links, [f"--chart-{state}" for state in STATES])
    return Chart("doughnut", say(Text("状态", "State")), [say(word(state)) for state in STATES], [series])


def _by_day(say: Say, days: list[Document], figure: str, name: Text, color: str, links: list[str]) -> Chart:  # noqa: PLR0913
    series = Series(say(name), [day[figure] for day in days], links, [color])
    return Chart("bar", say(_DAY), _labels(days), [series])


def _rejections(document: Document, say: Say) -> Chart:
    days = document["rejection_days"]
    series = [
        Series(
            say(word(code)),
            [day["counts"].get(code, 0) for day in days],
            [journal_of_day(day["day"], code) for day in days],
            [color],
        )
        for code, color in _COLORS.items()
        if any(day["counts"].get(code) for day in days)
    ]
    return Chart("bar", say(_DAY), _labels(days), series, stacked=True)


def _functions(document: Document, say: Say) -> Chart:
    used = document["functions"]
    links = [url("/admin/usage", function=each["function"]) for each in used]
    series = Series(say(_TIMES), [each["requests"] for each in used], links, ["--chart-7"])
    heading = say(Text("功能", "Function"))
    return Chart("bar", heading, [each["function"] for each in used], [series], horizontal=True)


def _batches(document: Document, say: Say) -> Chart:
    largest = document["batches"]["largest"]
    series = [
        Series(
            say(word(state)),
            [batch.get(state, 0) for batch in largest],
            [
                url("/admin/cards", batch=each["batch"], no_batch=None if each["batch"] else "1", status=state)
                for each in largest
            ],
            [f"--chart-{state}"],
        )
        for state in STATES
    ]
    labels = [batch["batch"] or say(Text("（无批次）", "(none)")) for batch in largest]
    return Chart("bar", say(Text("批次", "Batch")), labels, series, stacked=True, horizontal=True)


def journal_of_day(day: str, kind: EventKind | Code) -> str:
    """Return where a day's entries of a kind or code are; the day as YYYY-MM-DD in the vendor's zone."""
    return url("/admin/journal", kind=kind, since=f"{day}T00:00", until=f"{_day_after(day)}T00:00")


def _day_after(day: str) -> str:
    return (date.fromisoformat(day) + timedelta(days=1)).isoformat()


def _labels(days: list[Document]) -> list[str]:
    return [day["day"][5:] for day in days]  # fourteen days are of one year, or nobody mistakes them
