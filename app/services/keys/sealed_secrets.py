"""The secrets in the database that are sealed: operators' second factors, webhooks' secrets, programs' data keys."""

import logging
from typing import Any

import peewee

from app.domain.errors import UnavailableError
from app.storage.database import Database
from app.storage.models import Operator, Program, Webhook
from app.tokens.sealing_key import SealingKey, SealingKeyError

_COLUMNS = {
    "operator": (Operator, Operator.totp_secret),
    "webhook": (Webhook, Webhook.secret),
    "program": (Program, Program.data_key),
}
logger = logging.getLogger(__name__)


def every() -> list[tuple[str, Any]]:
    """Return all of them: the table and a row with `id`, `name` (for people) and `sealed`."""
    found = []
    for table, (model, column) in _COLUMNS.items():
        rows = model.select(model.id, model.name, column.alias("sealed")).where(column.is_null(is_null=False))
        found += [(table, row) for row in rows.order_by(model.name).namedtuples()]
    return found


def replace(table: str, row: Any, text: str) -> bool:  # noqa: ANN401  # one of `every`
    """Replace a secret, unless it has changed meanwhile; return whether it was replaced."""
    model, column = _COLUMNS[table]
    unchanged = (model.id == row.id) & (column == row.sealed)
    return bool(model.update({column: text}).where(unchanged).execute())


def seal_all(database: Database, key: SealingKey) -> None:
    """Seal what is in clear, or leave it to the next start; raise SealingKeyError if the key does not open all else."""
    count = 0
    try:
        for table, row in database.with_connection(every):
            if key.opens(table, row.id, row.sealed) is False:
                raise SealingKeyError(
                    f"KADUN_SEALING_KEY 打不开 {table} {row.name} 的密钥：请放回原来的 secrets/sealing_key；"
                    "若已丢失，见 docs/backups.zh-CN.md / "
                    f"KADUN_SEALING_KEY does not open the secret of {table} {row.name}: "
                    "put the former secrets/sealing_key back; if it is lost, see docs/backups.md"
                )
            sealed = key.seal(table, row.id, row.sealed)
            if sealed != row.sealed:
                count += replace(table, row, sealed)
        if count:
            logger.info("secrets sealed", extra={"count": count})
    except (UnavailableError, peewee.PeeweeException) as error:
        logger.warning("secrets could not be sealed; the next start tries again", extra={"reason": str(error)})
    finally:
        database.disconnect()
