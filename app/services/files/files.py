"""Licensed files: a verdict offers links, and a link opens one version of one file."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

from peewee import fn

from app.domain.codes import CardStatus, EventKind
from app.domain.errors import DatabaseUnavailableError
from app.domain.files.files import Blob
from app.domain.licence.policy import VerificationRequest
from app.runtime.clock import Clock
from app.services.licence.licence import LicenceService, Verdict
from app.storage import bindings, journal
from app.storage.blobs import Blobs
from app.storage.cards import as_domain
from app.storage.database import Database
from app.storage.models import Card, Client, Event, File, FileBatch
from app.tokens.links import Link, LinkRefusedError, Links

ROUTE = "/v1/files/"


@dataclass(frozen=True, slots=True)
class FileTransfer:
    """Answers `POST /v1/files` and its links; a download is journalled once for each day of `timezone`."""

    licences: LicenceService
    links: Links
    blobs: Blobs
    database: Database
    timezone: ZoneInfo
    clock: Clock

    def offer(self, request: VerificationRequest) -> Verdict:
        """Evaluate a request; an accepted one's verdict lists the files for its card."""
        evaluation = self.licences.evaluate(request)
        if not evaluation.decision.accepted:
            return self.licences.sign(evaluation)
        if evaluation.client_id is None:
            raise ValueError("an accepted card has a client")
        offered: list[dict[str, Any]] = []
        restrictions = FileBatch.select().where(FileBatch.of_file())
        batch = Card.select(Card.batch).where(Card.id == evaluation.request.card_id)
        is_for_card = ~fn.EXISTS(restrictions) | fn.EXISTS(restrictions.where(FileBatch.batch == batch))
        rows = File.select().where(File.program == evaluation.request.program, is_for_card).order_by(File.name)
        for row in list(rows):
            if self.blobs.may_hold(Blob(row.sha256, row.size)):
                link = Link(row.name, row.size, row.sha256, evaluation.client_id, evaluation.reference)
                url = f"{ROUTE}{quote(row.name)}?token={self.links.sign(link, evaluation.at)}"
                offered.append({"name": row.name, "size": row.size, "sha256": row.sha256, "url": url})
        return self.licences.sign(evaluation, claims={"files": offered})

    def authorise(self, token: str, name: str, address: str) -> tuple[Link, str]:
        """Return the link that a token is, and the ID of the card that its client has now.

        Raise ClientBlockedError if the address is blocked, LinkRefusedError if the token does not open the file of this
        name, its client was unbound, or the client's card is frozen or expired.
        """
        with suppress(DatabaseUnavailableError):  # then the card cannot be read either
            self.licences.rules.get().refuse_blocked(address)
        now = self.clock()
        link = self.links.read(token, now)
        if link.name != name:
            raise LinkRefusedError("the link is for another file")
        row = Card.select().join(Client).where(Client.id == link.client_id).first()
        if row is None:
            raise LinkRefusedError("the link's client does not exist any more")
        card = as_domain(row)
        if (status := card.status(now)) is not CardStatus.ACTIVE:
            raise LinkRefusedError(f"the card of the link's client is {status}")
        return link, card.id

    def journal_download(self, link: Link, card_id: str, address: str) -> None:
        """Write a download into the journal, once for each card, version of a file and day."""
        now, details = self.clock(), {"name": link.name, "sha256": link.sha256, "size": link.size}
        kind, reference = EventKind.FILE_DOWNLOADED, link.reference
        entry = journal.Entry(now, kind, card_id=card_id, reference=reference, ip=address, details=details)
        midnight = datetime.combine(now.astimezone(self.timezone), time(), self.timezone)
        is_same = (Event.card_id == card_id) & (Event.details["sha256"] == link.sha256)
        is_same &= (Event.details["name"] == link.name) & (Event.at >= midnight)
        journalled = Event.select(Event.id).where((Event.kind == kind) & is_same)
        if journalled.exists():
            return
        with self.database.transact():
            bindings.lock_cards([card_id])  # so that of two requests at once one writes
            if not journalled.exists():
                journal.append([entry])
