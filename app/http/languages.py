"""The language that a request prefers: Chinese or English."""

from functools import lru_cache

import falcon

from app.domain.texts import Text


def in_language_of(request: falcon.Request, text: Text) -> str:
    """Return the Chinese text, or the English text where the request's Accept-Language prefers it."""
    return text.en if prefers_english(request.get_header("ACCEPT-LANGUAGE") or "") else text.zh


@lru_cache(maxsize=256)
def prefers_english(accept_language: str) -> bool:
    """Tell whether an Accept-Language header (RFC 9110, section 12.5.4) ranks English over Chinese."""
    qualities: dict[str, float] = {}
    for item in accept_language.split(","):
        tag, _, parameters = item.strip().partition(";")
        language = tag.strip().lower().split("-")[0]
        if language in {"en", "zh"}:
            qualities[language] = max(qualities.get(language, 0.0), _quality(parameters))
    # Of equal ones the first that was named is the best.
    return qualities.get("en", 0.0) > 0 and max(qualities, key=qualities.__getitem__) == "en"


def _quality(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        quality = float(value)
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0
