"""What webhooks are told: the documents of messages. A card's key is masked; its SHA-256 lets the vendor match it."""

import hashlib
import json
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from app.domain.cards import masked
from app.domain.webhooks import Topic
from app.services.formatting import local
from app.storage.models import Card


def document(topic: Topic, at: datetime, data: dict[str, Any]) -> str:
    """Return the body of a message: `type`, `timestamp` and `data` (Standard Webhooks)."""
    message = {"type": topic, "timestamp": at.isoformat(timespec="milliseconds"), "data": data}
    return json.dumps(message, ensure_ascii=False, separators=(",", ":"))


def about_card(card_id: str, card: Card | None, zone: ZoneInfo) -> dict[str, Any]:
    """Return what is told of a card; `card` is None if it was deleted since.

    Key and digest are told of cards that Kadun made. The ID of an imported card is a digest of its key: whoever gets
    either could check guesses at the key without asking this server.
    """
    is_ours = card is not None and card.imported_key is None
    return {
        "card": masked(card_id) if is_ours else None,
        "card_sha256": hashlib.sha256(card_id.encode()).hexdigest() if is_ours else None,
        "batch": None if card is None else card.batch,
        "expires_at": None if card is None else local(card.expires_at, zone),
    }


def row(  # noqa: PLR0913  # a column each
    webhook_id: int, message_id: str, source: str, topic: Topic, body: str, now: datetime, card_id: str | None = None
) -> dict[str, Any]:
    """Return a new message's columns, due now."""
    return {
        "webhook": webhook_id,
        "message_id": message_id,
        "source": source,
        "topic": str(topic),
        "card_id": card_id,
        "body": body,
        "created_at": now,
        "next_at": now,
    }
