"""Who shares cards and who tries strangers': the last days' rejections, grouped."""

from datetime import timedelta
from typing import Any

import falcon

from app.console.figures_page import FiguresPage
from app.services.figures import SHARING_WITHIN, Counted

_DAY = timedelta(days=1)


class SharingPage(FiguresPage):
    """`/admin/sharing`."""

    template = "sharing.html"

    def values(self, _request: falcon.Request, counted: Counted) -> dict[str, Any]:
        """Return since when rejections count, as the journal's filter takes it."""
        at = counted.at.astimezone(self.console.zone)
        return {name: f"{at - back:%Y-%m-%dT%H:%M}" for name, back in (("week", SHARING_WITHIN), ("yesterday", _DAY))}
