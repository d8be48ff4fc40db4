"""`cardctl terms …`."""

import click

from app.cli import output
from app.cli.context import Session, format_option, pass_session, program_option
from app.domain.licence.terms import Terms, write_term
from app.domain.texts import RefusedError
from app.services.licence.terms import VendorTerms


@click.group()
def terms() -> None:
    """商户条款 / The vendor's terms."""


@terms.command()
@program_option()
@format_option("table", "json")
@pass_session
def show(session: Session, program: str, output_format: str) -> None:
    """显示 / Show the terms in force."""
    _print(session.acting(VendorTerms).read(program)[1], output_format)


@terms.command("set")
@click.argument("changes", nargs=-1, required=True, metavar="NAME=VALUE…")
@program_option()
@format_option("table", "json")
@pass_session
def set_terms(session: Session, changes: tuple[str, ...], program: str, output_format: str) -> None:
    """修改，“NAME=” 恢复默认 / Change terms; `NAME=` sets the default again."""
    given = []
    for change in changes:
        name, equals, text = change.partition("=")
        if not equals:
            raise RefusedError(f"“{change}”须写成 NAME=VALUE", f"“{change}” must be written NAME=VALUE")
        given.append((name, text))
    _print(session.acting(VendorTerms).change(given, program=program), output_format)


def _print(terms: Terms, output_format: str) -> None:
    texts = terms.as_texts()
    if output_format == "json":
        output.print_json(texts)
    else:
        output.print_table(("条款 term", "值 value"), ((name, write_term(value)) for name, value in texts.items()))
