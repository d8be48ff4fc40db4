"""`cardctl migrate`."""

import os
from pathlib import Path

import click

from app.cli import output
from app.runtime.settings import database_url_from
from app.services.system import connection
from app.services.system.startup import check_home


@click.command()
def migrate() -> None:
    """升级数据库结构 / Migrate the database's schema to this version."""
    if keys_dir := os.environ.get("KADUN_KEYS_DIR"):
        check_home(Path(keys_dir))
    connection.migrate(database_url_from(os.environ), output.say)
