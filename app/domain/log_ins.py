"""Log-ins to the console: what is new about one, browsers in words, and recovery codes."""

import re
import unicodedata
from collections.abc import Iterable

from app.domain.addresses import neighbourhood_of
from app.domain.cards import CROCKFORD, as_crockford

RECOVERY_CODES = 10
RECOVERY_LENGTH = 20
"""100 random bits: too many to find a code from its SHA-256."""
_GROUP = 5
_MAX_TYPED = 64  # normalising a long text takes long
_CODE = re.compile(f"[{CROCKFORD}]{{{RECOVERY_LENGTH}}}")

_MAX_USER_AGENT = 1024
_UNKNOWN = "?"
# The first that is found counts: most browsers name others, too.
_BROWSERS = (
    ("WeChat", "MicroMessenger/"),
    ("QQ Browser", "QQBrowser/"),
    ("UC Browser", "UCBrowser/"),
    ("Samsung Internet", "SamsungBrowser/"),
    ("Edge", "Edg"),
    ("Opera", "OPR/"),
    ("Firefox", "Firefox/"),
    ("Firefox", "FxiOS/"),
    ("Chrome", "CriOS/"),
    ("Chrome", "Chrome/"),
    ("Safari", "Safari/"),
)
_SYSTEMS = (
    ("HarmonyOS", "HarmonyOS"),
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("ChromeOS", "CrOS"),
    ("macOS", "Macintosh"),
    ("Linux", "Linux"),
)


def what_is_new(address: str, *, known_browser: bool, earlier: Iterable[str]) -> list[str]:
    """Return what is new about a log-in: `browser`, `network`, both or nothing. The first log-in is not new.

    Args:
        address: Where it comes from.
        known_browser: Whether the operator has logged in with this browser.
        earlier: The addresses of the operator's earlier log-ins.
    """
    networks = {neighbourhood_of(each) for each in earlier}
    if not networks:
        return []
    new = {"browser": not known_browser, "network": neighbourhood_of(address) not in networks}
    return [what for what, is_new in new.items() if is_new]


def browser_in_words(user_agent: str) -> str:
    """Return browser and system by their names, "Firefox, Windows" for example; `?` is an unknown one."""
    said = user_agent[:_MAX_USER_AGENT]
    return f"{_named(said, _BROWSERS)}, {_named(said, _SYSTEMS)}"


def _named(said: str, marks: tuple[tuple[str, str], ...]) -> str:
    return next((name for name, mark in marks if mark in said), _UNKNOWN)


def read_recovery_code(typed: str) -> str | None:
    """Read a recovery code as a person types it; return None for anything else.

    White space and dashes are removed, letters become upper case, I and L read as 1, O as 0.
    """
    if len(typed) > _MAX_TYPED:
        return None
    code = as_crockford(unicodedata.normalize("NFKC", typed))
    return code if _CODE.fullmatch(code) else None


def written_recovery_code(code: str) -> str:
    """Return a recovery code in groups, as people read it."""
    return "-".join(code[at : at + _GROUP] for at in range(0, RECOVERY_LENGTH, _GROUP))
