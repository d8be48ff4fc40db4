"""What commands share: the settings, the database, the services, and ways to write options."""

import getpass
import os
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import click

from app.domain.programs import MAIN
from app.runtime.clock import Clock, utc_now
from app.runtime.settings import Settings
from app.services.cards.card_lists import CardLists
from app.services.programs import DataKeys, Programs
from app.services.system.connection import Database, connect
from app.tokens.sealing_key import SealingKey

Command = TypeVar("Command", bound=Callable[..., Any])
Service = TypeVar("Service")


class Session:
    """One run of the command line. Everything in it is built when it is first used."""

    @cached_property
    def settings(self) -> Settings:
        return Settings.from_env()

    @cached_property
    def database(self) -> Database:
        """The database, its schema checked, without a limit on a statement's time."""
        return connect(self.settings.database_url)

    @cached_property
    def cards(self) -> CardLists:
        """Lists of cards; the models read this run's database once it is open."""
        _ = self.database
        return CardLists(utc_now)

    def acting(self, service: Callable[[Database, str, Clock], Service]) -> Service:
        """Return a service that acts in the operator's name."""
        return service(self.database, operator_name(), utc_now)

    @property
    def programs(self) -> Programs:
        """The vendor's programs, changed in the operator's name."""
        return Programs(self.database, operator_name(), utc_now, SealingKey(self.settings.sealing_key))

    def data_key(self, program: str) -> str:
        """Return a program's data key; that of `main` needs no database."""
        keys = DataKeys(self.settings.kernal_data_key, SealingKey(self.settings.sealing_key))
        if program == MAIN:
            return keys.main
        _ = self.database  # which the models read
        return keys.of(program)

    @property
    def zone(self) -> ZoneInfo:
        return self.settings.timezone


def operator_name() -> str:
    try:
        return f"cardctl:{os.environ.get('SUDO_USER') or getpass.getuser()}"
    except (KeyError, OSError):  # a container's user has no name
        return f"cardctl:uid{os.getuid()}"


pass_session = click.make_pass_decorator(Session, ensure=True)


def format_option(*choices: str) -> Callable[[Command], Command]:
    """Return the `--format` option; the first choice is the default."""
    return click.option(
        "--format",
        "output_format",
        type=click.Choice(choices),
        default=choices[0],
        show_default=True,
        help="输出格式 / The output format.",
    )


def program_option(default: str | None = MAIN) -> Callable[[Command], Command]:
    """Return the `--program` option; without a default it may be left out, and means all programs."""
    told = "默认为全部 / default: all" if default is None else f"默认 / default: {default}"
    return click.option("--program", metavar="ID", default=default, help=f"程序 ID，{told} / The program's ID.")


def together(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return options as one decorator, for commands that share them."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add
