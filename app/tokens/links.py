"""Download links: signed permissions to fetch one version of one file (docs/protocol.md, "Files")."""

from datetime import datetime
from typing import Annotated, Any

import jwt
import msgspec
from jwt.types import Options

from app.tokens.keys import ALGORITHM
from app.tokens.signer import LINK_TYPE, Signer

LINK_SECONDS = 600
LINK_AUDIENCE = "kadun-download"


class Link(msgspec.Struct, frozen=True):
    """The claims of a link: one version of one file, by its name, for one client.

    It does not name the card, because addresses end up in logs. The client's ID (claim `sub`) and the verdict's
    reference lead the vendor to the card.
    """

    name: str
    size: int
    sha256: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
    client_id: str = msgspec.field(name="sub")
    reference: str


class LinkRefusedError(Exception):
    """The token is not a valid link. The message says why, for the log."""


class Links:
    """Signs and reads links; `issuer` is the server's configured name, claim `iss`."""

    def __init__(self, signer: Signer, issuer: str) -> None:
        self._signer = signer
        self._issuer = issuer

    def sign(self, link: Link, now: datetime) -> str:
        """Return the token of a link that is valid for `LINK_SECONDS`."""
        issued_at = int(now.timestamp())
        times = {"iat": issued_at, "exp": issued_at + LINK_SECONDS}
        claims = {"iss": self._issuer, "aud": LINK_AUDIENCE, **times, **msgspec.to_builtins(link)}
        return self._signer.sign(LINK_TYPE, claims)

    def read(self, token: str, now: datetime) -> Link:
        """Return the link that a token is; raise LinkRefusedError for another key or type, or after its time."""
        try:
            claims = self._verified(token, now)
            link, expires_at = msgspec.convert(claims, Link), msgspec.convert(claims["exp"], int)
        except (jwt.InvalidTokenError, msgspec.ValidationError, ValueError, RecursionError) as error:
            raise LinkRefusedError(f"{type(error).__name__}: {error}") from error
        if now.timestamp() >= expires_at:
            raise LinkRefusedError("the link has expired")
        return link

    def _verified(self, token: str, now: datetime) -> dict[str, Any]:
        kid = jwt.get_unverified_header(token).get("kid")
        keys = [key for key in self._signer.key_set(now)["keys"] if key["kid"] == kid]
        if not keys:
            raise LinkRefusedError("none of the published keys signed the token")
        # `read` checks the times, against the given clock instead of the machine's.
        options = Options(require=["iss", "aud", "iat", "exp"], verify_exp=False, verify_iat=False)
        decoded = jwt.decode_complete(
            token,
            jwt.PyJWK(keys[0]).key,
            algorithms=[ALGORITHM],
            audience=LINK_AUDIENCE,
            issuer=self._issuer,
            options=options,
        )
        if decoded["header"].get("typ") != LINK_TYPE:
            raise LinkRefusedError("the token is of another type")
        claims: dict[str, Any] = decoded["payload"]
        return claims
