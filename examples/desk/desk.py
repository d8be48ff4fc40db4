"""运费报价: a small program for a shop's desk that requires a valid card.

Its rates (tariff.json) are shipped sealed, and the key comes with the server's verdict. It asks for the card once,
starts offline if the vendor allows it, and notices while it runs that the card is no longer valid.
Exit status: 0 done, 1 a problem with the card, the server or the files, 2 usage.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import shop
from kadun import CardRejected, Client, Heartbeat, KadunError, RequestRefused
from remembered import RememberedCard
from tariff import Tariff
from texts import TEXTS

if TYPE_CHECKING:
    from datetime import datetime

    from kadun import Verdict

HERE = Path(__file__).resolve().parent  # also in a packaged program: PyInstaller puts --add-data there


class Desk:
    """One run of the program."""

    def __init__(self, language: str) -> None:
        """Set the language of all messages."""
        self._language = language
        self._texts = TEXTS[language]
        self._remembered = RememberedCard(shop.PROGRAM)
        self._refused = False

    def run(self) -> int:
        """Open the card, unseal the rates, and quote until the customer leaves."""
        opened = self._opened(self._remembered.read())
        if opened is None:
            return 1
        client, verdict = opened
        self._welcome(verdict)
        tariff = Tariff(client.unseal(HERE / shop.CORE))
        with Heartbeat(client, interval_seconds=shop.HEARTBEAT_SECONDS, on_rejected=self._on_rejected, verdict=verdict):
            self._serve(client, tariff)
        return 1 if self._refused else 0

    def _opened(self, card: str) -> tuple[Client, Verdict] | None:
        """Open with the remembered card, or with one that the customer types; return None if the customer gives up."""
        while card := card or self._ask("card"):
            client = self._client(card)
            try:
                verdict = client.open()
            except (
                CardRejected,
                RequestRefused,
            ) as error:  # another card, or the same without a typing error, may work
                self._complain("failed", error.message)
                card = ""
                continue
            self._remember(card)
            return client, verdict
        return None

    def _client(self, card: str) -> Client:
        return Client(
            shop.SERVER,
            public_keys=shop.PUBLIC_KEYS,
            card_id=card,
            hardware=shop.HARDWARE,
            language=self._language,
            ca_file=HERE / shop.CA_FILE if shop.CA_FILE else None,
            program=shop.PROGRAM,
        )

    def _remember(self, card: str) -> None:
        try:
            self._remembered.write(card)
        except OSError as failure:
            self._complain("not_remembered", failure)

    def _welcome(self, verdict: Verdict) -> None:
        if verdict.activated:
            print(self._texts["activated"])
        if verdict.card_expires_at is None:
            print(self._texts["permanent"])
        else:
            print(self._texts["until"].format(time=_local(verdict.card_expires_at)))
        if verdict.offline and verdict.offline_until is not None:
            print(self._texts["offline"].format(time=_local(verdict.offline_until)))

    def _serve(self, client: Client, tariff: Tariff) -> None:
        print(self._texts["help"].format(zones=" ".join(tariff.zones)))
        quotes: list[str] = []
        while (line := self._ask()) and not self._refused:
            if line in ("导出", "export"):
                self._export(client, quotes)
                continue
            try:
                zone, weight = line.split()
                price = tariff.price(zone, weight)
            except ValueError:
                self._complain("unknown", line)
                continue
            quotes.append(self._texts["quote"].format(zone=zone, weight=weight, price=price))
            print(quotes[-1])

    def _export(self, client: Client, quotes: list[str]) -> None:
        """Save the quotes. The vendor counts exports, so this works online only."""
        path = Path.cwd() / "quotes.txt"
        try:
            client.report("导出报表")
            path.write_text("".join(f"{quote}\n" for quote in quotes), encoding="utf-8")
        except CardRejected as error:
            self._on_rejected(error)
        except KadunError as failure:
            self._complain("failed", failure.message)
        except OSError as failure:
            self._complain("file", failure)
        else:
            print(self._texts["exported"].format(count=len(quotes), path=path))

    def _on_rejected(self, error: CardRejected) -> None:
        """Show the reason at once, also from the heartbeat's thread; the next line that is typed ends the program."""
        self._refused = True
        self._complain("failed", error.message)

    def _ask(self, text: str = "") -> str:
        """Read a line; an empty one leaves the program."""
        print(self._texts[text] if text else "> ", end="", flush=True)
        return sys.stdin.readline().strip()

    def _complain(self, text: str, message: object) -> None:
        print(self._texts[text].format(message=message, line=message), file=sys.stderr, flush=True)


def _local(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M %z}"


def main() -> int:
    """Run the program and report each failure in one line."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a console without Chinese: question marks, no traceback
    parser = argparse.ArgumentParser(description="运费报价示例 / shipping quotes behind a card")
    parser.add_argument("--language", choices=sorted(TEXTS), default="zh")
    language = parser.parse_args().language
    texts = TEXTS[language]
    try:
        return Desk(language).run()
    except KadunError as failure:
        complaint = texts["failed"].format(message=failure.message)
    except OSError as failure:
        complaint = texts["file"].format(message=failure)
    except ValueError as failure:
        complaint = texts["wrong"].format(message=failure)
    print(complaint, file=sys.stderr)
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(1)
