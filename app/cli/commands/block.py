"""`cardctl block …`."""

import click

from app.cli import output
from app.cli.context import Session, format_option, pass_session
from app.services.licence.blocks import Blocks


@click.group()
def block() -> None:
    """黑名单 / The machines and networks whose requests are refused."""


@block.command()
@click.option("--hardware", help="硬件信息，与客户端发送的完全一致 / A hardware string, exactly as sent.")
@click.option("--address", help="IP 地址，IPv6 指其 /64 / An address; an IPv6 address means its /64.")
@click.option("--network", help="网段 / A network, such as 203.0.113.0/24.")
@click.option("--reference", help="日志中的参考号，拉黑其设备 / Of a journal entry: blocks its machine.")
@click.option("--reason", required=True, help="原因 / Why.")
@pass_session
def add(  # noqa: PLR0913  # one option for each way to say what
    session: Session, hardware: str | None, address: str | None, network: str | None, reference: str | None, reason: str
) -> None:
    """添加 / Block a machine or a network."""
    blocks = session.acting(Blocks)
    ways = [
        (hardware, blocks.machine),
        (address, blocks.network),
        (network, blocks.network),
        (reference, blocks.machine_of),
    ]
    given = [(text, read) for text, read in ways if text is not None]
    if len(given) != 1:
        raise click.UsageError("Give one of --hardware, --address, --network and --reference.")
    ((text, read),) = given
    output.say(f"已拉黑，编号 / Blocked, number {blocks.add(read(text), reason)}")


@block.command("list")
@format_option("table", "json")
@pass_session
def list_blocks(session: Session, output_format: str) -> None:
    """列出 / List the blocks, the newest first."""
    blocks = session.acting(Blocks)
    hits = blocks.hits()
    columns = ("id", "hardware_sha256", "network", "reason", "actor", "created_at", "hits")
    listed = output.records(blocks.list(), columns, session.zone, lambda each: {"hits": hits.get(each.id, 0)})
    output.print_records(listed, columns, output_format, "黑名单为空 / Nothing is blocked")


@block.command()
@click.argument("block_id", metavar="ID", type=int)
@pass_session
def remove(session: Session, block_id: int) -> None:
    """移出 / Remove a block."""
    session.acting(Blocks).remove(block_id)
    output.say(f"已移出 / Removed: {block_id}")
