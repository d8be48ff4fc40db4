"""The console's pages that are measured, the worst cases among them: what is rare, what is nowhere, the last page."""

import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlencode

import psycopg2

from app.console.card_fields import MAX_SELECTED
from app.console.issue import MAX_ISSUED
from app.storage.paging import Cursor
from bench.visitor import Form
from tests.support.sample_year import FUNCTIONS, HOT_HARDWARE, HOT_NETWORK, LARGE_BATCH, RARE_BATCH, RARE_NOTE

OPERATOR = "bench"
_NOWHERE = "没有这样的"
_LAST_ROWS = 50
_CARD = """
SELECT card_id, hardware, ip FROM client JOIN card ON card.id = card_id ORDER BY created_at DESC OFFSET 1000 LIMIT 1
"""
_CHOSEN = "SELECT id FROM card ORDER BY created_at DESC LIMIT %s"
_LAST_CARD = "SELECT created_at, id FROM card ORDER BY created_at, id OFFSET %s LIMIT 1"
_PERMANENT = "SELECT expires_at, id FROM card WHERE is_activated AND frozen_at IS NULL AND expires_at IS NULL LIMIT 1"
_LAST_EVENT = "SELECT at, id FROM event ORDER BY at, id OFFSET %s LIMIT 1"
_ENTRY = "SELECT card_id, reference FROM event WHERE code = 'CLIENT_MISMATCH' ORDER BY at DESC LIMIT 1"


class Asked(NamedTuple):
    """A page, and the form that it wants."""

    path: str
    form: Form | None = None


def pages(url: str, issued: str) -> dict[str, Asked]:
    """Return all pages by what they are, in the order of the report.

    Args:
        url: The database's.
        issued: The address of the page that shows as many new cards as are issued at once.
    """
    chosen = [card_id for (card_id,) in _rows(url, _CHOSEN, MAX_SELECTED)]
    forms = {
        f"confirm: {action} {MAX_SELECTED}": Asked(
            "/admin/cards/confirm", {"action": action, "id": chosen, "by": "30d"}
        )
        for action in ("freeze", "extend")
    }
    shown = _plain() | {f"issued: {MAX_ISSUED:,}": issued} | _cards(url) | _journal(url)
    return {name: Asked(path) for name, path in shown.items()} | forms


def figures_seconds(url: str) -> float | None:
    """Return how long the figures took to count, None while they are being counted."""
    rows = _rows(url, "SELECT seconds FROM figures")
    return rows[0][0] if rows else None


def _plain() -> dict[str, str]:
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    return {
        "overview": "/admin/",
        "sharing": "/admin/sharing",
        "usage": "/admin/usage",
        "usage: a function": _path("usage", function=FUNCTIONS[2]),
        "usage: a function on a day": _path("usage", function=FUNCTIONS[2], day=today),
        "usage: a function that is nowhere": _path("usage", function=_NOWHERE),
        **{name: f"/admin/{name}" for name in ("files", "functions", "keys", "health", "operators", "account")},
        "two-step": "/admin/account/two-step",
        "an operator": _path("operator", name=OPERATOR),
        "issue": "/admin/cards/issue",
        "import": "/admin/cards/import",
    }


def _cards(url: str) -> dict[str, str]:
    ((card_id, hardware, ip),) = _rows(url, _CARD)
    ((_card_id, reference),) = _rows(url, _ENTRY)
    last, permanent = (Cursor(*_rows(url, _LAST_CARD, _LAST_ROWS)[0]), Cursor(*_rows(url, _PERMANENT)[0]))
    wanted: dict[str, dict[str, str]] = {
        "": {},
        "last page": {"after": str(last)},
        **{state: {"status": state} for state in ("unused", "active", "expired", "frozen")},
        "active, permanent": {"status": "active", "after": str(permanent)},
        "a batch of 300,000": {"batch": LARGE_BATCH},
        "a batch of one": {"batch": RARE_BATCH},
        "no batch": {"no_batch": "1"},
        "no batch, active": {"no_batch": "1", "status": "active"},
        "a batch of 300,000, frozen": {"batch": LARGE_BATCH, "status": "frozen"},
        "a note of one": {"note": RARE_NOTE[2:5]},
        "a note that is nowhere": {"note": _NOWHERE},
        "no such note, unused": {"note": _NOWHERE, "status": "unused"},
        "no such note, active, in a batch": {"note": _NOWHERE, "status": "active", "batch": LARGE_BATCH},
        "expiring within 7 days": {"expires": "7d"},
        "expiring within 7 days, frozen, no such note": {"expires": "7d", "status": "frozen", "note": _NOWHERE},
        "search: an ID": {"q": card_id},
        "search: an ID's beginning": {"q": card_id[:4]},
        "search: hardware": {"q": hardware},
        "search: what all hardware begins with": {"q": "board="},
        "search: an address": {"q": ip},
        "search: what all addresses begin with": {"q": "10."},
        "search: a reference": {"q": reference},
        "search: nowhere": {"q": _NOWHERE},
        "search: all addresses, expired, no such note": {"q": "10.", "status": "expired", "note": _NOWHERE},
    }
    named = {f"cards: {name}".rstrip(": "): _path("cards", **query) for name, query in wanted.items()}
    return named | {"a card": _path("card", id=card_id), "cards: 500 rows": _path("cards", size="500")}


def _journal(url: str) -> dict[str, str]:
    ((card_id, reference),) = _rows(url, _ENTRY)
    ((at, event_id),) = _rows(url, _LAST_EVENT, _LAST_ROWS)
    month_ago = f"{datetime.now(UTC) - timedelta(days=30):%Y-%m-%dT%H:%M}"
    wanted: dict[str, dict[str, str]] = {
        "": {},
        "last page": {"after": str(Cursor(at, str(event_id)))},
        "all rejections": {"kind": "rejected"},
        "a common code": {"kind": "CARD_NOT_FOUND"},
        "a code of one, a year ago": {"kind": "FUNCTION_TIMEOUT"},
        "a code that is nowhere": {"kind": "CARD_FROZEN"},
        "a card": {"card": card_id},
        "a card and a code": {"card": card_id, "kind": "CARD_EXPIRED"},
        "an attacker's address": {"address": HOT_NETWORK},
        "his address and another code": {"address": HOT_NETWORK, "kind": "CLIENT_MISMATCH"},
        "his address, in the last month, where he is not": {"address": HOT_NETWORK, "since": month_ago},
        "his machine": {"hardware": HOT_HARDWARE},
        "his machine at his address": {"hardware": HOT_HARDWARE, "address": HOT_NETWORK},
        "his address and his function": {"address": HOT_NETWORK, "function": FUNCTIONS[0]},
        "his address and another's function": {"address": HOT_NETWORK, "function": FUNCTIONS[1]},
        "his machine and another's function": {"hardware": HOT_HARDWARE, "function": FUNCTIONS[1]},
        "his address and an operator": {"address": HOT_NETWORK, "actor": "console:owner"},
        "an operator": {"actor": "console:owner"},
        "an operator who is nobody": {"actor": "console:nobody"},
        "a reference": {"reference": reference},
        "a function and a rare code": {"function": FUNCTIONS[0], "kind": "FUNCTION_TIMEOUT"},
        "a month": {"since": month_ago},
    }
    return {f"journal: {name}".rstrip(": "): _path("journal", **query) for name, query in wanted.items()}


def _path(page: str, **query: str) -> str:
    return f"/admin/{page}?{urlencode(query)}"


def _rows(url: str, question: str, *values: object) -> list[tuple[Any, ...]]:
    with contextlib.closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(question, values)
        return cursor.fetchall()
