"""Random bearer tokens of browsers and shops; only their digests are stored."""

import hashlib
import secrets


def new_token() -> str:
    """Return 256 random bits in base64url."""
    return secrets.token_urlsafe(32)


def digest(text: str) -> str:
    """Return a text's SHA-256 in hex; random tokens need no slow hash."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
