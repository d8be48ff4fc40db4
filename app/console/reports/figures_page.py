"""The pages of figures: the overview and the abuse report. A browser asks for them again while they are counted."""

from abc import abstractmethod
from datetime import datetime

import falcon

from app.console.forms import Form
from app.console.page import Access, Page, Values, visitor_of
from app.console.reports.charts import STATES, Document, charts, recent
from app.domain.sharing import DAY, WEEK
from app.services.reports import abuse_report, figures


class FiguresPage(Page):
    """A page whose template extends `figures.html`, which asks again while newer figures are counted."""

    access = {"GET": Access.OPERATOR}

    def values(self, request: falcon.Request, _form: Form) -> Values:
        now = self.console.clock()
        snapshot = figures.current(now, self.console.zone)
        program = visitor_of(request).program
        if snapshot is not None and program is not None:
            snapshot.document = snapshot.document.get("programs", {}).get(program)  # None: added since
            snapshot = snapshot if snapshot.document else None
        is_counting = snapshot is None or figures.is_old(snapshot.counted_at, now)
        more = {} if snapshot is None else self.beside(request, snapshot.document, snapshot.counted_at)
        return {"snapshot": snapshot, "is_counting": is_counting, **more}

    @abstractmethod
    def beside(self, request: falcon.Request, document: Document, at: datetime) -> Values:
        """Return what the template shows beside the figures of that time."""


class OverviewPage(FiguresPage):
    """`/admin/`: how many cards there are, how they are used, what is rejected, what expires."""

    template = "reports/overview.html"

    def beside(self, request: falcon.Request, document: Document, _at: datetime) -> Values:
        first = [card["id"] for card in document["expiring"]["first"]]
        first += [row["card_id"] for row in document["sharing"]["accepted"]["first"]]
        return {
            "recent": recent(document),
            "charts": charts(document, visitor_of(request).say),
            "card_keys": self.console.cards.keys(visitor_of(request).who, first),
            "states": [str(state) for state in STATES],
        }


class AbuseReportPage(FiguresPage):
    """`/admin/sharing`: shared cards, and machines and addresses that try many cards."""

    template = "reports/abuse_report.html"

    def beside(self, request: falcon.Request, document: Document, at: datetime) -> Values:
        """Return the thresholds, when the periods begin, as the journal's filter takes a time, and the keys to show."""
        local, sharing = at.astimezone(self.console.zone), document["sharing"]
        spans = {"week": abuse_report.WITHIN, "yesterday": abuse_report.LATELY}
        times = {name: f"{local - span:%Y-%m-%dT%H:%M}" for name, span in spans.items()}
        unbound = sharing["unbindings"]
        shared = [row["card_id"] for row in (*sharing["accepted"]["first"], *sharing["cards"], *unbound)]
        keys = self.console.cards.keys(visitor_of(request).who, shared)
        return {**times, "day_limits": DAY, "week_limits": WEEK, "card_keys": keys, "unbound": unbound}
