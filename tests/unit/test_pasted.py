"""What people paste into the search box."""

from app.domain.pasted import bare_reference, ids_in, keys_in, listed_keys, reference_in
from tests.support.tables import for_each

CARD = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


@for_each(
    ("text", "reference"),
    [
        ("卡密已绑定其他设备。如果您更换了设备,请联系卖家解绑。(参考号:K7M2Q9XD)", "K7M2Q9XD"),
        ("This card is frozen: please contact the seller. (reference: k7m2q9xd)", "K7M2Q9XD"),
        ("参考号 K7M2Q9XD", "K7M2Q9XD"),
        ("卡密已绑定其他设备\uff08参考号\uff1aK7M2Q9XD\uff09", "K7M2Q9XD"),
        ("Reference K7M2Q9XO?", "K7M2Q9X0"),
        ("参考号:K7M2Q9XD9", None),
        ("参考号:K7M2Q9", None),
        ("preference K7M2Q9XD", None),
        ("参考号:UUUUUUUU", None),
        ("K7M2Q9XD", None),
        ("", None),
    ],
)
def test_a_reference_is_found_by_its_words(text: str, reference: str | None) -> None:
    assert reference_in(text) == reference


@for_each(
    ("text", "reference"),
    [(" k7m2-q9xo ", "K7M2Q9X0"), ("K7M2Q9X", None), ("K7M2Q9XDD", None), ("春季批次八个字的", None), ("", None)],
)
def test_a_reference_without_words_is_read_as_typed(text: str, reference: str | None) -> None:
    assert bare_reference(text) == reference


@for_each(
    "text",
    [
        f"我的卡密 {CARD.lower()} 打不开",
        "卡密:01234567-89ABCDEF-GHJKMNPQ-RSTVWXYZ,今天打不开",
        f"order {'9' * 33} card {CARD}.",
        f"\u5361\u53f7\uff1a\u201c{CARD[:9]}\u200b_{CARD[9:]}\u201d",
        CARD.replace("A", "\uff21"),
        f"{CARD}, {CARD.lower()}",
    ],
)
def test_a_card_is_found_amid_other_words(text: str) -> None:
    assert ids_in(text) == [CARD]


def test_all_cards_of_a_text_are_found_and_nothing_else() -> None:
    cards = [f"{digit}{CARD[1:]}" for digit in "0123456789"]
    for between in (" ", "\n", ", ", "\u3001", "; card: ", "/"):
        assert ids_in(between.join([*cards, CARD])) == cards
    for other in ("", "no card here", CARD[:-1], f"{CARD}0", "-" * 40, "U" * 32):
        assert ids_in(other) == []


@for_each(
    ("text", "keys"),
    [
        ("我的卡密 VIP-2024-8K3M 打不开", ["VIP-2024-8K3M"]),
        ("卡号\uff1aVIP-2024-8K3M\uff0c今天提示设备不符", ["VIP-2024-8K3M", "今天提示设备不符"]),
        ("card VIP-2024-8K3M, please", ["VIP-2024-8K3M,", "VIP-2024-8K3M", "please"]),
        ("card VIP-2024-8K3M! please", ["VIP-2024-8K3M!", "VIP-2024-8K3M", "please"]),
        (f"{'x' * 64} short", ["x" * 64]),
        ('key:VIP-2024-8K3M "VIP-2024-8K3N"', ["VIP-2024-8K3M", "VIP-2024-8K3N"]),
        (f"{CARD} VIP-2024-8K3M", ["VIP-2024-8K3M"]),
        ("VIP-100,VIP-200;VIP-300", ["VIP-100,VIP-200;VIP-300", "VIP-100", "VIP-200", "VIP-300"]),
        ("VIP-100\uff0cVIP-200\uff1bVIP-300", ["VIP-100", "VIP-200", "VIP-300"]),
        (f"{CARD};VIP-100", ["VIP-100"]),
        ("VIP-2024-8K3M", []),
        ("", []),
        (f"{'x' * 65} short", []),
        ("wordword " * 60, ["wordword"]),
    ],
)
def test_words_that_may_be_imported_keys(text: str, keys: list[str]) -> None:
    assert keys_in(text) == keys


@for_each(
    ("text", "keys"),
    [
        ("VIP-100, VIP-200!", ["VIP-100", "VIP-200"]),
        ("VIP-100,VIP-200\uff1bVIP-300", ["VIP-100", "VIP-200", "VIP-300"]),
        ("VIP-10 VIP-20", ["VIP-10", "VIP-20"]),
        ("10000001 10000002", ["10000001", "10000002"]),
        *((f"VIP-100 {other}", []) for other in ("2026-11-29", "123456789", "PC-01", "打不开了2次")),
        *((text, []) for text in ("my card VIP-100", f"{CARD} 123456789", f"{CARD} VIP-100", "")),
    ],
)
def test_keys_are_listed_only_where_every_word_is_like_a_key(text: str, keys: list[str]) -> None:
    assert listed_keys(text) == keys
