"""What a browser or a shop bears to be known: a random token, of which only the digest is stored."""

import hashlib
import secrets


def new_token() -> str:
    """Return 256 random bits in base64url."""
    return secrets.token_urlsafe(32)


def digest(text: str) -> str:
    """Return a text's SHA-256 in hex. A token cannot be guessed, so that a plain digest is enough for one."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
