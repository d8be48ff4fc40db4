"""Licensed files: offered in a verdict, fetched by its links."""

from collections.abc import Callable
from datetime import datetime, time
from typing import Any, BinaryIO
from urllib.parse import quote
from zoneinfo import ZoneInfo

from app.domain.codes import EventKind
from app.domain.policy import VerificationRequest
from app.services.licence import Evaluation, LicenceService, Verdict
from app.storage import files, models
from app.storage.blobs import Blob, Blobs
from app.storage.database import Database
from app.storage.journal import Entry
from app.tokens.links import Link, LinkRefusedError, Links

ROUTE = "/v1/files/"


class FileTransfer:
    """Answers `POST /v1/files` and what its links ask for.

    Args:
        licences: Evaluates who may have links.
        links: Makes and reads them.
        blobs: The bytes.
        database: Where rows and journal are.
        timezone: The vendor's, whose days the journal counts downloads by.
        clock: Returns the time now, aware.
    """

    def __init__(  # noqa: PLR0913  # all that it works with, by name
        self,
        licences: LicenceService,
        links: Links,
        blobs: Blobs,
        database: Database,
        *,
        timezone: ZoneInfo,
        clock: Callable[[], datetime],
    ) -> None:
        self._licences = licences
        self._links = links
        self._blobs = blobs
        self._database = database
        self._timezone = timezone
        self._clock = clock

    def offer(self, request: VerificationRequest) -> Verdict:
        """Evaluate a request; an accepted one's verdict lists the files that are for its card.

        Raises:
            DatabaseUnavailableError: the database is away; there is no verdict.
        """
        evaluation = self._licences.evaluate(request)
        if not evaluation.decision.accepted:
            return self._licences.sign(evaluation)
        rows = self._database.with_connection(lambda: files.for_card(request.card_id))
        offered = [self._entry(evaluation, row) for row in rows if self._blobs.holds(Blob(row.sha256, row.size))]
        return self._licences.sign(evaluation, claims={"files": offered})

    def link(self, token: str, name: str) -> Link:
        """Return what a token is for.

        Raises:
            LinkRefusedError: it does not open the file of this name.
        """
        link = self._links.read(token, self._clock())
        if link.name != name:
            raise LinkRefusedError("it is for another file")
        return link

    def card_of(self, link: Link) -> str:
        """Return the card of the client that a link is for.

        Raises:
            LinkRefusedError: the client is no more; it was unbound, for instance.
            DatabaseUnavailableError: the database is away.
        """
        card_id = self._database.with_connection(lambda: files.card_of(link.client_id))
        if card_id is None:
            raise LinkRefusedError("its client is no more")
        return card_id

    def open(self, link: Link) -> BinaryIO:
        """Open the bytes.

        Raises:
            OSError: they are gone.
        """
        return self._blobs.open(Blob(link.sha256, link.size))

    def note(self, link: Link, card_id: str, address: str) -> None:
        """Write into the journal who fetches what, once for each card, version and day.

        Raises:
            DatabaseUnavailableError: the database is away.
        """
        now = self._clock()
        entry = Entry(
            at=now,
            kind=EventKind.FILE_DOWNLOADED,
            card_id=card_id,
            reference=link.reference,
            ip=address,
            details={"name": link.name, "sha256": link.sha256, "size": link.size},
        )
        midnight = datetime.combine(now.astimezone(self._timezone), time(), self._timezone)
        self._database.with_connection(lambda: files.note_download(self._database, entry, midnight))

    def _entry(self, evaluation: Evaluation, row: models.File) -> dict[str, Any]:
        if evaluation.client_id is None:
            raise ValueError("an accepted card has a client")
        link = Link(
            name=row.name,
            size=row.size,
            sha256=row.sha256,
            client_id=evaluation.client_id,
            reference=evaluation.reference,
        )
        url = f"{ROUTE}{quote(row.name)}?token={self._links.sign(link, evaluation.at)}"
        return {"name": row.name, "size": row.size, "sha256": row.sha256, "url": url}
