"""A person at the console."""

import re
import secrets
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from http import HTTPStatus
from http.cookies import SimpleCookie
from urllib.parse import urlencode

from bench.errors import BenchError
from bench.gunicorn import Gunicorn

Form = Mapping[str, str | Sequence[str]]
_CHUNK_BYTES = 2**20


class Visitor:
    """A browser that has logged in. Each request takes a connection of its own, so that all workers serve it."""

    def __init__(self, service: Gunicorn) -> None:
        self._service = service
        self._cookies = {"kadun_language": "zh"}
        self._password = ""
        self._token: str | None = None
        self._location = ""

    def log_in(self, name: str, password: str) -> None:
        """Log in.

        Raises:
            BenchError: it is refused.
        """
        self._password = password
        self._send("/admin/login", {"name": name, "password": password})
        if "kadun_session" not in self._cookies:
            raise BenchError("the console lets nobody in")

    def page(self, path: str, form: Form | None = None) -> str:
        """Return a page, asked for with a form where it wants one.

        Raises:
            BenchError: it is not answered with success.
        """
        return b"".join(self._ask("GET", path) if form is None else self._ask("POST", path, self._own(form))).decode()

    def issue(self, count: int) -> str:
        """Issue cards; return the address of the page that shows them."""
        form = {"validity": "30d", "count": str(count), "form_number": secrets.token_urlsafe(16)}
        return self._send("/admin/cards/issue", self._own({**form, "own_password": self._password}))

    def export(self) -> Generator[bytes]:
        """Yield all cards as CSV, as they come."""
        return self._ask("POST", "/admin/cards/export", self._own({"format": "csv", "own_password": self._password}))

    def _own(self, form: Form) -> Form:
        if self._token is None:
            (self._token,) = set(re.findall(r'name="csrf" value="([0-9a-f]+)"', self.page("/admin/account")))
        return {"csrf": self._token, **form}

    def _send(self, path: str, form: Form) -> str:
        for _ in self._ask("POST", path, form, HTTPStatus.SEE_OTHER):
            pass
        return self._location

    def _ask(
        self, method: str, path: str, form: Form | None = None, expected: HTTPStatus = HTTPStatus.OK
    ) -> Generator[bytes]:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        if form:
            headers |= {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin"}
        with closing(self._service.connect()) as connection:
            connection.request(method, path, urlencode(form, doseq=True) if form else None, headers)
            answer = connection.getresponse()
            if answer.status != expected:
                raise BenchError(f"{path} is answered {answer.status}")
            self._location = answer.headers.get("Location", "")
            for line in answer.headers.get_all("Set-Cookie") or []:
                self._cookies |= {name: morsel.value for name, morsel in SimpleCookie(line).items()}
            while piece := answer.read(_CHUNK_BYTES):
                yield piece
