"""The secrets in the database that are sealed: of operators' second factors, and of webhooks."""

from typing import NamedTuple

from app.storage.models import Operator, Webhook

_COLUMNS = {"operator": (Operator, Operator.totp_secret), "webhook": (Webhook, Webhook.secret)}


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
