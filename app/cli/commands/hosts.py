"""`cardctl hosts`."""

from typing import Any

import click

from app.cli import output
from app.cli.context import Session, format_option, pass_session
from app.domain.hosts import differences, faults, is_present
from app.services.formatting import local
from app.services.system import hosts as reported

_COLUMNS = ("name", "version", "schema", "kid", "functions_sha256", "clock_offset_ms")
_DIFFERENT = " ≠"
_SHOWN = 12  # so many characters of an ID or a digest tell it from others


@click.command()
@click.option("--forget", metavar="NAME", help="删除已撤下的主机 / Forget a host that was taken away.")
@format_option("table", "json")
@pass_session
def hosts(session: Session, forget: str | None, output_format: str) -> None:
    """列出使用此数据库的主机 / List the machines that serve this database; ≠ marks what differs."""
    if forget is not None:
        if not reported.forget(session.database, forget):
            raise click.ClickException(f"没有主机 {forget} / There is no host {forget}")
        output.say(f"已删除 / Forgotten: {forget}")
        return
    listed = reported.listed(session.database)
    if output_format == "json":
        names = (*_COLUMNS, "seen_at", "present")
        present = output.records(listed, names, session.zone, lambda host: {"present": is_present(host)})
        output.print_json_list(present)
        return
    if not listed:
        output.say("还没有主机报告 / No host has reported yet")
        return
    different = differences(listed)
    headings = [output.heading(name) + _DIFFERENT * (name in different) for name in _COLUMNS]
    output.print_table([*headings, "最近报告 last seen", "状态 state"], (_row(host, session) for host in listed))
    for text in faults(listed):
        output.say(f"注意 / warning: {text}")


def _row(host: Any, session: Session) -> tuple[object, ...]:  # noqa: ANN401  # a row of the table
    return (
        host.name,
        host.version,
        host.schema,
        (host.kid or "?")[:_SHOWN],
        (host.functions_sha256 or "?")[:_SHOWN],
        host.clock_offset_ms,
        local(host.seen_at, session.zone),
        "在线 present" if is_present(host) else "离线 away",
    )
