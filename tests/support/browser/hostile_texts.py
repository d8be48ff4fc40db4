"""Texts that would run, wherever customers, shops, operators and the vendor's own files bring texts from."""

import io
from datetime import timedelta

from app.domain.codes import Code
from app.domain.operators.operators import Role, Scope, console_actor
from app.runtime.clock import utc_now
from app.services.cards.issuing import Issuing
from app.services.files.file_store import FileStore
from app.services.shop.shop_tokens import ShopTokens
from app.storage.blobs import Blobs
from app.storage.database import Database
from tests.support.browser.seeding import FIRMS, Shop, ask, opened
from tests.support.browser.visits import Site
from tests.support.console.console import add_operator
from tests.support.services.service import OPEN

MARKUP = "\"><img src=x onerror=alert(1)>'-alert(2)-'{{7*7}}"
TURNED = f"{MARKUP}\u202e"
"""With a mark that turns all that follows around: not for names, which are printable."""
FILE = "=1+1,@[alert(1)].dat"
"""All that a file's name may have."""

FUNCTIONS = f'''
from typing import Annotated, Any
import msgspec
from app.functions import Caller, core_function

class Prices(msgspec.Struct):
    shop: str
    percent: Annotated[int, msgspec.Meta(ge=-90, le=500)]
    rounded: bool = True

@core_function("批量改价")
def change_prices(arguments: Prices, caller: Caller) -> object:
    """按百分比调整店铺内全部商品的价格。"""
    return {{"changed": 0}}

@core_function("图片去水印")
def clean(arguments: dict[str, Any], caller: Caller) -> object:
    """去除商品主图上的水印，返回处理后的图片。"""
    return {{}}

@core_function({TURNED!r})
def attack(arguments: dict[str, Any], caller: Caller) -> object:
    {MARKUP!r}
    return {{}}
'''

_ADDRESS, _ANOTHER_ADDRESS = "198.51.100.200", "203.0.113.200"
_CARDS = 20  # enough for a place among the largest batches


def invade(site: Site, shop: Shop) -> str:
    """Put such texts wherever there are texts, and two files beside one of such a name; return a card in use."""
    with opened(site) as database:
        add_operator(MARKUP, Role.SELLER)
        ShopTokens(database, console_actor(MARKUP), utc_now).add(MARKUP, [Scope.CARDS_READ])
        issuing = Issuing(database, console_actor(MARKUP), utc_now)
        card, *_others = issuing.issue(_CARDS, timedelta(days=30), MARKUP, MARKUP).cards
        _add_files(site, database)
    for function in (OPEN, TURNED):
        assert ask(site, card.id, TURNED, _ADDRESS, function) == Code.OK
    for wanted in (card.id, shop.live):
        assert ask(site, wanted, f"{TURNED}\n2", _ANOTHER_ADDRESS, OPEN) == Code.CLIENT_MISMATCH
    return str(card.id)


def _add_files(site: Site, database: Database) -> None:
    folder = site.service.folder / "files"
    store = FileStore(database, Blobs(folder), console_actor(MARKUP), utc_now, warn=lambda _text: None)
    for name, size, batches in (
        ("词库-2026春.dat", 2_400_000, ()),
        ("企业版模板.zip", 730_000, (FIRMS,)),
        (FILE, 1, (MARKUP,)),
    ):
        store.add(name, io.BytesIO(bytes(size)), batches=batches)
