"""`cardctl migrate`."""

import os
from pathlib import Path

import click

from app.cli import output
from app.services import connection
from app.services.startup import check_home
from app.settings import database_url_from


@click.command()
def migrate() -> None:
    """升级数据库结构 / Migrate the database's schema to this version."""
    if keys_dir := os.environ.get("KADUN_KEYS_DIR"):
        check_home(Path(keys_dir))
    connection.migrate(database_url_from(os.environ), output.say)
