"""The cookie of a session."""

from datetime import UTC, datetime
from typing import Any, NamedTuple

import falcon

COOKIE_PATH = "/admin"
LOGIN = "/admin/login"


class SessionCookie(NamedTuple):
    """The name and path of the cookie that holds a session's token."""

    name: str
    path: str

    def token(self, request: falcon.Request) -> str:
        """Return the token of the visitor's session, "" if there is none."""
        return (request.get_cookie_values(self.name) or [""])[0]

    def set(self, response: falcon.Response, token: str) -> None:
        """Give the browser a session's token."""
        _set_cookie(response, self.name, token, self.path)

    def unset(self, response: falcon.Response) -> None:
        """Make the browser forget it; Falcon's own `unset_cookie` lacks `Secure`, which the prefix needs."""
        _set_cookie(response, self.name, "", self.path, expires=datetime.fromtimestamp(0, UTC))


def session_cookie(*, behind_proxy: bool) -> SessionCookie:
    """Return the session's cookie: behind the proxy, hence HTTPS, one that no other host or plain HTTP can set.

    Browsers take a name with `__Host-` only from HTTPS, with `Secure` and path `/`, without a domain (RFC 6265bis).
    """
    return SessionCookie("__Host-kadun_session", "/") if behind_proxy else SessionCookie("kadun_session", COOKIE_PATH)


def sender_of(cookie: SessionCookie, environ: dict[str, Any]) -> str | None:
    """Return what a request of an operator, or of a shop, proves to be with; None of all others."""
    path = environ["PATH_INFO"]
    if path.startswith("/v1/shop/"):
        return environ.get("HTTP_AUTHORIZATION", "").rpartition(" ")[2] or None  # however its scheme is written
    if path.startswith(COOKIE_PATH) and not path.startswith(("/admin/static/", LOGIN)):  # a log-in proves nothing yet
        return cookie.token(falcon.Request(environ)) or None
    return None


def _set_cookie(response: falcon.Response, name: str, value: str, path: str, **lasts: Any) -> None:  # noqa: ANN401  # Falcon's
    response.set_cookie(name, value, path=path, secure=True, http_only=True, same_site="Strict", **lasts)
