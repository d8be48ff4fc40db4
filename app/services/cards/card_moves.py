"""Moves (换绑): an operator binds a card to the machine that was rejected under a reference."""

import secrets
from datetime import datetime
from hashlib import sha256
from typing import Any, NamedTuple

import peewee

from app.domain.addresses import known
from app.domain.cards.cards import HIDDEN, ID_RANDOM_BYTES, card_id_of, id_from_random, parse_card_id_beginning
from app.domain.codes import Code, EventKind
from app.domain.errors import ConflictError
from app.domain.licence.policy import is_live
from app.domain.texts import RefusedError
from app.services.cards.card_actions import CardNotFoundError
from app.services.operators.ceilings import Acting
from app.storage import bindings, journal
from app.storage import cards as card_rows
from app.storage.models import Card, Client, Event

_ATTEMPTS = 5  # each failed one means that another writer was quicker


class Rebinding(NamedTuple):
    """A card with its client before, the mismatch whose machine it gets, and that machine's client on another card."""

    card: Card
    mismatch: Event
    rival: Client | None

    @property
    def is_changed(self) -> bool:
        """Whether the card is bound to another machine, or at another address, than after the move."""
        client = self.card.client
        return client is None or (client.hardware, client.ip) != (self.mismatch.hardware, self.mismatch.ip)


class CardMoves(Acting):
    """Moves cards of one database."""

    def preview(self, card_id: str, reference: str) -> Rebinding:
        """Return what `apply` would do now, or raise what it raises; `reference` is that of a mismatch."""
        return self._plan(card_id, reference, self.clock())

    def apply(self, card_id: str, reference: str) -> Rebinding:
        """Bind the card to the machine that was rejected, in one transaction with its journal entries.

        Raise CardNotFoundError if the card does not exist, RefusedError if the reference is no mismatch of it, it is
        not in use, or the machine has another live card, CeilingExceededError if `limits` allow no more changes today,
        ConflictError if other writers were quicker again and again.
        """
        for _ in range(_ATTEMPTS):
            try:
                return self._apply(card_id, reference)
            except (ConflictError, peewee.IntegrityError):
                continue
        raise ConflictError

    def _apply(self, card_id: str, reference: str) -> Rebinding:
        with self.database.transact():
            planned = self._plan(card_id, reference, self.clock())
            bindings.lock_cards([card for card in (card_id_of(card_id), _card_of(planned.rival)) if card])
            now = self.clock()
            move = self._plan(card_id, reference, now)
            if _card_of(move.rival) != _card_of(planned.rival):
                raise ConflictError  # another card than the one that is locked
            if move.is_changed:
                self.take_changes(1 if move.rival is None else 2, now)
                self._write(move, now)
            return move

    def _plan(self, typed: str, reference: str, now: datetime) -> Rebinding:
        card_id = card_id_of(typed)
        card = card_rows.find(card_id)
        if card is None or not self.sees(card):
            raise CardNotFoundError(typed)
        wanted = parse_card_id_beginning(reference) or reference
        is_it = (Event.reference == wanted) & (Event.card_id == card_id) & (Event.code == Code.CLIENT_MISMATCH)
        mismatch = Event.select().where(is_it).first()
        if mismatch is None:
            raise RefusedError(
                f"参考号“{reference}”不是卡密 {card_id} 的“设备不符”记录",
                f"the reference “{reference}” is no CLIENT_MISMATCH of card {card_id}",
            )
        if not card.is_activated:
            raise RefusedError(
                f"卡密 {card_id} 尚未激活：首次使用时自动绑定",
                f"card {card_id} is not activated: it binds to the first machine that uses it",
            )
        is_elsewhere = (Client.hardware_sha256 == _digest(mismatch)) & (Client.card != card_id)
        rival = Client.select(Client, Card).join(Card).where(is_elsewhere).first()
        if rival is not None and is_live(card_rows.as_domain(rival.card), now):
            other = rival.card.key if self.sees(rival.card) else HIDDEN
            raise RefusedError(
                f"这台设备已绑定另一张有效卡密 {other}", f"this machine is bound to another live card, {other}"
            )
        return Rebinding(card, mismatch, rival)

    def _write(self, move: Rebinding, now: datetime) -> None:
        card_id, client, mismatch, rival = move.card.id, move.card.client, move.mismatch, move.rival
        machine = {"hardware": mismatch.hardware, "ip": mismatch.ip}
        done: list[tuple[EventKind, str, dict[str, Any] | None]] = []
        if rival is not None:
            done.append((EventKind.RELEASED, rival.card_id, {"moved_to": card_id, "client_id": rival.id}))
        before = None if client is None else {"before": {"hardware": client.hardware, "ip": known(client.ip)}}
        done.append((EventKind.MOVED, card_id, before))
        environment = {**machine, "card": card_id, "hardware_sha256": _digest(mismatch)}
        moving = client or rival
        if rival is not None and client is not None:
            rival.delete_instance()
        if moving is None:
            client_id = id_from_random(secrets.token_bytes(ID_RANDOM_BYTES))
            Client.insert(id=client_id, requested_at=now, function=mismatch.function, **environment).execute()
        else:
            Client.update(**environment).where(Client.id == moving.id).execute()
        common = {**machine, "reference": mismatch.reference, "actor": self.actor}
        journal.append([journal.Entry(now, kind, card_id=each, details=said, **common) for kind, each, said in done])


def _digest(mismatch: Event) -> str:
    return sha256(mismatch.hardware.encode()).hexdigest()


def _card_of(client: Client | None) -> str | None:
    return None if client is None else client.card_id
