"""A little of everything that the console shows, and for each of its routes a request that means something there."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pyrage

from app.console import routes
from app.console.page import Access
from app.console.visitor import Visitor
from app.domain.codes import Code, EventKind
from app.domain.licence.terms import Terms
from app.domain.operators.operators import Role
from app.services.cards.filters import CARD_FIELDS, JOURNAL_FIELDS
from app.services.random_tokens import digest
from app.storage import journal, models
from app.storage.database import Database
from app.storage.journal import Entry
from app.storage.models import ApiToken, Block, Card, Client, File, FileBatch, Usage, Webhook, WebhookOutbox
from tests.support.console.console import PASSWORD, Fields, add_operator, add_outcome
from tests.support.secrets import SEALING

NEW_PASSWORD = "a rather long new password"
REFERENCE = "ABCDEFGH"
OLGA = "console:olga"
STATIC = "/admin/static/{name}"
OF_THE_SERVICE = {"figures", "host", "webhook", "webhook_outbox"}
FILES = (STATIC, "/admin/program/keys")
"""The routes whose answer to a GET is no page."""


def paths() -> dict[str, Mapping[str, Access]]:
    """Every route of the console, and who may ask it what, as the service itself has it."""
    return {path: page.access for path, page in routes.pages(cast("Any", None))}


def address_of(path: str) -> str:
    return path.replace("{name}", "console.css")


def csrf_of(session_token: str) -> str:
    return Visitor(None, session_token, "zh", "auto").csrf


@dataclass
class Scene:
    """What was furnished. `queries` and `forms` are what each route takes, by its path."""

    cards: list[str]
    queries: dict[str, dict[str, str]] = field(default_factory=dict)
    forms: dict[str, Fields] = field(default_factory=dict)


def furnish(texts: Sequence[str]) -> Scene:
    """Fill the connected database: each text stands wherever a client, a shop or the vendor can put one.

    Each has cards, a machine, entries, a file, an operator and a token. The owner olga must be there.
    """
    now = datetime.now(UTC)
    scene, block_ids = Scene([]), []
    for number, text in enumerate(texts):
        scene.cards += _cards(number, text, now - timedelta(minutes=number))
        journal.append(_entries(number, text, now - timedelta(minutes=number)))
        name = file_name(number, text)
        File.insert(name=name, size=5, sha256="0" * 64, added_at=now).execute()
        FileBatch.insert(file_name=name, batch=text).execute()
        add_operator(text[:64], Role.SELLER)
        token = {"name": text[:64], "token_sha256": digest(text), "scopes": ["cards:read", "cards:issue"]}
        ApiToken.insert(**token, created_at=now).execute()
        message = {"message_id": f"msg_{digest(text)[:10]}", "topic": "card.activated", "card_id": f"2{number:031d}"}
        failed = {"body": text[:1000], "error": text[:200], "webhook": add_webhook(text[:64], now)}
        WebhookOutbox.insert(**message, **failed, created_at=now, failed_at=now).execute()
        block = {"hardware_sha256": digest(text), "reason": text[:200], "actor": OLGA}
        block_ids.append(Block.insert(created_at=now, **block).execute())
    terms = Terms(notice=texts[0][:500], contact=texts[0][:200])
    models.Program.update(revision=1, **asdict(terms)).execute()
    data_key = SEALING.seal("program", "b", str(pyrage.x25519.Identity.generate()))
    second = models.Program.insert(id="b", name=texts[0][:200], data_key=data_key, created_at=now)
    second.on_conflict(conflict_target=[models.Program.id], preserve=[models.Program.name]).execute()
    imported = {"action": "import", "at": now.isoformat(), "count": 1, "batches": list(texts)}
    done = add_outcome("olga", **imported)
    scene.queries = _queries(scene.cards[0], texts[0], now, done)
    scene.forms = _forms(scene.cards[0], texts[0], scene.queries["/admin/cards/issued"]["at"])
    for requests in (scene.queries, scene.forms):
        requests["/admin/blocks/remove"] = {"id": str(block_ids[0])}
    return scene


def file_name(number: int, text: str) -> str:
    """What a file can be called of a text; the database takes no more."""
    return re.sub(r"[/\\\x00-\x1f\x7f-\x9f\u2028]", "_", text)[:90] + str(number)


def state(database: Database) -> dict[str, str]:
    """All that is stored, by table; not what the service makes by itself."""
    tables = [table for table in database.get_tables() if table not in OF_THE_SERVICE]
    digest_of = 'SELECT md5(string_agg(t::text, chr(10) ORDER BY t::text)) FROM "{}" t'
    return {table: database.execute_sql(digest_of.format(table)).fetchone()[0] for table in tables}


def add_webhook(name: str, now: datetime, **options: Any) -> int:
    """Add one that failed, and rests for long: the service that runs sends nothing; return its ID."""
    rests = {"failures": 1, "next_request_at": now + timedelta(days=9), "expiring_until": now + timedelta(days=9)}
    common = {"url": "https://shop.invalid/hook", "topics": ["card.activated"], "secret": "", "created_at": now}
    return int(Webhook.insert(name=name, **{**rests, **common, **options}).execute())


def _cards(number: int, text: str, now: datetime) -> list[str]:
    unused, active, frozen = (f"{kind}{number:031d}" for kind in (1, 2, 3))
    issued_at = now - timedelta(seconds=2)
    common = {"batch": text, "note": text, "validity": timedelta(days=30), "created_at": issued_at}
    begun = {"is_activated": True, "activated_at": now - timedelta(days=29), "expires_at": now + timedelta(days=1)}
    Card.insert(id=unused, **common).execute()
    Card.insert(id=active, **common, **begun).execute()
    Card.insert(id=frozen, **common, **begun, frozen_at=now).execute()
    machine = {"hardware": text, "hardware_sha256": digest(text), "ip": "203.0.113.7", "function": text}
    Client.insert(id=f"{number:032d}", card=active, requested_at=now, **machine).execute()
    Usage.insert(card=active, day=now.date(), function=text, count=number + 1, last_at=now).execute()
    return [active, unused, frozen]


def _entries(number: int, text: str, now: datetime) -> list[Entry]:
    card, actor = f"2{number:031d}", OLGA
    client: dict[str, Any] = {"card_id": card, "ip": "203.0.113.7", "hardware": text}
    client |= {"function": text, "claimed_ip": text}
    other: dict[str, Any] = {**client, "hardware": f"{text}!", "ip": "198.51.100.1"}
    mismatch: dict[str, Any] = {"kind": EventKind.REJECTED, "code": Code.CLIENT_MISMATCH, "reference": REFERENCE}
    another: dict[str, Any] = {**other, "card_id": f"3{number:031d}"}
    details = {"detail": f"{text}\nE: {text}"}
    failed: dict[str, Any] = {"kind": EventKind.REJECTED, "code": Code.FUNCTION_FAILED, "details": details}
    before = {"before": {"hardware": f"{text}?", "ip": text}}
    moved = {"moved_to": text, "client_id": text, text: text, "list": [text, {text: text}]}
    said = {"what": "cards", "filter": {"batch": text}}
    changed = {"terms": 1, "before": {"notice": text}, "after": {"notice": text}}
    issued = {"count": 3, "batch": text, "validity": "30d"}
    # The moment of an action is its address, so that no two are at once.
    at = [now - timedelta(seconds=second) for second in range(8)]
    return [
        Entry(at[0], EventKind.ACTIVATED, **client),
        Entry(at[0], **mismatch, **other),
        Entry(at[0], **mismatch, **{**other, "hardware": f"{text}#"}),
        Entry(at[0], **mismatch, **another),
        Entry(at[0], **failed, **client),
        Entry(at[0], EventKind.ENVIRONMENT_CHANGED, details=before, **client),
        Entry(at[0], EventKind.RELEASED, details=moved, **client),
        Entry(at[0], EventKind.FILE_DOWNLOADED, details={"name": text}, **client),
        Entry(at[1], EventKind.EXPORTED, actor=f"shop:{text}", details=said),
        Entry(at[2], EventKind.ISSUED, actor=actor, details=issued),
        Entry(at[3], EventKind.IMPORTED, actor=actor, details={"count": 1, "batches": [text]}),
        Entry(at[4], EventKind.EXTENDED, actor=actor, card_id=card, details={"by": "1d"}),
        Entry(at[5], EventKind.FROZEN, actor=actor, card_id=card),
        Entry(at[6], EventKind.TERMS_CHANGED, actor=actor, details=changed),
        Entry(at[7], EventKind.BLOCK_ADDED, actor=actor, details={"block": 1, "network": text, "reason": text}),
    ]


def _queries(card: str, text: str, now: datetime, done: str) -> dict[str, dict[str, str]]:
    at = {second: (now - timedelta(seconds=second)).isoformat() for second in (2, 3, 4)}
    filters = dict.fromkeys((*CARD_FIELDS, "after", "before"), "") | {"status": "active", "size": "50"}
    return {
        "/admin/login": {"next": "/admin/cards"},
        "/admin/": {"stamp": ""},
        "/admin/sharing": {"stamp": ""},
        "/admin/journal": dict.fromkeys((*JOURNAL_FIELDS, "after", "before"), ""),
        "/admin/journal/export": {},
        "/admin/usage": {"function": "", "day": "", "after": ""},
        "/admin/account": {"done": "password"},
        "/admin/operators": {"done": "role"},
        "/admin/webhooks": {"done": "remove"},
        "/admin/webhook": {"name": text[:64], "below": ""},
        "/admin/operator": {"name": text[:64]},
        "/admin/token": {"name": text[:64]},
        "/admin/settings": {"done": "saved"},
        "/admin/programs": {"done": "removed"},
        "/admin/program": {"id": "b"},
        "/admin/program/keys": {"id": "b"},
        "/admin/blocks": {"below": "", "done": ""},
        "/admin/blocks/add": {"hardware": text, "network": "", "reference": "", "reason": text},
        "/admin/cards": filters,
        "/admin/cards/done": {"form": done, "back": "/admin/cards"},
        "/admin/cards/issue": dict.fromkeys(("validity", "validity_other", "count", "batch", "note", "program"), ""),
        "/admin/cards/issued": {"at": at[2], "format": ""},
        "/admin/card": {"id": card, "after": "", "before": ""},
        "/admin/card/move": {"id": card, "reference": REFERENCE},
        "/admin/refusal": {"reference": REFERENCE},
    }


def _forms(card: str, text: str, at: str) -> dict[str, Fields]:
    new = {"new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}
    own, name = {"own_password": PASSWORD}, {"name": text[:64]}
    chosen = {"action": "freeze", "id": card, "back": "/admin/cards", "by": "other", "by_other": "1d"}
    edited = {"id": card, "back": "/admin/cards", "change": "note", "batch": text, "note": f"{text}!"}
    return {
        "/admin/login": {"name": "olga", "password": PASSWORD, "code": "", "next": "/admin/cards"},
        "/admin/logout": {},
        "/admin/journal/export": {"format": "csv", **own},
        "/admin/account/password": {**own, **new},
        "/admin/account/sessions": {},
        "/admin/account/two-step": {"secret": "A" * 32, "code": "000000", **own},
        "/admin/account/two-step/remove": {"own_code": "000000", **own},
        "/admin/operators": {"name": "nora", "role": "seller", **new, **own},
        "/admin/operator/role": {"role": "owner", **name, **own},
        "/admin/operator/ceilings": {"cards_per_day": "5", "longest_validity": "30d", **name, **own},
        "/admin/operator/password": {**new, **name, **own},
        "/admin/operator/two-step": {**name, **own},
        "/admin/operator/remove": {**name, **own},
        "/admin/token": {**name, **own},
        "/admin/webhooks": {"name": "new", "url": "https://new.invalid/", "topic": "card.activated", **own},
        "/admin/webhook/again": {"id": f"msg_{digest(text)[:10]}", **name},
        "/admin/webhook/pause": {**name, **own},
        "/admin/webhook/remove": {**name, **own},
        "/admin/webhook/resume": name,
        "/admin/webhook/secret": {**name, **own},
        "/admin/webhook/test": name,
        "/admin/programs": {"id": "c", "name": f"{text[:100]}!"},
        "/admin/program": {"id": "b", "name": f"{text[:100]}?"},
        "/admin/program/remove": {"id": "b"},
        "/admin/programs/seal": {"id": "b"},
        "/admin/settings": {"program": "main", "binding": "hardware", "notice": text[:500], "revision": "1", **own},
        "/admin/blocks/add": {"hardware": f"{text[:1000]}!", "network": "", "reference": "", "reason": "shared"},
        "/admin/card/move": {"id": card, "reference": REFERENCE},
        "/admin/cards/confirm": chosen,
        "/admin/cards/edit": edited,
        "/admin/cards/edit/apply": edited,
        "/admin/cards/apply": chosen,
        "/admin/cards/export": {"format": "csv", "id": card, **own},
        "/admin/cards/issue": {"program": "main", "validity": "30d", "count": "2", "batch": text, "note": text},
        "/admin/cards/issued": {"at": at, "format": "csv", **own},
        "/admin/cards/import": {"program": "main", "step": "preview", "seen": ""},
    }
