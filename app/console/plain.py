"""Pages in both languages that need no other file: `/`, and what stands below `/admin` while there is no operator."""

import contextlib

import falcon

from app.console.guard import headers, visitor_from
from app.console.page import Console, Values
from app.console.rendering import style_source
from app.domain.errors import UnavailableError
from app.services.self_service import SelfService

_MAX_ACCEPT = 512
"""In characters; browsers send some 150. Falcon's parser takes quadratic time for what somebody made to be slow."""
_JSON = ("application/json", "application/problem+json")
_HEADERS = headers(style=style_source("plain.css"))


class FrontPage:
    """`/`: what this server is and where to go. No `Page`: it is there without operators, too.

    It says nothing of the installation. Behind the proxy it names the console only where the proxy says that
    KADUN_ADMIN_ALLOW lets the visitor in.
    """

    def __init__(self, console: Console, self_service: SelfService) -> None:
        self._console = console
        self._self_service = self_service

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the page; those who prefer JSON get the problem that any unknown path is."""
        if len(request.accept) <= _MAX_ACCEPT and request.client_prefers(("text/html", *_JSON)) in _JSON:
            raise falcon.HTTPNotFound
        request.context.visitor = visitor_from(request)
        console_state, has_self_service = "", False
        # The page says less where the database does not answer, of each for itself.
        with contextlib.suppress(UnavailableError):
            has_self_service = self._self_service.is_on()
        with contextlib.suppress(UnavailableError):
            if not self._console.behind_proxy or request.get_header("X-Kadun-Admin-Stranger") == "0":
                console_state = "on" if self._console.sessions.operators_exist() else "off"
        values = {"console_state": console_state, "has_self_service": has_self_service}
        render(self._console, request, response, "front.html", values)

    on_head = on_get


def render(console: Console, request: falcon.Request, response: falcon.Response, template: str, values: Values) -> None:
    response.set_headers(_HEADERS)
    console.renderer.render(request, response, template, **values)
