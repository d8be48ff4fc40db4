"""The root of the command line, and how it ends: 0 done, 1 refused or failed with one line, 2 usage."""

import logging
import os
import sys
from typing import NoReturn

import click
import peewee

from app.cli import output
from app.cli.admin import admin
from app.cli.card import card
from app.cli.card_import import import_cards
from app.cli.completion import completion
from app.cli.doctor import doctor
from app.cli.events import events
from app.cli.file import file
from app.cli.function import function
from app.cli.key import key, seal
from app.cli.stats import stats
from app.cli.system import healthcheck, migrate
from app.cli.token import token
from app.domain.texts import RefusedError
from app.functions.client import FunctionsBusyError, FunctionsUnavailableError
from app.services.startup import MovedAwayError
from app.settings import SettingsError
from app.storage.database import ConflictError, DatabaseUnavailableError
from app.storage.schema import SchemaMismatchError
from app.tokens.keyring import KeyRingError
from app.tokens.sealing import NoRecipientError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cardctl() -> None:
    """卡盾卡密管理 / Kadun's card administration."""


card.add_command(import_cards)
_SERVICE = (migrate, healthcheck, doctor, completion)
for _command in (card, events, stats, file, function, key, seal, admin, token, *_SERVICE):
    cardctl.add_command(_command)


def main() -> NoReturn:
    """Run the command line and exit."""
    # What went wrong is said once, by `_fail`; the service's log lines are not for this screen.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        cardctl(prog_name=os.environ.get("KADUN_PROGRAM_NAME", "cardctl"), standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # Whoever read our output has seen enough; nothing more can be said there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # never a traceback: one line, whatever it is
        _fail(_explanation(error))
    sys.exit(0)


def _explanation(error: BaseException) -> str:  # noqa: PLR0911  # a table, a line a kind
    match error:
        case click.ClickException():
            return error.format_message()
        case click.Abort() | KeyboardInterrupt():
            return "已取消，未做任何更改 / Cancelled: nothing was changed"
        case RefusedError() | SettingsError() | KeyRingError() | NoRecipientError() | FunctionsBusyError():
            return str(error)
        case SchemaMismatchError() | MovedAwayError():
            return str(error)
        case DatabaseUnavailableError():
            return f"数据库不可用 / The database is unavailable: {error}"
        case FunctionsUnavailableError():
            return f"核心功能服务不可用 / The functions' service is unavailable: {error}"
        case ConflictError():
            return "与另一操作冲突，未做更改，请重试 / Another operation was in the way: nothing was changed, try again"
        case peewee.PeeweeException():
            return f"数据库拒绝了操作，未做任何更改 / The database refused, nothing was changed: {error}"
        case OSError():
            return f"{error.filename or ''}: {error.strerror or error}"
        case _:
            return f"内部错误 / An internal error: {type(error).__name__}: {error}"


def _fail(message: str) -> NoReturn:
    output.say(f"cardctl: {' '.join(message.split())}")
    sys.exit(1)
