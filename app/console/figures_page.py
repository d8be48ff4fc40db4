"""Pages of figures, which a browser asks for again while they are counted."""

from abc import abstractmethod
from typing import Any, ClassVar

import falcon

from app.console.forms import query_of
from app.console.page import Access, Page
from app.services.figures import Counted


class FiguresPage(Page):
    """Its template extends `figures.html`, which has the polling."""

    access = {"GET": Access.OPERATOR}
    template: ClassVar[str]

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the figures as counted last; nothing where the browser has just these."""
        counted = self.console.figures.current()
        stamp = "" if counted is None else counted.at.isoformat()
        if _polls(request) and query_of(request).one("counted") == stamp:
            response.status = falcon.HTTP_204
            return
        is_counting = counted is None or self.console.figures.is_old(counted.at)
        values = {} if counted is None else self.values(request, counted)
        self.render(request, response, self.template, counted=counted, stamp=stamp, is_counting=is_counting, **values)

    @abstractmethod
    def values(self, request: falcon.Request, counted: Counted) -> dict[str, Any]:
        """Return what the template shows beside the figures themselves."""


def _polls(request: falcon.Request) -> bool:
    # Going back in the browser's history, htmx asks for the whole page.
    return bool(request.get_header("HX-Request")) and not request.get_header("HX-History-Restore-Request")
