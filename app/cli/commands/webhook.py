"""`cardctl webhook …`."""

import sys

import click

from app.cli import output
from app.cli.context import Session, format_option, operator_name, pass_session
from app.domain.webhooks import TOPICS
from app.runtime.clock import utc_now
from app.services.webhooks.webhooks import Webhooks
from app.tokens.sealing_key import SealingKey


@click.group()
def webhook() -> None:
    """事件通知的接收地址 / Addresses that are told of events, by signed HTTPS requests."""


def _webhooks(session: Session) -> Webhooks:
    return Webhooks(session.database, operator_name(), utc_now, SealingKey(session.settings.sealing_key))


@webhook.command()
@click.argument("name")
@click.argument("url")
@click.option(
    "--topic",
    "topics",
    multiple=True,
    required=True,
    type=click.Choice([topic.value for topic in TOPICS]),
    help="类型，可多次 / May be given several times.",
)
@pass_session
def add(session: Session, name: str, url: str, topics: tuple[str, ...]) -> None:
    """添加，签名密钥仅显示一次 / Add a webhook, and print its secret, only once."""
    sys.stdout.write(_webhooks(session).add(name, url, topics) + "\n")
    output.say("请立即保存，密钥不会再次显示 / Save it now: it is not shown again")


@webhook.command("list")
@format_option("table", "json")
@pass_session
def list_webhooks(session: Session, output_format: str) -> None:
    """列出 / List the webhooks by name; their secrets are not shown."""
    columns = ("name", "url", "topics", "created_at", "paused_at", "failures", "waiting", "dropped")
    listed = output.records(_webhooks(session).list(), columns, session.zone)
    output.print_records(listed, columns, output_format, "没有 Webhook / No webhooks")


@webhook.command()
@click.argument("name")
@format_option("table", "json")
@pass_session
def log(session: Session, name: str, output_format: str) -> None:
    """最近的消息 / List the latest messages, the newest first."""
    columns = (
        *("id", "topic", "created_at", "attempts", "attempted_at", "next_at", "delivered_at", "failed_at"),
        *("status", "error"),
    )
    webhooks = _webhooks(session)
    messages = webhooks.messages(webhooks.find(name))
    listed = output.records(messages, columns, session.zone, lambda message: {"id": message.message_id})
    output.print_records(listed, columns, output_format, "没有消息 / No messages")


@webhook.command()
@click.argument("name")
@pass_session
def pause(session: Session, name: str) -> None:
    """暂停 / Pause a webhook: nothing is sent, and nothing new is noted for it."""
    _webhooks(session).set_paused(name, paused=True)
    output.say(f"已暂停 {name} / Paused {name}")


@webhook.command()
@click.argument("name")
@pass_session
def resume(session: Session, name: str) -> None:
    """恢复 / Resume a webhook."""
    _webhooks(session).set_paused(name, paused=False)
    output.say(f"已恢复 {name} / Resumed {name}")


@webhook.command()
@click.argument("name")
@pass_session
def secret(session: Session, name: str) -> None:
    """更换签名密钥，旧的立即失效 / Replace the secret at once, and print the new one, only once."""
    sys.stdout.write(_webhooks(session).renew_secret(name) + "\n")
    output.say("请立即保存，密钥不会再次显示 / Save it now: it is not shown again")


@webhook.command()
@click.argument("name")
@pass_session
def test(session: Session, name: str) -> None:
    """发送测试消息 / Have a test message sent, and print its ID."""
    sys.stdout.write(_webhooks(session).test(name) + "\n")
    output.say("几秒内发送，结果见 / Sent within seconds; see: cardctl webhook log")


@webhook.command()
@click.argument("name")
@click.argument("message_id", metavar="ID")
@pass_session
def again(session: Session, name: str, message_id: str) -> None:
    """重新发送一条消息 / Have a message sent again, under the same ID."""
    _webhooks(session).send_again(name, message_id)
    output.say("几秒内发送，结果见 / Sent within seconds; see: cardctl webhook log")


@webhook.command()
@click.argument("name")
@pass_session
def remove(session: Session, name: str) -> None:
    """删除，连同其消息 / Remove a webhook and its messages."""
    _webhooks(session).remove(name)
    output.say(f"已删除 {name} / Removed {name}")
