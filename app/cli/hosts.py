"""`cardctl hosts`."""

import click

from app.cli import output
from app.cli.context import Session, format_option, pass_session
from app.domain.hosts import SHOWN, HostReport
from app.services.formatting import escaped, local

_HEADINGS = (
    *("主机 host", "版本 version", "数据库结构 schema", "签名密钥 kid", "核心功能 functions"),
    *("时钟偏差 clock (ms)", "最近报告 last seen", "状态 state"),
)


@click.command()
@click.option("--forget", metavar="NAME", help="删除已撤下的主机 / Forget a host that was taken away.")
@format_option("table", "json")
@pass_session
def hosts(session: Session, forget: str | None, output_format: str) -> None:
    """列出使用此数据库的主机 / List the machines that serve this database, as each reports itself."""
    if forget is not None:
        if not session.hosts.forget(forget):
            raise click.ClickException(f"没有主机 {forget} / There is no host {forget}")
        output.say(f"已删除 / Forgotten: {forget}")
        return
    listed = session.hosts.listed()
    if output_format == "json":
        output.print_json_list(_record(host, session) for host in listed)
        return
    if not listed:
        output.say("还没有主机报告 / No host has reported yet")
        return
    output.print_table(_HEADINGS, (_row(host, session) for host in listed))
    for text in session.hosts.faults(listed):
        output.say(escaped(f"注意 / warning: {text}"))


def _record(host: HostReport, session: Session) -> dict[str, object]:
    return {
        "name": host.name,
        "version": host.version,
        "schema": host.schema,
        "kid": host.kid,
        "functions_sha256": host.functions_sha256,
        "clock_offset_ms": host.clock_offset_ms,
        "seen_at": local(host.seen_at, session.zone),
        "present": host.is_present,
    }


def _row(host: HostReport, session: Session) -> tuple[object, ...]:
    return (
        host.name,
        host.version,
        host.schema,
        (host.kid or "?")[:SHOWN],
        (host.functions_sha256 or "?")[:SHOWN],
        host.clock_offset_ms,
        local(host.seen_at, session.zone),
        "在线 present" if host.is_present else "离线 away",
    )
