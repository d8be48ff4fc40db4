"""The messages for customers, from `messages.json`, which the server and the JavaScript client read, too.

The SDK never shows the server's own text, which is not signed.
"""

from __future__ import annotations

import json
import pkgutil

LANGUAGES = ("zh", "en")

_DOCUMENT = json.loads(pkgutil.get_data("kadun", "messages.json") or b"")
_TEMPLATES: dict[str, tuple[str, str]] = _DOCUMENT["templates"]
TEXTS: dict[str, tuple[str, str]] = _DOCUMENT["texts"]
"""By code of a verdict, or kind of failure: what customers read."""


def text(key: str, language: str) -> str:
    """Return the text for `key` (the code of a verdict, or a kind of failure) in `language`, `zh` or `en`."""
    return TEXTS[key][LANGUAGES.index(language)]


def rejection(code: str, reference: str, language: str) -> str:
    """Return the message for a signed rejection: the reason, and the reference for the vendor's journal."""
    if code in TEXTS and code.isupper():
        return with_reference(text(code, language), reference, language)
    why = _filled("unknown_code", language, message=text("rejected", language), code=code)  # newer than this release
    return with_reference(why, reference, language)


def with_reference(message: str, reference: str, language: str) -> str:
    """Append the reference of a signed answer, if there is one."""
    return _filled("with_reference", language, message=message, reference=reference) if reference else message


def _filled(template: str, language: str, **values: str) -> str:
    return _TEMPLATES[template][LANGUAGES.index(language)].format(**values)
