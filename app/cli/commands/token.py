"""`cardctl token …`."""

import sys
from datetime import timedelta
from typing import Any

import click

from app.cli import output
from app.cli.context import Session, format_option, pass_session, program_option, together
from app.cli.durations import NEVER, Duration, ceiling_options, in_words
from app.domain.operators.ceilings import TOKEN_DEFAULTS, Ceilings, format_longest
from app.domain.operators.operators import Scope
from app.domain.operators.token_limits import DEFAULT_LIFE, TokenLimits, default_limits, read_networks
from app.runtime.clock import utc_now
from app.services.shop.shop_tokens import ShopTokens

ANY = "any"


def _scopes(_ctx: Any, _param: Any, value: str) -> list[Scope]:  # noqa: ANN401  # click's signature
    try:
        return [Scope(scope.strip()) for scope in value.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"可选 / choose from {', '.join(Scope)}") from error


@click.group()
def token() -> None:
    """发卡平台的令牌 / Tokens of shops, for the API at /v1/shop/."""


_limit_options = together(
    ceiling_options,
    click.option(
        "--own-cards/--all-cards", default=None, help="仅限自己发的卡密，或全部 / Its own cards only, or all cards."
    ),
    click.option(
        "--expires", type=Duration(NEVER), help=f"有效期，从现在起；{NEVER} 为永久 / From now; {NEVER} for no end."
    ),
    click.option(
        "--network",
        "networks",
        multiple=True,
        help=f"允许的地址或网段，可多次；{ANY} 为不限 / Works from there only, may be given several times; "
        f"{ANY}: from everywhere.",
    ),
)
"""Set a token's limits; `_changed` reads them."""


def _changed(limits: TokenLimits, options: dict[str, Any]) -> TokenLimits:
    given = Ceilings(options["cards_per_day"], options["longest_validity"]).given()
    if options["own_cards"] is not None:
        given["own_cards_only"] = options["own_cards"]
    if options["expires"] is not None:
        lasting = options["expires"]
        given["expires_at"] = utc_now() + lasting if isinstance(lasting, timedelta) else None
    if options["networks"]:
        given["networks"] = None if options["networks"] == (ANY,) else read_networks(options["networks"])
    return limits._replace(**given)


@token.command(
    epilog=f"默认 / Unless given: {in_words(TOKEN_DEFAULTS)}, its own cards only, expires in {DEFAULT_LIFE.days}d"
)
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    metavar="SCOPES",
    callback=_scopes,
    required=True,
    help=f"权限，以逗号分隔 / Separated by commas: {', '.join(Scope)}",
)
@_limit_options
@program_option(None)
@pass_session
def add(session: Session, /, name: str, scopes: list[Scope], program: str | None, **options: Any) -> None:  # noqa: ANN401  # of `_limit_options`
    """新建令牌，仅显示一次 / Make a token and print it, only once."""
    chosen = _changed(default_limits(utc_now()), options)._replace(program=program)
    token_text = session.acting(ShopTokens).add(name, scopes, chosen)
    sys.stdout.write(f"{token_text}\n")
    output.say("请立即保存，令牌不会再次显示 / Save it now: it is not shown again")


@token.command()
@click.argument("name")
@_limit_options
@pass_session
def limits(session: Session, /, name: str, **options: Any) -> None:  # noqa: ANN401  # of `_limit_options`
    """更改令牌的限制 / Change a token's limits, from its next request on; what is not given stays."""
    if not any(value not in {None, ()} for value in options.values()):
        raise click.UsageError("没有要更改的 / Nothing to change: see --help")
    tokens = session.acting(ShopTokens)
    tokens.set_limits(name, _changed(tokens.limits(name), options))
    output.say(f"已更改 {name} 的限制 / Changed the limits of {name}")


@token.command("list")
@format_option("table", "json")
@pass_session
def list_tokens(session: Session, output_format: str) -> None:
    """列出令牌 / List the tokens by name; the tokens themselves are not stored."""
    listed = output.records(
        session.acting(ShopTokens).list(),
        _COLUMNS,
        session.zone,
        lambda shop: {
            "scopes": [scope.value for scope in Scope if scope in shop.scopes],
            "longest_validity": format_longest(shop.longest_validity),
            "networks": shop.networks or [],
        },
    )
    output.print_records(listed, _COLUMNS, output_format, "没有令牌 / No tokens")


@token.command()
@click.argument("name")
@pass_session
def revoke(session: Session, name: str) -> None:
    """吊销令牌 / Revoke a token at once."""
    session.acting(ShopTokens).revoke(name)
    output.say(f"已吊销 {name} / Revoked {name}")


_COLUMNS = (
    *("name", "scopes", "created_at", "last_used_at", "revoked_at", "cards_per_day", "longest_validity"),
    *("own_cards_only", "expires_at", "networks", "program"),
)
