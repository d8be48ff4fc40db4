"""Licensed files: a verdict offers links, and a link opens one version of one file."""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, time
from functools import partial
from typing import Any, BinaryIO
from urllib.parse import quote
from zoneinfo import ZoneInfo

from app import hub
from app.clock import Clock
from app.domain.codes import CardStatus, EventKind
from app.domain.errors import DatabaseUnavailableError
from app.domain.policy import VerificationRequest
from app.services.evaluation import Evaluation
from app.services.licence import LicenceService, Verdict
from app.storage import files, models
from app.storage.blobs import Blob, Blobs, Location
from app.storage.database import Database
from app.storage.journal import Entry
from app.tokens.links import Link, LinkRefusedError, Links

ROUTE = "/v1/files/"


@dataclass(frozen=True, slots=True)
class FileTransfer:
    """Answers `POST /v1/files` and the links that it offers.

    `timezone` is the vendor's: a download is journalled once for each of its days.
    """

    licences: LicenceService
    links: Links
    blobs: Blobs
    database: Database
    timezone: ZoneInfo
    clock: Clock

    def offer(self, request: VerificationRequest) -> Verdict:
        """Evaluate a request; an accepted one's verdict lists the files for its card.

        Raises:
            DatabaseUnavailableError: the database is away; there is no verdict.
        """
        evaluation = self.licences.evaluate(request)
        if not evaluation.decision.accepted:
            return self.licences.sign(evaluation)
        return hub.in_thread(partial(self._offer, evaluation))

    def _offer(self, evaluation: Evaluation) -> Verdict:
        request = evaluation.request
        rows = self.database.with_connection(lambda: files.for_card(request.card_id))
        offered = [self._claim(evaluation, row) for row in rows if self.blobs.may_hold(Blob(row.sha256, row.size))]
        return self.licences.sign(evaluation, claims={"files": offered})

    def refuse_blocked(self, address: str) -> None:
        """Refuse a download to a blocked address.

        Raises:
            app.services.in_force.ClientBlockedError: the address is blocked.
        """
        with suppress(DatabaseUnavailableError):  # then `authorise` lets nothing through either
            self.licences.rules.get().refuse_blocked(address)

    def authorise(self, token: str, name: str) -> tuple[Link, str]:
        """Return the link that a token is, and the ID of the card that its client has now.

        Raises:
            LinkRefusedError: the token does not open the file of this name, its client was unbound, or the client's
                card is frozen or expired.
            DatabaseUnavailableError: the database is away.
        """
        now = self.clock()
        link = self.links.read(token, now)
        if link.name != name:
            raise LinkRefusedError("the link is for another file")
        card = self.database.with_connection(lambda: files.card_of(link.client_id))
        if card is None:
            raise LinkRefusedError("the link's client does not exist any more")
        if (status := card.status(now)) is not CardStatus.ACTIVE:
            raise LinkRefusedError(f"the card of the link's client is {status}")
        return link, card.id

    def locate(self, link: Link) -> Location:
        """Return where nginx finds the bytes.

        Raises:
            OSError: they are gone.
        """
        return self.blobs.locate(Blob(link.sha256, link.size))

    def open(self, link: Link) -> BinaryIO:
        """Open the bytes.

        Raises:
            OSError: they are gone.
            BucketUnavailableError: the bucket cannot be asked.
        """
        return hub.in_thread(lambda: self.blobs.open(Blob(link.sha256, link.size)))

    def journal_download(self, link: Link, card_id: str, address: str) -> None:
        """Write a download into the journal, once for each card, version of a file and day.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        now = self.clock()
        entry = Entry(
            at=now,
            kind=EventKind.FILE_DOWNLOADED,
            card_id=card_id,
            reference=link.reference,
            ip=address,
            details={"name": link.name, "sha256": link.sha256, "size": link.size},
        )
        midnight = datetime.combine(now.astimezone(self.timezone), time(), self.timezone)
        self.database.with_connection(lambda: files.journal_download(self.database, entry, midnight))

    def _claim(self, evaluation: Evaluation, row: models.File) -> dict[str, Any]:
        if evaluation.client_id is None:
            raise ValueError("an accepted card has a client")
        link = Link(row.name, row.size, row.sha256, evaluation.client_id, evaluation.reference)
        url = f"{ROUTE}{quote(row.name)}?token={self.links.sign(link, evaluation.at)}"
        return {"name": row.name, "size": row.size, "sha256": row.sha256, "url": url}
