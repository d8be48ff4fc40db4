"""The secrets in the database that are sealed: of operators' second factors, and of webhooks."""

import logging
from typing import NamedTuple

import peewee

from app.domain.errors import UnavailableError
from app.storage.database import Database
from app.storage.models import Operator, Webhook
from app.tokens.sealing_key import SealingKey, SealingKeyError

_COLUMNS = {"operator": (Operator, Operator.totp_secret), "webhook": (Webhook, Webhook.secret)}
logger = logging.getLogger(__name__)


class SealedSecret(NamedTuple):
    """A secret as its row has it; `name` is the row's, for people."""

    table: str
    row: int
    name: str
    text: str


def every() -> list[SealedSecret]:
    """Return all of them."""
    found = []
    for table, (model, column) in _COLUMNS.items():
        rows = model.select(model.id, model.name, column).where(column.is_null(is_null=False)).order_by(model.name)
        found += [SealedSecret(table, *row) for row in rows.tuples()]
    return found


def replace(secret: SealedSecret, text: str) -> bool:
    """Replace a secret, unless it has changed meanwhile; return whether it was replaced."""
    model, column = _COLUMNS[secret.table]
    unchanged = (model.id == secret.row) & (column == secret.text)
    return bool(model.update({column: text}).where(unchanged).execute())


def seal_all(database: Database, key: SealingKey) -> None:
    """Seal what was kept in clear before there was a key, and check that the key opens all else.

    Where the database is away the service starts, and the next start seals. No connection stays open.

    Raises:
        SealingKeyError: a secret does not open.
    """
    count = 0
    try:
        for secret in database.with_connection(every):
            place = secret.table, secret.row
            if key.opens(*place, secret.text) is False:
                raise SealingKeyError(
                    f"KADUN_SEALING_KEY 打不开 {secret.table} {secret.name} 的密钥：请放回原来的 secrets/sealing_key；"
                    "若已丢失，见 docs/backups.zh-CN.md / "
                    f"KADUN_SEALING_KEY does not open the secret of {secret.table} {secret.name}: "
                    "put the former secrets/sealing_key back; if it is lost, see docs/backups.md"
                )
            sealed = key.seal(*place, secret.text)
            if sealed != secret.text:
                count += replace(secret, sealed)
        if count:
            logger.info("secrets sealed", extra={"count": count})
    except (UnavailableError, peewee.PeeweeException) as error:
        logger.warning("secrets could not be sealed; the next start tries again", extra={"reason": str(error)})
    finally:
        database.disconnect()
