"""What commands share: the settings, the services, and the `--format` option."""

import getpass
import os
from collections.abc import Callable
from functools import cached_property
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import click

from app.clock import utc_now
from app.services.blocks import Blocks
from app.services.card_actions import CardActions
from app.services.card_edits import CardEdits
from app.services.card_lists import CardLists
from app.services.card_moves import CardMoves
from app.services.connection import Database, connect
from app.services.hosts import Hosts
from app.services.issuing import Issuing
from app.services.journal_lists import JournalLists
from app.services.operators import Operators
from app.services.shop_tokens import ShopTokens
from app.services.signing_keys import SigningKeys
from app.services.terms import VendorTerms
from app.services.webhooks import Webhooks
from app.settings import Settings
from app.tokens.sealing_key import SealingKey

Command = TypeVar("Command", bound=Callable[..., Any])


class Session:
    """One run of the command line. Everything in it is built when it is first used."""

    @cached_property
    def settings(self) -> Settings:
        """The settings, from the environment."""
        return Settings.from_env()

    @cached_property
    def database(self) -> Database:
        """The database, its schema checked, without a limit on a statement's time."""
        return connect(self.settings.database_url)

    @cached_property
    def card_actions(self) -> CardActions:
        """Actions on cards."""
        return CardActions(self.database, operator_name(), utc_now)

    @cached_property
    def card_edits(self) -> CardEdits:
        """Changes of batches and notes."""
        return CardEdits(self.database, operator_name(), utc_now)

    @cached_property
    def card_moves(self) -> CardMoves:
        """Moves of cards to other machines."""
        return CardMoves(self.database, operator_name(), utc_now)

    @cached_property
    def cards(self) -> CardLists:
        """Lists of cards."""
        return CardLists(self.database, utc_now)

    @cached_property
    def journal(self) -> JournalLists:
        """Lists of the journal."""
        return JournalLists(self.database)

    @cached_property
    def issuing(self) -> Issuing:
        """Issuing cards."""
        return Issuing(self.database, operator_name(), utc_now)

    @cached_property
    def operators(self) -> Operators:
        """The console's operators."""
        return Operators(self.database, operator_name(), utc_now)

    @cached_property
    def shop_tokens(self) -> ShopTokens:
        """The shops' tokens."""
        return ShopTokens(self.database, operator_name(), utc_now)

    @cached_property
    def signing_keys(self) -> SigningKeys:
        """The signing keys."""
        return SigningKeys(self.database, self.settings)

    @cached_property
    def webhooks(self) -> Webhooks:
        """The webhooks."""
        return Webhooks(self.database, operator_name(), utc_now, SealingKey(self.settings.sealing_key))

    @cached_property
    def hosts(self) -> Hosts:
        """The machines that serve this database."""
        return Hosts(self.database)

    @cached_property
    def terms(self) -> VendorTerms:
        """The vendor's terms."""
        return VendorTerms(self.database, operator_name(), utc_now)

    @cached_property
    def blocks(self) -> Blocks:
        """The block list."""
        return Blocks(self.database, operator_name(), utc_now)

    @property
    def zone(self) -> ZoneInfo:
        """The vendor's time zone."""
        return self.settings.timezone


def operator_name() -> str:
    """Return the operator's name for the journal."""
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
