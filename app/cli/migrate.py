"""`cardctl migrate`."""

import os
from pathlib import Path

import click

from app.cli import output
from app.services import connection
from app.services.startup import check_home
from app.settings import database_url_from, totp_key_from
from app.tokens.second_factors import SecondFactors


@click.command()
def migrate() -> None:
    """升级数据库结构 / Migrate the database's schema to this version."""
    if keys_dir := os.environ.get("KADUN_KEYS_DIR"):
        check_home(Path(keys_dir))

    def seal(operator_id: int, secret: str) -> str:  # only secrets that an older version left in clear need the key
        return SecondFactors(totp_key_from(os.environ)).seal(operator_id, secret)

    connection.migrate(database_url_from(os.environ), output.say, seal)
