"""`cardctl function …`."""

import os
import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from app.cli import output
from app.cli.context import Session, format_option, pass_session, program_option
from app.domain.programs import MAIN
from app.functions.client import FunctionsBusyError, FunctionsClient
from app.functions.decorator import Caller
from app.functions.messages import Failed, FunctionInfo, Invalid, Listing, NotFound, Returned, TimedOut
from app.runtime.settings import SettingsError
from app.services.cards import requirements
from app.services.formatting import escaped, takes

_NOBODY = "0" * 32
"""The IDs of card and client where no card is given."""


@click.group()
def function() -> None:
    """核心功能 / Core functions, which run on the server."""


def _folder() -> str:
    """Return the functions folder as the caller knows it: on the trial its path, with containers the host's."""
    return os.environ.get("KADUN_FUNCTIONS_DIR", "data/functions")


def _client(session: Session) -> FunctionsClient:
    return FunctionsClient(session.settings.functions_socket, session.settings.function_seconds)


@function.command("list")
@format_option("table", "json")
@pass_session
def list_functions(session: Session, output_format: str) -> None:
    """列出功能与无法加载的模块 / List functions and broken modules; exit 1 when a module is broken."""
    try:
        listing = _client(session).list()
    except FunctionsBusyError as error:
        raise click.ClickException(f"{error} ({_folder()})") from error
    _show(listing, output_format)


@function.command()
@format_option("table", "json")
@pass_session
def reload(session: Session, output_format: str) -> None:
    """重新加载 / Load all modules again and list them; calls in progress finish on the old ones."""
    _show(_client(session).reload(), output_format)


def _shown(function: FunctionInfo) -> str:
    return function.name if function.program == MAIN else f"{function.name} ({function.program})"


def _show(listing: Listing, output_format: str) -> None:
    folder = _folder()
    if output_format == "json":
        output.print_json({**msgspec.to_builtins(listing), "folder": folder})
    elif listing.functions or listing.broken:
        output.print_table(
            ("功能 function", "模块 module", "参数 arguments", "说明 about"),
            ((_shown(f), f.module, takes(f.schema), f.doc.partition("\n")[0]) for f in listing.functions),
        )
        sys.stdout.write(f"摘要 / digest: {listing.sha256}\n")
        for broken in listing.broken:
            error = broken.error.strip().rpartition("\n")[2]
            sys.stdout.write(escaped(f"无法加载 / broken: {broken.module}: {error}") + "\n")
    else:
        output.say(f"没有功能，请将 .py 文件放入 {folder} / There are no functions: put .py files into {folder}")
    if listing.broken:
        names = ", ".join(b.module for b in listing.broken)
        raise click.ClickException(
            f"有模块无法加载（--format json 显示全部错误） / Broken, --format json tells all: {names}"
        )


@function.command()
@click.argument("name")
@click.option("--arguments", metavar="JSON", help="参数 / The arguments, a JSON object.")
@click.option("--arguments-file", metavar="FILE", help="参数文件 / A file with the arguments; - is standard input.")
@click.option("--card", "card_id", help="以哪张卡密的名义 / The card to call it as; the rules are not applied.")
@program_option()
@pass_session
def run(  # noqa: PLR0913  # one argument an option
    session: Session, name: str, arguments: str | None, arguments_file: str | None, card_id: str | None, program: str
) -> None:
    """运行功能并打印结果 / Run a function and print its result, or its traceback."""
    if arguments is not None and arguments_file is not None:
        raise click.UsageError(
            "--arguments 与 --arguments-file 只能用一个 / Give --arguments or --arguments-file, not both"
        )
    text = ("{}" if arguments is None else arguments).encode()
    if arguments_file is not None:
        with click.open_file(arguments_file, "rb") as source:
            text = source.read()
    ran = _client(session).call(name, _object(text), _caller(session, card_id, program))
    _say_lines(ran.printed)
    match ran.outcome:
        case Returned(result):
            output.print_json(result)
        case Invalid(field, message):
            what = f"{field}: {message}" if message else field
            raise click.ClickException(f"参数有误 / The arguments are invalid: {what}")
        case NotFound():
            raise click.ClickException(f"没有功能 {name} / There is no function {name}: cardctl function list")
        case TimedOut(detail):
            _say_lines(detail)
            limit = session.settings.function_seconds
            raise click.ClickException(f"执行超过 {limit} 秒，已终止 / It took longer than {limit} s and was ended")
        case Failed(detail):
            _say_lines(detail)
            raise click.ClickException("功能执行失败 / The function failed")


def _say_lines(text: str) -> None:
    for line in text.splitlines():
        output.say(line)


def _object(text: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"参数必须是 JSON 对象 / The arguments must be a JSON object: {error}") from error


def _caller(session: Session, card_id: str | None, program: str) -> Caller:
    if card_id is None:
        return Caller(_NOBODY, _NOBODY, None, program)
    card = session.cards.get(card_id)
    return Caller(card.id, _NOBODY if card.client is None else card.client.id, card.expires_at, card.program)


@function.command()
def install() -> None:
    """安装依赖 / Install the packages of requirements.txt in the functions folder, and load all modules again."""
    # Without settings and database: it runs in a container that has no secrets.
    folder, socket = os.environ.get("KADUN_FUNCTIONS_DIR"), os.environ.get("KADUN_FUNCTIONS_SOCKET")
    if not folder:
        raise SettingsError("KADUN_FUNCTIONS_DIR is not set")
    target = requirements.install(Path(folder))
    output.say(f"已安装到 / Installed into {target}")
    if socket:
        _show(FunctionsClient(Path(socket), 0).reload(), "table")
