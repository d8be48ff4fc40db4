"""`cardctl admin …`."""

import sys
from datetime import timedelta

import click

from app.cli import output
from app.cli.context import Session, format_option, pass_session
from app.cli.durations import ceiling_options, in_words
from app.domain.operators.ceilings import MAX_CHANGES_PER_DAY, OPERATOR_DEFAULTS, Ceilings, format_longest
from app.domain.operators.operators import Role
from app.domain.texts import RefusedError
from app.services.operators.operators import Operators


@click.group()
def admin() -> None:
    """后台管理员 / Operators of the console at /admin."""


@admin.command(
    epilog="默认上限 / Unless given: "
    + "; ".join(f"{role} {in_words(each)}" for role, each in OPERATOR_DEFAULTS.items())
)
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice([role.value for role in Role]),
    default=Role.OWNER.value,
    show_default=True,
    help="角色 / owner: everything; seller: issues and looks up.",
)
@ceiling_options
@pass_session
def add(session: Session, name: str, role: str, cards_per_day: int | None, longest_validity: timedelta | None) -> None:
    """添加管理员 / Add an operator; the password is typed on the terminal or is a line of standard input."""
    operators = session.acting(Operators)
    operators.add(name, Role(role), _password(), Ceilings(cards_per_day, longest_validity))
    output.say(f"已添加 {name}（{role}） / Added {name} ({role})")


@admin.command()
@click.argument("name")
@click.option("--reset-totp", is_flag=True, help="同时停用两步验证 / Also switch one-time codes off.")
@pass_session
def password(session: Session, name: str, *, reset_totp: bool) -> None:
    """更改密码，所有登录随之失效 / Change a password; the operator is logged out everywhere."""
    operators = session.acting(Operators)
    operators.set_password(name, _password(), reset_totp=reset_totp)
    output.say(f"已更改 {name} 的密码 / Changed the password of {name}")


@admin.command()
@click.argument("name")
@ceiling_options
@click.option(
    "--changes-per-day",
    type=click.IntRange(0, MAX_CHANGES_PER_DAY),
    help="销售每天可解绑、换绑自己卡密的张数 / A seller unbinds and moves so many of their own cards a day; 0: none.",
)
@pass_session
def ceilings(
    session: Session,
    name: str,
    cards_per_day: int | None,
    longest_validity: timedelta | None,
    changes_per_day: int | None,
) -> None:
    """更改上限 / Change an operator's ceilings; one that is not given stays."""
    wanted = Ceilings(cards_per_day, longest_validity, changes_per_day)
    if wanted == Ceilings():
        raise click.UsageError("请给出 / Give --cards-per-day, --longest-validity, --changes-per-day")
    session.acting(Operators).set_ceilings(name, wanted)
    output.say(f"已更改 {name} 的上限 / Changed the ceilings of {name}")


@admin.command("list")
@format_option("table", "json")
@pass_session
def list_operators(session: Session, output_format: str) -> None:
    """列出管理员 / List the operators."""
    listed = output.records(
        session.acting(Operators).list(),
        _COLUMNS,
        session.zone,
        lambda account: {"totp": account.has_totp, "longest_validity": format_longest(account.longest_validity)},
    )
    output.print_records(listed, _COLUMNS, output_format, "没有管理员，后台未启用 / No operators: the console is off")


@admin.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="最后一位 owner 也可移除 / Remove even the last owner.")
@pass_session
def remove(session: Session, names: tuple[str, ...], *, force: bool) -> None:
    """移除管理员 / Remove operators, all or none."""
    session.acting(Operators).remove(*names, force=force)
    output.say(f"已移除 {'、'.join(names)} / Removed {', '.join(names)}")


_COLUMNS = (
    *("name", "role", "totp", "created_at", "password_changed_at", "last_seen_at"),
    *("cards_per_day", "longest_validity", "changes_per_day"),
)


def _password() -> str:
    """Read a password: twice and unseen from a terminal, else a line of standard input."""
    if sys.stdin.isatty():
        typed: str = click.prompt("密码 / Password", hide_input=True, confirmation_prompt="再输一次 / Again", err=True)
        return typed
    try:
        line = sys.stdin.buffer.readline().decode()
    except UnicodeDecodeError as error:
        raise RefusedError("标准输入的密码不是 UTF-8", "the password on standard input is not UTF-8") from error
    if not line:
        raise RefusedError("标准输入中没有密码", "there is no password on standard input")
    return line.rstrip("\r\n")
