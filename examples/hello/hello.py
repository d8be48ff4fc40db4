"""汇率换算: a small program that requires a valid card.

Its table of rates (core.json) is shipped sealed, as core.json.age, and the key comes with the server's verdict.
Exit status: 0 done, 1 a problem with the card, the server or the files, 2 usage.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING

from kadun import PLATFORM_FOLDER, Client, KadunError

if TYPE_CHECKING:
    from datetime import datetime

    from kadun import Verdict

TEXTS = {
    "zh": {
        "card": "请输入卡密：",
        "activated": "卡密已激活",
        "until": "卡密有效，有效期至 {time}",
        "permanent": "卡密有效，永久卡",
        "offline": "离线使用，最迟 {time} 前需要联网一次",
        "result": "{amount} {source} = {result} {target}（{title}，{date}）",
        "unknown": "汇率表里没有 {currency}，可选：{known}",
        "table": "核心数据里没有汇率表",
        "failed": "无法使用：{message}",
        "file": "无法读取文件：{message}",
        "wrong": "配置有误：{message}",
    },
    "en": {
        "card": "Your card: ",
        "activated": "The card is now activated",
        "until": "The card is valid until {time}",
        "permanent": "The card is valid permanently",
        "offline": "Offline; connect to the network before {time}",
        "result": "{amount} {source} = {result} {target} ({title}, {date})",
        "unknown": "The table has no {currency}; it has: {known}",
        "table": "The core data contains no table of rates",
        "failed": "Cannot run: {message}",
        "file": "Cannot read a file: {message}",
        "wrong": "The settings are wrong: {message}",
    },
}
LARGEST_AMOUNT = Decimal(10) ** 12


class CannotConvertError(Exception):
    """The core data does not contain what the customer asked for."""


def main() -> int:
    """Run the program and report each failure in one line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console without Chinese: question marks, no traceback
    chosen = arguments()
    texts = TEXTS[chosen.language]
    try:
        run(chosen, texts)
    except KadunError as error:
        complaint = texts["failed"].format(message=error)
    except OSError as error:
        complaint = texts["file"].format(message=error)
    except ValueError as error:
        complaint = texts["wrong"].format(message=error)
    except CannotConvertError as error:
        complaint = str(error)
    else:
        return 0
    print(complaint, file=sys.stderr)
    return 1


def run(chosen: argparse.Namespace, texts: dict[str, str]) -> None:
    """Open the card, unseal the table, and convert the amount."""
    client = Client(
        chosen.server,
        public_keys=Path(chosen.keys).read_text(encoding="utf-8"),
        card_id=chosen.card,
        hardware=chosen.hardware or None,
        language=chosen.language,
        ca_file=chosen.ca or None,
        state_dir=chosen.state or PLATFORM_FOLDER,
        program="kadun-hello",
    )
    verdict = client.open()
    welcome(verdict, texts)
    core = client.unseal(chosen.core)
    if not verdict.offline:
        client.report("汇率换算")
    print(convert(core, chosen, texts))


def welcome(verdict: Verdict, texts: dict[str, str]) -> None:
    """Show how long the card is valid."""
    if verdict.activated:
        print(texts["activated"])
    if verdict.card_expires_at is None:
        print(texts["permanent"])
    else:
        print(texts["until"].format(time=local(verdict.card_expires_at)))
    if verdict.offline and verdict.offline_until is not None:
        print(texts["offline"].format(time=local(verdict.offline_until)))


def local(time: datetime) -> str:
    """Format a time in the customer's time zone, with its offset."""
    return f"{time.astimezone():%Y-%m-%d %H:%M %z}"


def convert(core: bytes, chosen: argparse.Namespace, texts: dict[str, str]) -> str:
    """Convert the amount with the rates of the core data."""
    try:
        table = json.loads(core)
        rates = {currency: Decimal(rate) for currency, rate in table["rates"].items()}
        title, date = table["title"], table["date"]
        if min(rates.values()) <= 0:
            raise ValueError("a rate must be positive")  # noqa: TRY301 - one handler for all errors
    except (ValueError, TypeError, KeyError, AttributeError, InvalidOperation):  # not the data that the vendor sealed
        raise CannotConvertError(texts["table"]) from None
    for currency in (chosen.source, chosen.target):
        if currency not in rates:
            raise CannotConvertError(texts["unknown"].format(currency=currency, known=" ".join(rates)))
    result = (chosen.amount * rates[chosen.source] / rates[chosen.target]).quantize(Decimal("0.01"))
    return texts["result"].format(result=result, title=title, date=date, **vars(chosen))


def arguments() -> argparse.Namespace:
    """Parse the command line; most options can also be set in the environment."""
    parser = argparse.ArgumentParser(description="汇率换算示例 / a currency converter behind a card")
    for name, help_text in {
        "server": "服务器地址 / the card server, such as http://127.0.0.1:8000",
        "card": "卡密，不给则询问 / the card; asked for if absent",
        "keys": "固定公钥 / pinned public keys: the output of `cardctl key export`",
        "core": "加密的核心数据 / core data, sealed with `cardctl seal`",
        "ca": "私有根证书 / a private CA's PEM file",
        "hardware": "自定机器码 / a machine string of your own",
        "state": "状态文件夹 / a folder for state, instead of the system's own",
    }.items():
        parser.add_argument(f"--{name}", default=os.environ.get(f"KADUN_{name.upper()}"), help=help_text)
    language = "en" if os.environ.get("KADUN_LANGUAGE") == "en" else "zh"
    parser.add_argument("--language", choices=sorted(TEXTS), default=language)
    parser.add_argument("--amount", type=amount, default=Decimal(100), help="金额 / amount (100)")
    parser.add_argument("--from", dest="source", default="USD", help="原币种 / from which currency (USD)")
    parser.add_argument("--to", dest="target", default="CNY", help="目标币种 / to which currency (CNY)")
    chosen = parser.parse_args()
    if not chosen.card and sys.stdin.isatty():
        chosen.card = input(TEXTS[chosen.language]["card"])
    for name in ("server", "card", "keys", "core"):
        if not getattr(chosen, name):
            parser.error(f"缺少参数 / missing: --{name}")
    return chosen


def amount(text: str) -> Decimal:
    """Parse a decimal number of reasonable size."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or abs(number) > LARGEST_AMOUNT:
        raise argparse.ArgumentTypeError(f"{text!r}: 请输入数字 / must be a number")
    return number


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (KeyboardInterrupt, EOFError):  # at the prompt for the card
        sys.exit(1)
