"""The log-in and the log-out, and the files that anybody may have: style sheets and scripts."""

from datetime import UTC, datetime
from typing import Any

import falcon

from app.console.cookies import DEVICE_COOKIE, LOGIN, keep_log_in
from app.console.form_page import refuse
from app.console.forms import Form, query_of
from app.console.guard import HOME, safe_next
from app.console.page import Access, Console, Page, form_of, see_other, visitor_of
from app.console.rendering import url
from app.console.static_files import StaticFiles
from app.domain.operators import MAX_NAME
from app.domain.texts import RefusedError, Text
from app.http.problems import invalid_request
from app.http.request_parser import client_address

NEWS = "/admin/account/log-ins"


class LoginPage(Page):
    """`/admin/login`."""

    access = {"GET": Access.PUBLIC, "POST": Access.PUBLIC}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show the form; redirect a visitor who is logged in already."""
        onward = safe_next(query_of(request).one("next"))
        if visitor_of(request).identity is not None:
            see_other(response, onward)
            return
        self._show(request, response, "", onward)

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Log in."""
        form = form_of(request)
        # The page repeats a refused name: no more of it than shows that it is too long.
        name, onward = form.one("name")[: MAX_NAME + 1], safe_next(form.one("next"))
        address = client_address(request, behind_proxy=self.console.behind_proxy)
        device = request.cookies.get(DEVICE_COOKIE)
        try:
            logged_in = self.console.sessions.log_in(
                name,
                form.exactly("password"),
                form.one("code") or None,
                address=address,
                device=device,
                user_agent=request.user_agent or "",
            )
        except RefusedError as error:
            refuse(response, error, falcon.HTTP_403)
            self._show(request, response, name, onward, error.text)
            return
        if visitor_of(request).identity is not None:  # the browser forgets that session: only this request can end it
            self.console.sessions.end(visitor_of(request).who, visitor_of(request).session_token)
        keep_log_in(response, logged_in, self.console.session_cookie)
        if logged_in.news is not None:
            since, until = (time.isoformat() for time in logged_in.news)
            onward = url(NEWS, since=since, until=until, next=onward)
        see_other(response, onward)

    def _show(
        self, request: falcon.Request, response: falcon.Response, name: str, onward: str, refusal: Text | None = None
    ) -> None:
        ended = query_of(request).exactly("ended") == "yes"
        self.render(request, response, "login.html", name=name, onward=onward, refusal=refusal, ended=ended)


class NewLogInsPage(Page):
    """`/admin/account/log-ins`: log-ins from a new browser or network, once after a log-in."""

    access = {"GET": Access.OPERATOR}
    without_totp = True

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Show them, and what to do."""
        query = query_of(request)
        since, until = _time(query, "since"), _time(query, "until")
        found = self.console.sessions.new_log_ins(visitor_of(request).who, since, until)
        self.render(request, response, "new_log_ins.html", found=found, onward=safe_next(query.one("next")))


def _time(query: Form, name: str) -> datetime:
    try:
        return datetime.fromisoformat(query.one(name)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        wanted = Text("必须是带时区的 ISO 8601 时间。", "Must be an ISO 8601 time with an offset.")
        raise invalid_request(wanted, name) from error


class LogoutPage(Page):
    """`/admin/logout`."""

    access = {"POST": Access.OPERATOR}
    without_totp = True

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """End this session."""
        self.console.sessions.end(visitor_of(request).who, visitor_of(request).session_token)
        self.console.session_cookie.unset(response)
        see_other(response, LOGIN)


class HomeRedirect(Page):
    """`/admin`."""

    access = {"GET": Access.PUBLIC}

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Redirect to the console."""
        see_other(response, HOME)


class SessionCheck:
    """`/admin/session`: whether a request has a session. nginx asks before it reads the body of a long form.

    No `Page`: 401 is also the answer where there are no operators, and nginx gives a problem for any other.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        """Answer 204 or 401, without a body."""
        token = self._console.session_cookie.token(request)
        has_session = bool(token) and self._console.sessions.identify(token) is not None
        response.status = falcon.HTTP_204 if has_session else falcon.HTTP_401
        response.set_header("Cache-Control", "no-store")


class StaticPage(Page):
    """`/admin/static/{name}`."""

    access = {"GET": Access.PUBLIC}

    def __init__(self, console: Console, files: StaticFiles) -> None:
        super().__init__(console)
        self._files = files

    def on_get(self, _request: falcon.Request, response: falcon.Response, name: str) -> None:
        """Send a file."""
        file = self._files.get(name)
        if file is None:
            raise falcon.HTTPNotFound
        response.content_type = file.content_type
        response.data = file.content
        response.set_header("Cache-Control", "public, max-age=31536000, immutable")


def is_from_new_browser(environ: dict[str, Any]) -> bool:
    """Whether a request tries to log in from a browser that claims to be no known one."""
    is_log_in = environ["REQUEST_METHOD"] == "POST" and environ["PATH_INFO"] == LOGIN
    return is_log_in and DEVICE_COOKIE not in environ.get("HTTP_COOKIE", "")
