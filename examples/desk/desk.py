"""运费报价: a small program for a shop's desk that requires a valid card.

Its rates (tariff.json) are shipped sealed, and the key comes with the server's verdict. It asks for the card once,
starts offline if the vendor allows it, and notices while it runs that the card is no longer valid. It shows the
vendor's notice, offers updates, and lets customers renew and unbind their cards.
Exit status: 0 done, 1 a problem with the card, the server or the files, 2 usage.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import shop
from console import Console
from kadun import CardRejected, Client, Heartbeat, KadunError, RequestRefused, UpdateRequired
from remembered import RememberedCard
from selfservice import SelfService
from tariff import Tariff
from texts import TEXTS
from updates import Updates

if TYPE_CHECKING:
    from datetime import datetime
    from typing import Callable

    from kadun import Verdict

HERE = Path(__file__).resolve().parent  # also in a packaged program: PyInstaller puts --add-data there


class Desk:
    """One run of the program."""

    def __init__(self, language: str) -> None:
        """Set the language of all messages."""
        self._language = language
        self._console = Console(language)
        self._updates = Updates(self._console)
        self._self_service = SelfService(self._console)
        self._remembered = RememberedCard(shop.PROGRAM)
        self._quotes: list[str] = []
        self._refused = False

    def run(self) -> int:
        """Open the card, unseal the rates, and quote until the customer leaves."""
        opened = self._opened(self._remembered.read())
        if opened is None:
            return 1
        client, verdict = opened
        self._welcome(verdict)
        tariff = Tariff(client.unseal(HERE / shop.CORE))
        self._show_help(tariff)
        first: Verdict | None = verdict
        while self._serve(client, tariff, first):
            unbound = self._self_service.unbind(client)
            if unbound:
                self._forget()
            if unbound is not False:  # unbound, or possibly: a heartbeat would bind the card to this machine again
                return 0 if unbound else 1
            first = None  # the heartbeat asks at once
        return 1 if self._refused else 0

    def _opened(self, card: str) -> tuple[Client, Verdict] | None:
        """Open with the remembered card, or with one that the customer types; return None if the customer gives up."""
        while card := card or self._console.ask("card"):
            client = self._client(card)
            try:
                verdict = client.open()
            except UpdateRequired as error:
                self._updates.require(error)
                return None
            except (
                CardRejected,
                RequestRefused,
            ) as error:  # another card, or the same without a typing error, may work
                self._console.complain("failed", error.message)
                expired = shop.SELF_SERVICE and error.code == "CARD_EXPIRED"
                card = card if expired and self._self_service.renew(client) else ""
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
            version=shop.VERSION,
        )

    def _remember(self, card: str) -> None:
        try:
            self._remembered.write(card)
        except OSError as failure:
            self._console.complain("not_remembered", failure)

    def _welcome(self, verdict: Verdict) -> None:
        if verdict.activated:
            self._console.say("activated")
        self._show_expiry(verdict)
        if verdict.offline and verdict.offline_until is not None:
            self._console.say("offline", time=_local(verdict.offline_until))
        self._updates.show(verdict)

    def _show_expiry(self, verdict: Verdict) -> None:
        if verdict.card_expires_at is None:
            self._console.say("permanent")
        else:
            self._console.say("until", time=_local(verdict.card_expires_at))

    def _show_help(self, tariff: Tariff) -> None:
        if shop.SELF_SERVICE:
            self._console.say("help_self_service")
        self._console.say("help", zones=" ".join(tariff.zones))

    def _serve(self, client: Client, tariff: Tariff, verdict: Verdict | None) -> bool:
        """Serve the customer, with a heartbeat. Return whether the customer wants to unbind; otherwise to leave."""
        with Heartbeat(client, interval_seconds=shop.HEARTBEAT_SECONDS, on_rejected=self._on_rejected, verdict=verdict):
            while (line := self._console.ask("prompt")) and not self._refused:
                if not (shop.SELF_SERVICE and line in ("解绑", "unbind")):
                    self._carry_out(line, client, tariff)
                elif self._self_service.wants_to_unbind():
                    return True
        return False

    def _carry_out(self, line: str, client: Client, tariff: Tariff) -> None:
        if line in ("导出", "export"):
            self._online(lambda: self._export(client))
        elif line in ("更新", "update"):
            self._updates.open_page()
        elif shop.SELF_SERVICE and line in ("续费", "renew"):
            if self._self_service.renew(client):
                self._online(lambda: self._show_expiry(client.report("续费")))
        else:
            self._quote(line, tariff)

    def _quote(self, line: str, tariff: Tariff) -> None:
        try:
            zone, weight = line.split()
            price = tariff.price(zone, weight)
        except ValueError:
            self._console.complain("unknown", line)
            return
        self._quotes.append(self._console.text("quote", zone=zone, weight=weight, price=price))
        print(self._quotes[-1])

    def _export(self, client: Client) -> None:
        """Save the quotes. The vendor counts exports, so this works online only."""
        path = Path.cwd() / "quotes.txt"
        client.report("导出报表")
        path.write_text("".join(f"{quote}\n" for quote in self._quotes), encoding="utf-8")
        self._console.say("exported", count=len(self._quotes), path=path)

    def _online(self, work: Callable[[], None]) -> None:
        """Do something that needs the server."""
        try:
            work()
        except CardRejected as error:
            self._on_rejected(error)
        except KadunError as failure:
            self._console.complain("failed", failure.message)
        except OSError as failure:
            self._console.complain("file", failure)

    def _forget(self) -> None:
        """Forget the unbound card here: the next start would bind it to this machine again."""
        self._console.say("unbound")
        try:
            self._remembered.forget()
        except OSError as failure:
            self._console.complain("file", failure)

    def _on_rejected(self, error: CardRejected) -> None:
        """Show the reason at once, also from the heartbeat's thread; the next line that is typed ends the program."""
        self._refused = True
        self._console.complain("failed", error.message)


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
    console = Console(language)
    try:
        return Desk(language).run()
    except KadunError as failure:
        console.complain("failed", failure.message)
    except OSError as failure:
        console.complain("file", failure)
    except ValueError as failure:
        console.complain("wrong", failure)
    return 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(1)
