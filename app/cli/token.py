"""`cardctl token …`."""

import sys
from typing import Any

import click

from app.cli import output
from app.cli.context import Session, format_option, pass_session
from app.domain.operators import Scope
from app.services.formatting import local


class Scopes(click.ParamType[list[Scope]]):
    """Scopes, separated by commas."""

    name = "scopes"

    def convert(self, value: Any, param: Any, ctx: Any) -> list[Scope]:  # noqa: ANN401  # click's signature
        """Return the scopes."""
        try:
            return [Scope(scope.strip()) for scope in value.split(",")]
        except ValueError:
            self.fail(f"可选 / choose from {', '.join(Scope)}", param, ctx)


@click.group()
def token() -> None:
    """发卡平台的令牌 / Tokens of shops, for the API at /v1/shop/."""


@token.command()
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=Scopes(),
    required=True,
    help=f"权限，以逗号分隔 / Separated by commas: {', '.join(Scope)}",
)
@pass_session
def add(session: Session, name: str, scopes: list[Scope]) -> None:
    """新建令牌，仅显示一次 / Make a token and print it, only once."""
    sys.stdout.write(session.shop_tokens.add(name, scopes) + "\n")
    output.say("请立即保存，令牌不会再次显示 / Save it now: it is not shown again")


@token.command("list")
@format_option("table", "json")
@pass_session
def list_tokens(session: Session, output_format: str) -> None:
    """列出令牌 / List the tokens by name; the tokens themselves are not stored."""
    rows = [
        {
            "name": shop.name,
            "scopes": [scope.value for scope in Scope if scope in shop.scopes],
            "created_at": local(shop.created_at, session.zone),
            "last_used_at": local(shop.last_used_at, session.zone),
            "revoked_at": local(shop.revoked_at, session.zone),
        }
        for shop in session.shop_tokens.list()
    ]
    output.print_records(rows, _HEADINGS, output_format, "没有令牌 / No tokens")


@token.command()
@click.argument("name")
@pass_session
def revoke(session: Session, name: str) -> None:
    """吊销令牌 / Revoke a token at once."""
    session.shop_tokens.revoke(name)
    output.say(f"已吊销 {name} / Revoked {name}")


_HEADINGS = ("名称 name", "权限 scopes", "新建 made", "最近使用 last used", "吊销 revoked")
