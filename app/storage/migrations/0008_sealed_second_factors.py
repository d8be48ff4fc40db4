"""Secrets of second factors, sealed under a key that is not in the database."""

from typing import Any

from app.storage.sealing import seal_secret


def up(_migrator: Any, db: Any) -> None:
    rows = db.execute_sql("SELECT id, totp_secret FROM operator WHERE totp_secret IS NOT NULL").fetchall()
    for operator_id, secret in rows:
        sealed = seal_secret(operator_id, secret)
        db.execute_sql("UPDATE operator SET totp_secret = %s WHERE id = %s", (sealed, operator_id))
    db.execute_sql("COMMENT ON COLUMN operator.totp_secret IS 'sealed under KADUN_TOTP_KEY'")
