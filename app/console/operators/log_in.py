"""The log-in and the log-out, and the files that anybody may have: style sheets and scripts."""

import falcon

from app.console.form_page import FormPage
from app.console.forms import Form, query_of
from app.console.guard import HOME, safe_next
from app.console.page import Access, Console, Page, Values, see_other, visitor_of
from app.console.static_files import StaticFiles
from app.console.visitor import LOGIN
from app.domain.operators.operators import MAX_NAME
from app.http.request_parser import client_address


class LoginPage(FormPage):
    access = {"GET": Access.PUBLIC, "POST": Access.PUBLIC}
    template = "operators/login.html"
    refused_status = falcon.HTTP_403

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        if visitor_of(request).identity is not None:
            see_other(response, safe_next(query_of(request).one("next")))
        else:
            super().on_get(request, response)

    def change(self, request: falcon.Request, response: falcon.Response, form: Form) -> str:
        address, sessions = client_address(request, behind_proxy=self.console.behind_proxy), self.console.sessions
        token = sessions.log_in(_name(form), form.exactly("password"), form.one("code") or None, address)
        if visitor_of(request).identity is not None:  # the browser forgets that session: only this request can end it
            sessions.end(visitor_of(request).who, visitor_of(request).session_token)
        self.console.session_cookie.set(response, token)
        return safe_next(form.one("next"))

    def values(self, request: falcon.Request, form: Form) -> Values:
        query = query_of(request)
        onward = safe_next((form if request.method == "POST" else query).one("next"))
        return {"name": _name(form), "onward": onward, "ended": query.exactly("ended") == "yes"}


def _name(form: Form) -> str:
    """Return the name; the page repeats a refused one: no more of it than shows that it is too long."""
    return form.one("name")[: MAX_NAME + 1]


class LogoutPage(Page):
    access = {"POST": Access.OPERATOR}
    without_totp = True

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        self.console.sessions.end(visitor_of(request).who, visitor_of(request).session_token)
        self.console.session_cookie.unset(response)
        see_other(response, LOGIN)


class HomeRedirect(FormPage):
    access = {"GET": Access.PUBLIC}
    leads_to = HOME


class SessionCheck:
    """`/admin/session`: whether a request has a session. nginx asks before it reads the body of a long form.

    No `Page`: 401 is also the answer where there are no operators, and nginx gives a problem for any other.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        token = self._console.session_cookie.token(request)
        has_session = bool(token) and self._console.sessions.identify(token) is not None
        response.status = falcon.HTTP_204 if has_session else falcon.HTTP_401
        response.set_header("Cache-Control", "no-store")


class StaticPage(Page):
    access = {"GET": Access.PUBLIC}

    def __init__(self, console: Console, files: StaticFiles) -> None:
        super().__init__(console)
        self._files = files

    def on_get(self, _request: falcon.Request, response: falcon.Response, name: str = "") -> None:
        file = self._files.get(name)
        if file is None:
            raise falcon.HTTPNotFound
        response.content_type = file.content_type
        response.data = file.content
        response.set_header("Cache-Control", "public, max-age=31536000, immutable")
