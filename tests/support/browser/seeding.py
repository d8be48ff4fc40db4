"""A vendor's shop three weeks after it opened: cards in all states, who uses them, who shares them, who attacks.

What lies behind was done by the use cases themselves, under a clock that is moved on; what happens now, over HTTPS.
"""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from app.domain.cards.card_actions import Action
from app.domain.codes import Code, EventKind
from app.domain.licence.policy import VerificationRequest
from app.domain.operators.operators import Role, Scope
from app.runtime.clock import utc_now
from app.services.cards.card_actions import CardActions
from app.services.cards.issuing import Issuing
from app.services.licence.blocks import Blocks
from app.services.licence.licence import LicenceService, Verification
from app.services.licence.vendor_rules import VendorRules
from app.services.programs import DataKeys
from app.services.shop.shop_tokens import ShopTokens
from app.storage import journal, schema
from app.storage.batcher import Batcher
from app.storage.database import Database, connect_to
from app.storage.journal import Entry
from app.storage.models import Usage, WebhookOutbox
from app.storage.statements import PREPARED
from app.tokens.key_folder import KeyFolder
from app.tokens.sealing_key import SealingKey
from app.tokens.signer import Signer
from tests.conftest import START, Clock
from tests.support.browser.visits import Site
from tests.support.console.console import add_operator, add_outcome
from tests.support.console.console_scene import add_webhook
from tests.support.services.service import OPEN, question

OWNER, SELLER = "店主", "小李"
SHOP = "抖音小店"
HOOK = "发货系统"
LIVE, FESTIVAL, FIRMS = "抖音直播间", "双十一活动", "企业客户"
FESTIVAL_CARDS = 56  # more than a page has
_FUNCTIONS = ("批量改价", "自动回复", "图片去水印", "订单导出", "数据看板")
_FIRMS = ("北京朝阳科技", "上海浦江贸易（王总）", "广州白云电商", "深圳前海软件", "杭州西湖传媒", "成都锦江网络")
_TRACEBACK = """Traceback (most recent call last):
  File "/functions/export.py", line 31, in export
    price = prices[arguments.order]
KeyError: 'A-1042'"""
_DAYS = 20
_NEW_CARDS_A_DAY = 2


@dataclass
class Shop:
    """What a test needs to know of it. `live` is a card in use that several machines have tried."""

    live: str = ""
    unused: list[str] = field(default_factory=list)
    frozen: list[str] = field(default_factory=list)
    frozen_at: datetime = START
    """When the owner froze them, all at once."""
    freeze_form: str = ""
    """The key of the form by which the owner froze them."""
    issued_at: datetime = START
    """When the cards of `LIVE` were issued."""
    machines: dict[str, tuple[str, str]] = field(default_factory=dict)
    """By card: its machine's hardware and address."""


@contextmanager
def opened(site: Site) -> Iterator[Database]:
    url = site.service.environment["DATABASE_URL"]
    connected = connect_to(Database(url, prepared=PREPARED, on_connect=schema.check_version))
    connected.connect()
    yield connected
    connected.close()


def seed(site: Site) -> Shop:
    """Open the shop. The operators are `OWNER` and `SELLER`; their password is `console.PASSWORD`."""
    with opened(site) as database:
        add_operator(OWNER)
        add_operator(SELLER, Role.SELLER)
        ShopTokens(database, f"console:{OWNER}", utc_now).add(SHOP, [Scope.CARDS_ISSUE, Scope.CARDS_READ])
        _add_webhook(utc_now())
        blocks = Blocks(database, f"console:{OWNER}", utc_now)
        blocks.add(blocks.machine("CRACKED-BOX"), "破解版程序")
        blocks.add(blocks.network("192.0.2.128/28"), "批量猜卡")
        shop = _Past(site, database).live_through()
    _live_today(site, shop)
    return shop


def _add_webhook(now: datetime) -> None:
    """One with messages that were delivered and given up, to which activations add no others."""
    topics = ["card.expiring", "card.shared"]
    url = "https://shop.invalid/kadun/events?key=1"
    webhook = add_webhook(HOOK, now, url=url, topics=topics, failures=3, dropped=2)
    for number in range(6):
        at = now - timedelta(minutes=number)
        done = {"delivered_at": at, "status": 204} if number % 2 else {"failed_at": at, "error": "no answer in time"}
        message = {"webhook": webhook, "message_id": f"msg_{number:020d}", "card_id": f"{number:032d}"}
        body = '{"type":"card.expiring","data":{"card":"0000•••","batch":"spring"}}'
        sent = {"created_at": at, "attempts": number + 1, **done}
        WebhookOutbox.insert(topic="card.expiring", body=body, **message, **sent).execute()


class _Past:
    def __init__(self, site: Site, database: Database) -> None:
        self._random = random.Random(6)  # noqa: S311  # the same shop each time
        self._clock = Clock()
        self._clock.now = utc_now() - timedelta(days=_DAYS)
        keys = site.service.folder / "keys"
        signer, zone = Signer(KeyFolder(keys)), ZoneInfo("Asia/Shanghai")
        batcher, rules = Batcher(database), VendorRules(database)
        licences = LicenceService(database, batcher, rules, signer, "kadun", zone, self._clock)
        self._verification = Verification(licences, DataKeys("the-vendor's-own-key", SealingKey(None)))
        self._issuing = Issuing(database, f"console:{OWNER}", self._clock)
        self._selling = Issuing(database, f"shop:{SHOP}", self._clock)
        self._card_actions = CardActions(database, f"console:{OWNER}", self._clock)
        self._shop = Shop()

    def live_through(self) -> Shop:
        waiting = self._issue_first_cards()
        for day in range(_DAYS):
            self._clock.now = utc_now() - timedelta(days=_DAYS - day, minutes=self._random.randrange(60))
            for _ in range(_NEW_CARDS_A_DAY + day % 3):
                self._activate(waiting.pop())
            for card_id in self._random.choices([*self._shop.machines], k=8):
                self._use(card_id, self._random.choice((OPEN, *_FUNCTIONS)))
        self._shop.unused = waiting
        Usage.update(count=Usage.count * 7).execute()  # as if each had come that often
        self._help_customers()
        self._shop.live = [*self._shop.machines][-1]
        self._be_shared_and_attacked()
        return self._shop

    def _issue_first_cards(self) -> list[str]:
        """Return those that will be sold, in the order they are popped."""
        issued = self._issue(FESTIVAL_CARDS, 30, FESTIVAL, "淘宝旗舰店")
        week = self._issue(16, 7, LIVE)
        self._shop.issued_at = self._clock.now
        firms = [card for firm in _FIRMS for card in self._issue(1, 365, FIRMS, firm)]
        forever = self._issue(4, None, FIRMS, "一次买断")
        trials = self._issue(12, 1, None, "试用", by=self._selling)
        cards = [*week, *firms, *forever, *trials, *issued[:26]]
        self._random.shuffle(cards)
        return cards

    def _issue(
        self, count: int, days: int | None, batch: str | None, note: str | None = None, by: Issuing | None = None
    ) -> list[str]:
        self._clock.advance(timedelta(minutes=2))
        validity = None if days is None else timedelta(days=days)
        return [card.id for card in (by or self._issuing).issue(count, validity, batch, note).cards]

    def _activate(self, card_id: str) -> None:
        number = len(self._shop.machines)
        board, disk = self._random.randrange(16**7), self._random.randrange(10**9)
        hardware = f"DESKTOP-{board:07X} / BFEBFBFF000906EA / {disk:09}"
        address = f"2001:db8:{number:x}::{number:x}" if number % 6 == 5 else f"203.0.113.{number + 10}"
        self._shop.machines[card_id] = (hardware, address)
        self._use(card_id, OPEN)

    def _use(self, card_id: str, function: str) -> None:
        hardware, address = self._shop.machines[card_id]
        self._try(card_id, hardware, address, function)

    def _try(self, card_id: str, hardware: str, address: str, function: str = OPEN) -> None:
        self._clock.advance(timedelta(seconds=self._random.randrange(40, 400)))
        self._verification.verify(VerificationRequest.from_fields(card_id, hardware, function, "n" * 22, address))

    def _help_customers(self) -> None:
        self._clock.now = utc_now() - timedelta(hours=30)
        self._shop.frozen, self._shop.frozen_at = [*self._shop.machines][-6:-3], self._clock.now
        frozen = self._card_actions.apply(Action.FREEZE, self._shop.frozen)
        done: dict[str, Any] = {"action": "freeze", "at": frozen.at.isoformat(), "by": None, "revived_unbound": []}
        self._shop.freeze_form = add_outcome(OWNER, changed=frozen.changed, **done)
        self._clock.advance(timedelta(minutes=5))
        self._card_actions.apply(Action.EXTEND, [*self._shop.machines][-3:-1], timedelta(days=7))
        self._clock.advance(timedelta(minutes=5))
        self._card_actions.apply(Action.UNBIND, [*self._shop.machines][-2:-1])

    def _be_shared_and_attacked(self) -> None:
        """Rejections of each reason, over the last days."""
        for back in range(6, 0, -1):
            self._clock.now = utc_now() - timedelta(days=back, minutes=20 * back)
            for friend in range(back % 4 + 1):
                self._try(self._shop.live, f"LAPTOP-FRIEND{friend} / 00A0C91E", f"198.51.100.{friend + 20}")
            self._try([*self._shop.machines][7], "WIN-SECOND / 0F1E2D3C", "198.51.100.40")
            for _ in range(9 if back == 2 else 2):
                self._try(f"{self._random.randrange(10**32):032}", "ATTACK-BOX", "192.0.2.66")
            for card_id in (*self._shop.frozen[:2], *[*self._shop.machines][:3]):
                hardware, address = self._shop.machines[card_id]
                self._try(card_id, hardware, address)
            bound = self._shop.machines[self._shop.live]
            self._try(self._shop.unused[0], *bound)
            journal.append([self._failed(code) for code in (Code.FUNCTION_NOT_FOUND, Code.FUNCTION_FAILED)])
        journal.append([self._failed(Code.FUNCTION_TIMEOUT)])
        self._clock.now = utc_now() - timedelta(hours=3)
        hardware, address = self._shop.machines[self._shop.live]
        for machine in (*(f"NETCAFE-SEAT{seat:02} / 7C10C9{seat:02}" for seat in range(1, 7)), hardware):
            self._try(self._shop.live, machine, address)  # accepted, each of them

    def _failed(self, code: Code) -> Entry:
        hardware, address = self._shop.machines[self._shop.live]
        reference = f"{self._random.randrange(10**8):08}"
        asked: dict[str, Any] = {"ip": address, "hardware": hardware, "function": "订单导出", "reference": reference}
        details = {"detail": _TRACEBACK} if code is Code.FUNCTION_FAILED else None
        return Entry(self._clock.now, EventKind.REJECTED, code=code, card_id=self._shop.live, details=details, **asked)


def _live_today(site: Site, shop: Shop) -> None:
    """Customers ask over HTTPS, and are answered with signed verdicts."""
    for number, (card_id, (hardware, address)) in enumerate([*shop.machines.items()][-9:]):
        ask(site, card_id, hardware, address, OPEN if number % 2 else _FUNCTIONS[number % len(_FUNCTIONS)])
    assert ask(site, shop.live, "PHONE-OF-A-STRANGER", "198.51.100.77", OPEN) == Code.CLIENT_MISMATCH
    assert ask(site, shop.live, *shop.machines[shop.live], OPEN) == Code.OK


def ask(site: Site, card_id: str, hardware: str, address: str, function: str) -> str:
    body = json.dumps(question(card_id, hardware, function)).encode()
    headers = {"Content-Type": "application/json", "X-Test-Address": address}
    answer = site.gateway.ask("POST", "/v1/verify", body, headers)
    document = json.loads(answer.body)
    assert "token" in document, document
    return str(document["code"])
