"""`cardctl doctor`."""

import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import BinaryIO

import click
import msgspec

from app.cli import output
from app.cli.context import format_option
from app.clock import utc_now
from app.services.doctor import CheckResult, Facts, HostFacts, Status, examine, examine_host
from app.services.doctor.gather import gather
from app.services.doctor.network import reference_of
from app.services.formatting import shown


@click.command()
@click.option(
    "--host-facts",
    "source",
    type=click.File("rb"),
    metavar="FILE",
    help="主机信息（scripts/cardctl 提供） / What scripts/cardctl learned of the host; - is standard input.",
)
@click.option("--host-only", is_flag=True, help="只看主机 / Nothing inside: the service is down.")
@format_option("text", "json")
def doctor(source: BinaryIO | None, output_format: str, *, host_only: bool) -> None:
    """全面检查 / Check the whole installation; exit 1 when something is wrong (FAIL)."""
    host = None if source is None else _read(source)
    if host_only:
        if host is None:
            raise click.UsageError("--host-only needs --host-facts")
        results = examine_host(host, utc_now())
    else:
        asked = () if host is None else host.proxy
        references = [reference for ask in asked if (reference := reference_of(ask.answer))]
        inside = gather(os.environ, references)
        results = examine(Facts(utc_now(), inside, host))
    _print(results, output_format)
    counts = Counter(result.status for result in results)
    summary = ", ".join(f"{counts[status]} {status}" for status in Status)
    if counts[Status.FAIL]:
        raise click.ClickException(f"发现问题 / Something is wrong: {summary}")
    if output_format == "text":
        output.say(f"没有发现错误 / Nothing is wrong: {summary}")


def _read(source: BinaryIO) -> HostFacts:
    try:
        # What is not UTF-8, a file's name perhaps, spoils no more than itself.
        return msgspec.json.decode(source.read().decode(errors="replace"), type=HostFacts)
    except msgspec.MsgspecError as error:
        raise click.ClickException(f"主机信息有误 / The host facts are malformed: {error}") from error


def _print(results: Sequence[CheckResult], output_format: str) -> None:
    if output_format == "json":
        output.print_json_list(asdict(result) for result in results)
        return
    width = max(len(result.check) for result in results)
    for f in results:
        line = f"{f.status:<4}  {f.check:<{width}}  {f.message_zh} / {f.message_en}"
        sys.stdout.write(shown(line) + "\n")
