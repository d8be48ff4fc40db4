"""The checks before each page: the console is enabled, authentication, authorisation, CSRF."""

import hmac
import re
from typing import Any
from urllib.parse import urlsplit

import falcon

from app.console.forms import read_form
from app.console.page import OUT_OF_DATE, Access, Console, Page, lead_to
from app.console.rendering import CSRF_FIELD, url
from app.console.visitor import COOKIE_PATH, LOGIN, Language, Theme, Visitor
from app.domain.texts import Text
from app.http.problems import forbidden
from app.services.operators.operators import Account
from app.services.programs import programs

LANGUAGE_COOKIE = "kadun_language"
THEME_COOKIE = "kadun_theme"
PROGRAM_COOKIE = "kadun_program"
HOME = "/admin/"
TWO_STEP = "/admin/account/two-step"

_YEAR_SECONDS = 365 * 86_400
# One of the console's paths, with any query that a browser encodes: they leave ! ' ( ) * as they are.
_SAFE_NEXT = re.compile(r"(/admin/[A-Za-z0-9/._-]*)(?:\?[A-Za-z0-9/?=&%.:+,~_!'()*-]*)?")


def headers(style: str = "'self'") -> dict[str, str]:
    """Return the headers of every page; `style` is where style sheets may come from (CSP)."""
    return {
        # Nothing inline, nothing from other origins: injected markup would not run.
        "Content-Security-Policy": (
            f"default-src 'none'; script-src 'self'; style-src {style}; img-src 'self' data:; connect-src 'self'; "
            "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
        ),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "same-origin",  # with no-referrer browsers send `Origin: null`, and the check needs it
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "no-store",
    }


class Guard:
    """Falcon middleware that checks requests to every `Page`; other resources pass."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def process_resource(
        self, request: falcon.Request, response: falcon.Response, resource: object, params: dict[str, Any]
    ) -> None:
        if not isinstance(resource, Page):
            return
        response.set_headers(headers())
        if not self._console.sessions.operators_exist():
            raise falcon.HTTPNotFound
        method = request.method
        if method not in resource.access:
            raise falcon.HTTPMethodNotAllowed([*resource.access])
        token = self._console.session_cookie.token(request)
        identity = self._console.sessions.identify(token) if token else None
        visitor = request.context.visitor = visitor_from(request, identity, token)
        _keep(request, response, LANGUAGE_COOKIE, "lang", {"zh", "en"})
        _keep(request, response, PROGRAM_COOKIE, "program", {"", *visitor.programs} if visitor.programs else set())
        needed = resource.access[method]
        detour = self._detour(request, resource, visitor) if needed > Access.PUBLIC else None
        if detour is not None:
            response.complete = True
            lead_to(request, response, detour)
            return
        if needed is Access.OWNER and not visitor.is_owner:
            raise forbidden(Text("此操作仅限所有者（owner）。", "Only an owner may do this."))
        if method == "POST":
            _check_origin(request)
            form = params["form"] = read_form(request, resource.body_bytes, takes_files=resource.takes_files)
            # The log-in page may be older than the session: another tab began it, or the browser withheld the cookie
            # (SameSite) when a link in a mail led there. On public pages only the origin counts.
            if needed > Access.PUBLIC and not hmac.compare_digest(form.one(CSRF_FIELD).encode(), visitor.csrf.encode()):
                raise forbidden(OUT_OF_DATE)
        if identity is not None:
            request.context.outcome["operator"] = identity.name

    def _detour(self, request: falcon.Request, page: Page, visitor: Visitor) -> str | None:
        """Return the page that a visitor must pass first, None where there is none."""
        if visitor.identity is None:
            return LOGIN if "GET" not in page.access else _log_in_first(request)
        needs_totp = self._console.owners_need_totp and visitor.is_owner and not visitor.identity.has_totp
        return TWO_STEP if needs_totp and not page.without_totp else None


# nginx takes 4 KiB of headers from the app, and 8 KiB from a browser, which send this address again as the Referer.
LONGEST_LOG_IN = 2_600


def _log_in_first(request: falcon.Request) -> str:
    """Return the address of the log-in that leads back to the page; for a form it says that nothing was done."""
    ended = "yes" if request.method == "POST" else None
    onward = safe_next(request.relative_uri)
    address = url(LOGIN, ended=ended, next=None if onward == HOME else onward)
    return address if len(address) <= LONGEST_LOG_IN else url(LOGIN, ended=ended)


_LONGEST_NEXT = 4_000  # as nginx's for a request line


def safe_next(given: str) -> str:
    """Return `given` if it is a page of the console with an address of a usual length, else the home page."""
    match = _SAFE_NEXT.fullmatch(given)
    return given if match and len(given) <= _LONGEST_NEXT and "//" not in match[1] and ".." not in match[1] else HOME


def visitor_from(request: falcon.Request, identity: Account | None = None, token: str = "") -> Visitor:
    """Return a visitor with the browser's preferences; without an identity, of whom nothing else is known."""
    wanted = request.get_param("lang") or request.cookies.get(LANGUAGE_COOKIE)
    theme = request.cookies.get(THEME_COOKIE)
    language: Language = "en" if wanted == "en" else "zh"
    shade: Theme = "light" if theme == "light" else "dark" if theme == "dark" else "auto"
    names = {} if identity is None else {row.id: row.name for row in programs()}
    several = names if len(names) > 1 else {}
    chosen = request.get_param("program", default=request.cookies.get(PROGRAM_COOKIE))
    return Visitor(identity, token, language, shade, several, chosen if chosen in several else None)


def _keep(request: falcon.Request, response: falcon.Response, cookie: str, name: str, values: set[str]) -> None:
    wanted = request.get_param(name)
    if wanted in values:
        response.set_cookie(cookie, wanted, path=COOKIE_PATH, max_age=_YEAR_SECONDS, secure=True, same_site="Strict")


def _check_origin(request: falcon.Request) -> None:
    """Refuse requests from other sites (OWASP: Fetch Metadata, and Origin for older browsers)."""
    site = request.get_header("Sec-Fetch-Site")
    origin = request.get_header("Origin")
    # Not `request.host`: Falcon raises on a malformed Host header.
    if site not in {None, "same-origin", "none"} or (
        site is None and origin is not None and not _is_of_host(origin, request.get_header("Host") or "")
    ):
        raise forbidden(Text("请求来自其他网站，已拒绝。", "The request came from another site and was refused."))


def _is_of_host(origin: str, host: str) -> bool:
    try:
        named = urlsplit(f"//{host}").hostname
        return named is not None and urlsplit(origin).hostname == named
    except ValueError:
        return False
