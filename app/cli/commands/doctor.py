"""`cardctl doctor`."""

import os
import sys
from collections import Counter
from dataclasses import asdict
from typing import BinaryIO

import click
import msgspec

from app.cli import output
from app.cli.context import format_option
from app.services.formatting import escaped
from app.services.system.doctor.checks import run_checks
from app.services.system.doctor.facts import AllFacts, HostFacts
from app.services.system.doctor.gather import gather
from app.services.system.doctor.results import Status


@click.command()
@click.option(
    "--host-facts",
    "source",
    type=click.File("rb"),
    hidden=True,  # facts of the host, from scripts/cardctl
)
@click.option("--host-only", is_flag=True, hidden=True)  # the service is down
@format_option("text", "json")
def doctor(source: BinaryIO | None, output_format: str, *, host_only: bool) -> None:
    """全面检查 / Check the whole installation; exit 1 when something is wrong (FAIL)."""
    if host_only and source is None:
        raise click.UsageError("--host-only needs --host-facts")
    host = None if source is None else _read(source)
    results = run_checks(AllFacts(host) if host_only else gather(os.environ, host))
    if output_format == "json":
        output.print_json_list({"check": check} | asdict(result) for check, result in results.items())
    else:
        width = max(map(len, results))
        for check, result in results.items():
            line = f"{result.status:<4}  {check:<{width}}  {result.message_zh} / {result.message_en}"
            sys.stdout.write(escaped(line) + "\n")
    counts = Counter(result.status for result in results.values())
    summary = ", ".join(f"{counts[status]} {status}" for status in Status)
    if counts[Status.FAIL]:
        raise click.ClickException(f"发现问题 / Something is wrong: {summary}")
    if output_format == "text":
        output.say(f"没有发现错误 / Nothing is wrong: {summary}")


def _read(source: BinaryIO) -> HostFacts:
    try:
        # An invalid byte, in a file's name perhaps, spoils no more than itself.
        return msgspec.json.decode(source.read().decode(errors="replace"), type=HostFacts)
    except msgspec.MsgspecError as error:
        raise click.ClickException(f"主机信息有误 / The host facts are malformed: {error}") from error
