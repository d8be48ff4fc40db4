"""The visitor of a page: their session and its cookie, their language and theme."""

import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

import falcon

from app.domain.operators.operators import Role, console_actor
from app.domain.texts import Text
from app.services.operators.operators import Account

COOKIE_PATH = "/admin"
LOGIN = "/admin/login"
Language = Literal["zh", "en"]
Theme = Literal["light", "dark", "auto"]


@dataclass(frozen=True, slots=True)
class Visitor:
    """A browser. `identity` is None if nobody is logged in."""

    identity: Account | None
    session_token: str
    language: Language
    theme: Theme
    programs: dict[str, str] = field(default_factory=dict)
    """The names of the vendor's programs, by ID, where there are several."""
    program: str | None = None
    """The program that lists and figures are of; None for all."""

    def say(self, text: Text) -> str:
        return text.en if self.language == "en" else text.zh

    @property
    def is_owner(self) -> bool:
        return self.identity is not None and self.identity.role == Role.OWNER

    @property
    def who(self) -> Account:
        """The operator who is logged in."""
        if self.identity is None:
            raise ValueError("nobody is logged in")
        return self.identity

    @property
    def seller(self) -> Account | None:
        """The operator who is logged in if they see their own cards alone; None for an owner."""
        return None if self.is_owner else self.who

    @property
    def actor(self) -> str:
        return console_actor(self.who.name)

    @property
    def csrf(self) -> str:
        """The token that forms must send back: derived from the session's token, which other sites cannot read."""
        return hmac.new(self.session_token.encode(), b"kadun csrf", hashlib.sha256).hexdigest()


class SessionCookie:
    """The cookie that holds a session's token: behind the proxy, hence HTTPS, one that no other host or HTTP can set.

    Browsers take a name with `__Host-` only from HTTPS, with `Secure` and path `/`, without a domain (RFC 6265bis).
    """

    def __init__(self, *, behind_proxy: bool) -> None:
        self.name = "__Host-kadun_session" if behind_proxy else "kadun_session"
        self.path = "/" if behind_proxy else COOKIE_PATH

    def token(self, request: falcon.Request) -> str:
        return (request.get_cookie_values(self.name) or [""])[0]

    def set(self, response: falcon.Response, token: str, expires: datetime | None = None) -> None:
        response.set_cookie(
            self.name, token, expires=expires, path=self.path, secure=True, http_only=True, same_site="Strict"
        )

    def unset(self, response: falcon.Response) -> None:
        """Make the browser forget it; Falcon's own `unset_cookie` lacks `Secure`, which the prefix needs."""
        self.set(response, "", datetime.fromtimestamp(0, UTC))
