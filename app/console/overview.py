"""The overview: how many cards, how they are used, what is refused, what expires."""

from typing import Any

import falcon

from app.console.figures_page import FiguresPage
from app.console.overview_charts import STATES, charts
from app.console.page import visitor_of
from app.services.figures import Counted


class OverviewPage(FiguresPage):
    """`/admin/`."""

    template = "overview.html"

    def values(self, request: falcon.Request, counted: Counted) -> dict[str, Any]:
        """Return the charts."""
        english = visitor_of(request).language == "en"
        return {
            "charts": charts(counted.document, lambda text: text.en if english else text.zh),
            "states": [str(state) for state in STATES],
        }
