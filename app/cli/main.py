"""The command line. Exit status: 0 done, 1 refused or failed with one line, 2 wrong usage."""

import logging
import os
import sys
from importlib import import_module
from typing import NoReturn

import click

from app.runtime.version import read_version
from app.services.formatting import escaped

# Each is in the module of its name, imported when it is used: scripts repeat `healthcheck` until the service is ready.
COMMANDS = (
    *("card", "terms", "block", "events", "stats", "report", "file", "function", "key", "seal", "admin", "token"),
    *("program", "webhook", "hosts", "migrate", "drain", "healthcheck", "doctor"),
)

_ELSEWHERE = {"seal": "key"}
"""The commands that are in a module of another name."""


class _Cardctl(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  # click's
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = getattr(
            import_module(f"app.cli.commands.{_ELSEWHERE.get(cmd_name, cmd_name)}"), cmd_name
        )
        return command


@click.group(cls=_Cardctl, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(read_version(), message="cardctl %(version)s", help="显示版本 / Show the version.")
def cardctl() -> None:
    """卡盾卡密管理 / Kadun's card administration."""


def main() -> NoReturn:
    # Errors are printed by `_fail`; the log lines of the service are not for this screen.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        cardctl(prog_name=os.environ.get("KADUN_PROGRAM_NAME", "cardctl"), standalone_mode=False)
        sys.stdout.flush()
    except click.UsageError as error:
        error.show()
        sys.exit(2)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        _fail(error.format_message())
    except BrokenPipeError:
        # The reader of the output, such as `head`, has closed it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  # never a traceback
        from app.cli.failures import explanation  # noqa: PLC0415  # its docstring says why

        _fail(explanation(error))
    sys.exit(0)


def _fail(message: str) -> NoReturn:
    sys.stderr.write(escaped(f"cardctl: {' '.join(message.split())}") + "\n")
    sys.exit(1)
