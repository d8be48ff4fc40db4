"""Who looks at a page, and how they want to see it."""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Literal

from app.domain.operators import Role, console_actor
from app.services.sessions import Identity

Language = Literal["zh", "en"]
Theme = Literal["light", "dark", "auto"]


@dataclass(frozen=True, slots=True)
class Visitor:
    """A browser. `identity` is None where nobody is logged in."""

    identity: Identity | None
    session_token: str
    language: Language
    theme: Theme

    @property
    def is_owner(self) -> bool:
        """Whether an owner is logged in."""
        return self.identity is not None and self.identity.role is Role.OWNER

    @property
    def who(self) -> Identity:
        """Who is logged in.

        Raises:
            ValueError: nobody is: a page that anybody may see asks all the same.
        """
        if self.identity is None:
            raise ValueError("nobody is logged in")
        return self.identity

    @property
    def actor(self) -> str:
        """Who acts, as the journal names them.

        Raises:
            ValueError: as for `who`.
        """
        return console_actor(self.who.name)

    @property
    def csrf(self) -> str:
        """What forms must bring back: derived from the session's token, which no other site's page can read."""
        return hmac.new(self.session_token.encode(), b"kadun csrf", hashlib.sha256).hexdigest()
