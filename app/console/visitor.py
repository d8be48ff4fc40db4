"""The visitor of a page: their session, language and theme."""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Literal

from app.domain.operators import Role, console_actor
from app.domain.texts import Text
from app.services.sessions import Identity

Language = Literal["zh", "en"]
Theme = Literal["light", "dark", "auto"]


@dataclass(frozen=True, slots=True)
class Visitor:
    """A browser. `identity` is None if nobody is logged in."""

    identity: Identity | None
    session_token: str
    language: Language
    theme: Theme

    def say(self, text: Text) -> str:
        """Return a text in the visitor's language."""
        return text.en if self.language == "en" else text.zh

    @property
    def is_owner(self) -> bool:
        """Whether an owner is logged in."""
        return self.identity is not None and self.identity.role is Role.OWNER

    @property
    def who(self) -> Identity:
        """The operator who is logged in."""
        if self.identity is None:
            raise ValueError("nobody is logged in")
        return self.identity

    @property
    def seller(self) -> Identity | None:
        """The operator who is logged in if they see their own cards alone; None for an owner."""
        return None if self.is_owner else self.who

    @property
    def actor(self) -> str:
        """The operator's name in the journal."""
        return console_actor(self.who.name)

    @property
    def csrf(self) -> str:
        """The token that forms must send back: derived from the session's token, which other sites cannot read."""
        return hmac.new(self.session_token.encode(), b"kadun csrf", hashlib.sha256).hexdigest()
