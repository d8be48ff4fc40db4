"""The console as a browser sees it: pages and what stands in them, cookies, forms, redirects after a POST.

    browser = Browser(service)                      # `Browser(proxied, address="203.0.113.7")` behind a proxy
    add_operator("alice", Role.SELLER)              # needs the fixture `database`
    browser.log_in("alice")                         # or `walk_in`, where the log-in is not what is tested
    page = browser.get("/admin/cards?status=unused")
    page = browser.submit(page, "/admin/cards/confirm", id=[...], button=("action", "freeze"))
    assert page.status == 200 and "…" in page.text

`submit` takes the form that goes to that address as it stands in the page, changes what it is told, and follows the
redirect. `post` sends whatever it is given (the token too unless `csrf=""`), and follows nothing.
"""

import http.client
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from typing import Any, Self
from urllib.parse import urlencode, urljoin, urlsplit

from urllib3 import encode_multipart_formdata

from app.console.visitor import SessionCookie
from app.domain.operators.operators import Role
from app.services.operators import sessions
from app.storage.models import IdempotencyRecord, Operator
from tests.support.secrets import CHEAP
from tests.support.services.service import Service


@dataclass
class Form:
    """A form as it stands in a page. `buttons` are its named submit buttons: (name, value, formaction)."""

    action: str
    method: str
    id: str = ""
    fields: list[tuple[str, str]] = field(default_factory=list)
    buttons: list[tuple[str, str, str]] = field(default_factory=list)


class Page(HTMLParser):
    """Reads texts, links as written, and forms with the fields outside of them (`form="…"`) too.

    A form without an action goes to `here`.
    """

    def __init__(self, here: str) -> None:
        super().__init__()
        self._here = here
        self._by_id: dict[str, Form] = {}
        self._outside: list[tuple[str, Any]] = []
        self._open: Form | None = None
        self._select: dict[str, str] | None = None
        self._chosen: str | None = None
        self._textarea: dict[str, str] | None = None
        self._written = ""
        self.forms: list[Form] = []
        self.links: list[str] = []
        self.texts: list[str] = []

    @property
    def words(self) -> str:
        """What a person reads: no tags, white space as one space."""
        return re.sub(r"\s+", " ", " ".join(self.texts))

    @classmethod
    def of(cls, html: str, here: str = "") -> Self:
        page = cls(here)
        page.feed(html)
        page.close()
        return page

    def close(self) -> None:
        super().close()
        for form_id, add in self._outside:
            add(self._by_id[form_id])

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        if tag == "a":
            self.links.append(said.get("href", ""))
        elif tag == "form":
            self._open = Form(said.get("action") or self._here, said.get("method", "get"), said.get("id", ""))
            self.forms.append(self._open)
            self._by_id[said.get("id", "")] = self._open
        elif tag == "input" and said.get("name"):
            self._input(said)
        elif tag == "button" and said.get("name"):
            pressed = (said["name"], said.get("value", ""), said.get("formaction", ""))
            self._add(said, lambda form: form.buttons.append(pressed))
        elif tag == "select":
            self._select, self._chosen = said, None
        elif tag == "option" and self._select is not None and ("selected" in said or self._chosen is None):
            self._chosen = said.get("value", "")
        elif tag == "textarea":
            self._textarea, self._written = said, ""

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._open = None
        elif tag == "select" and self._select is not None:
            self._field(self._select, self._chosen or "")
            self._select = None
        elif tag == "textarea" and self._textarea is not None:
            self._field(self._textarea, self._written.removeprefix("\n"))
            self._textarea = None

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._textarea is not None:
            self._written += data

    def _input(self, said: dict[str, str]) -> None:
        kind = said.get("type", "text")
        if kind in {"checkbox", "radio"} and "checked" not in said:
            return
        if kind not in {"file", "submit"}:
            self._field(said, said.get("value", "on" if kind == "checkbox" else ""))

    def _field(self, said: dict[str, str], value: str) -> None:
        if said.get("name"):
            self._add(said, lambda form: form.fields.append((said["name"], value)))

    def _add(self, said: dict[str, str], add: Any) -> None:
        if "form" in said:
            self._outside.append((said["form"], add))
        elif self._open is not None:
            add(self._open)


PASSWORD = "correct horse battery staple"
OWN = {"own_password": PASSWORD}
"""What an export, and an issue or an import of many cards, ask for."""
_REFUSALS = {400, 403, 404, 405, 409, 413, 415, 429, 503}
_REQUIRED_HEADER = {303: "location", 429: "retry-after", 503: "retry-after"}
Fields = Mapping[str, str | Sequence[str]]
Files = Mapping[str, tuple[str, bytes]]
"""By field: the file's name and its content."""


def add_operator(
    name: str, role: Role = Role.OWNER, password: str = PASSWORD, since: datetime = datetime(2025, 1, 1, tzinfo=UTC)
) -> None:
    """Add an operator straight into the connected database: a process less for each test."""
    hashed = CHEAP.hash(password)
    Operator.insert(name=name, role=role, password_hash=hashed, created_at=since, password_changed_at=since).execute()


def add_session(operator: str) -> str:
    """Begin an operator's session in the connected database, with no hash to wait for; return its token."""
    token, now = secrets.token_urlsafe(32), datetime.now(UTC)
    sessions.add_session(token, Operator.get(Operator.name == operator).id, now)
    return token


def add_outcome(operator: str, **outcome: object) -> str:
    """Keep the outcome of a form that the operator sent; return its key, which the page of the outcome takes."""
    key = secrets.token_hex(32)
    record = {"key": key, "request_sha256": key, "status": 303, "body": json.dumps(outcome)}
    owner = Operator.get(Operator.name == operator)
    IdempotencyRecord.insert(operator=owner, created_at=datetime.now(UTC), **record).execute()
    return key


@dataclass(frozen=True)
class Seen:
    """An answer. `path` is where it came from, with its query; `cookies` are the lines that set some."""

    path: str
    status: int
    headers: dict[str, str]
    content: bytes
    cookies: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return self.content.decode()

    @property
    def page(self) -> Page:
        return Page.of(self.text, self.path)

    @property
    def words(self) -> str:
        return self.page.words

    @property
    def forms(self) -> list[Form]:
        return self.page.forms

    @property
    def links(self) -> list[str]:
        return self.page.links

    def way(self, name: str) -> str:
        """Where a list's link on (`after`) or back (`before`) leads, "" where there is none."""
        return next((link for link in self.links if f"{name}=" in link and "lang=" not in link), "")

    def form(self, action: str) -> Form:
        """The only form that goes to this address, beside the header's choice of a program."""
        forms = [form for form in self.forms if form.id != "choose-program"]
        (form,) = [form for form in forms if urlsplit(form.action).path == action]
        return form


class Browser:
    """A browser of its own: its cookies, its language, its address (where the service stands behind a proxy).

    Each answer must be of a status and kind that the console has, unless a test provokes an internal error.
    """

    def __init__(
        self, service: Service, *, language: str = "zh", address: str | None = None, foreseen: bool = True
    ) -> None:
        self.service = service
        self._foreseen = foreseen
        self._address = address
        self.session_cookie = SessionCookie(behind_proxy=address is not None)
        self._cookies: dict[str, tuple[str, str]] = {"kadun_language": (language, "/admin")}

    def log_in(self, name: str, password: str = PASSWORD, code: str = "") -> Self:
        page = self.get("/admin/login")
        page = self.submit(page, "/admin/login", name=name, password=password, code=code)
        assert page.status == 200, page.text
        assert self.session_cookie.name in self._cookies, page.words
        return self

    def walk_in(self, name: str) -> Self:
        """Be logged in by a session made in the connected database."""
        self.set_cookie(self.session_cookie.name, add_session(name), self.session_cookie.path)
        return self

    def cookie(self, name: str) -> str | None:
        return self._cookies[name][0] if name in self._cookies else None

    def set_cookie(self, name: str, value: str, path: str = "/admin") -> None:
        self._cookies[name] = (value, path)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Seen:
        return self.send("GET", path, headers=headers)

    def post(
        self,
        path: str,
        fields: Fields | None = None,
        files: Files | None = None,
        *,
        csrf: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Seen:
        """Post a form that stood in no page, and follow nothing; `csrf` None is this session's own token.

        Where `fields` has none it gets a number of its own, as a page gives each form that takes effect once.
        """
        hidden = {"csrf": self.csrf() if csrf is None else csrf, "form_number": secrets.token_urlsafe(16)}
        pairs = _pairs({**hidden, **(fields or {})})
        return self._post(path, pairs, files, headers)

    def submit(
        self,
        page: Seen,
        action: str,
        fields: Fields | None = None,
        *,
        button: tuple[str, str] | None = None,
        files: Files | None = None,
        **more: str | Sequence[str],
    ) -> Seen:
        """Fill in the page's form that goes to `action` and press its button; return the page where that leads."""
        form = page.form(action)
        changed = {**(fields or {}), **more}
        pairs = [(name, value) for name, value in form.fields if name not in changed] + _pairs(changed)
        target = form.action
        if button is not None:
            (formaction,) = [where for name, value, where in form.buttons if (name, value) == button]
            pairs.append(button)
            target = formaction or target
        if form.method == "get":
            return self.get(f"{urlsplit(target).path}?{urlencode(pairs)}")
        return self.follow(self._post(urljoin(page.path, target), pairs, files, None))

    def follow(self, answer: Seen) -> Seen:
        """Return where a redirect leads; what is none, itself."""
        while answer.status == 303:
            answer = self.get(urljoin(answer.path, answer.headers["location"]))
        return answer

    def csrf(self) -> str:
        """This session's token, as every page of it has it in the form that logs out."""
        fields = dict(self.get("/admin/cards").form("/admin/logout").fields)
        return fields["csrf"]

    def send(self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None) -> Seen:
        """Send a request as a page of the console does; a header given as "" is left out."""
        sent = {"Sec-Fetch-Site": "same-origin", "Cookie": self._cookie_header(path), **(headers or {})}
        if self._address is not None:
            sent["X-Real-IP"] = self._address
        connection = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=120)
        try:
            connection.request(method, path, body, {name: value for name, value in sent.items() if value})
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        cookies = tuple(answer.headers.get_all("Set-Cookie") or ())
        for line in cookies:
            self._keep(line)
        given = {k.lower(): v for k, v in answer.getheaders()}
        if self._foreseen:
            _check(method, path, answer.status, given)
        return Seen(path, answer.status, given, content, cookies)

    def _post(
        self, path: str, pairs: list[tuple[str, str]], files: Files | None, headers: Mapping[str, str] | None
    ) -> Seen:
        if not files:
            kind, body = "application/x-www-form-urlencoded", urlencode(pairs).encode()
        else:
            parts = [(name, (file, content, "text/csv")) for name, (file, content) in files.items()]
            body, kind = encode_multipart_formdata([*pairs, *parts])
        return self.send("POST", path, body, {"Content-Type": kind, **(headers or {})})

    def _cookie_header(self, path: str) -> str:
        return "; ".join(f"{n}={value}" for n, (value, scope) in self._cookies.items() if path.startswith(scope))

    def _keep(self, line: str) -> None:
        for name, morsel in SimpleCookie(line).items():
            if morsel.value and morsel["max-age"] != "0" and "1970" not in morsel["expires"]:
                self._cookies[name] = (morsel.value, morsel["path"] or "/")
            else:
                self._cookies.pop(name, None)


def _check(method: str, path: str, status: int, headers: Mapping[str, str]) -> None:
    said = f"{method} {path}: {status}"
    assert status in {200, 204, 303} | _REFUSALS, said
    required = _REQUIRED_HEADER.get(status)
    assert required is None or required in headers, f"{said} lacks {required}"
    content_type = headers.get("content-type", "").partition(";")[0]
    if method != "HEAD" and status in _REFUSALS:
        assert content_type in {"text/html", "application/problem+json"}, f"{said} is {content_type!r}"


def _pairs(fields: Fields) -> list[tuple[str, str]]:
    return [(name, value) for name, said in fields.items() for value in ([said] if isinstance(said, str) else said)]
