"""The page that explains a refusal by its reference, and moving a card in the console."""

from datetime import UTC, datetime

import pytest

from app.console.rendering import url
from app.domain.addresses import UNKNOWN_ADDRESS
from app.domain.ceilings import MAX_CHANGES_PER_DAY
from app.domain.codes import Code, EventKind
from app.storage import journal
from app.storage.models import Client, Event, IssueCount
from tests.support.console import Browser, Seen
from tests.support.service import Service, question

OLD, NEW = "machine-0", "the new machine"
NEW_ADDRESS = "198.51.100.7"
MOVE = "/admin/card/move"


@pytest.fixture
def reference(proxied: Service, cards: list[str]) -> str:
    """Of a new machine that was rejected for the first card, which is bound."""
    message = proxied.verify(question(cards[0], NEW), address=NEW_ADDRESS).body["message"]
    return str(Event.get(Event.code == Code.CLIENT_MISMATCH).reference) if "参考号" in message else message


def search(browser: Browser, pasted: str) -> Seen:
    """Paste a text into the search box; return the page that it leads to."""
    found = browser.get(url("/admin/cards", q=pasted))
    assert found.status == 303, pasted
    return browser.get(found.headers["location"])


def test_a_pasted_message_leads_to_the_page_that_explains_it(
    owner: Browser, cards: list[str], proxied: Service, reference: str
) -> None:
    message = proxied.verify(question(cards[0], NEW), address=NEW_ADDRESS).body["message"]
    for pasted in (message, f"参考号:{reference}", reference, reference.lower(), f"(reference: {reference})"):
        page = search(owner, pasted)
        assert "这不是绑定的设备" in page.words
    assert [text in page.words for text in (cards[0], OLD, NEW, NEW_ADDRESS, "当时绑定的设备", "当前绑定的设备")] == [
        True
    ] * 6


def test_a_batch_leads_to_its_cards(owner: Browser, proxied: Service) -> None:
    proxied.cardctl("card", "issue", "--validity", "30d", "--batch", "春季", "--count", "2")
    found = owner.get(url("/admin/cards", q=" 春季 "))
    assert (found.status, found.headers["location"]) == (303, url("/admin/cards", batch="春季"))
    assert owner.get(url("/admin/cards", q="春")).status == 200


def test_a_card_amid_words_is_found(owner: Browser, cards: list[str]) -> None:
    grouped = "-".join(cards[0][at : at + 8] for at in range(0, 32, 8))
    for pasted in (f"我的卡密 {cards[0]} 打不开", f"卡密:{grouped.lower()}"):
        page = owner.get(url("/admin/cards", q=pasted))
        assert cards[0] in page.words
        assert cards[1] not in page.words
        assert "没有这些卡密" not in page.words


def test_two_pasted_cards_are_both_found_and_a_third_one_is_said_not_to_exist(
    owner: Browser, seller: Browser, cards: list[str]
) -> None:
    for reader in (owner, seller):
        page = reader.get(url("/admin/cards", q=f"{cards[0]} {cards[1].lower()}, {'7' * 32}"))
        assert [card in page.words for card in cards[:3]] == [True, True, False]
        assert f"没有这些卡密： {'7' * 32}" in page.words


def test_hardware_with_what_looks_like_a_card_is_found_as_hardware(owner: Browser, proxied: Service) -> None:
    (card_id,) = proxied.issue()
    hardware = f"board {'0123456789ABCDEF' * 2}"
    assert proxied.verify(question(card_id, hardware), address="203.0.113.77").status == 200
    page = owner.get(url("/admin/cards", q=hardware))
    assert (page.status, card_id in page.words) == (200, True)


def test_the_page_shows_the_binding_of_that_moment_when_it_has_changed_since(
    owner: Browser, proxied: Service, cards: list[str], reference: str
) -> None:
    proxied.cardctl("card", "unbind", cards[0])
    proxied.verify(question(cards[0], "a third machine"), address="192.0.2.3")
    page = owner.get(url("/admin/refusal", reference=reference))
    assert [text in page.words for text in (OLD, NEW, "a third machine", "解绑")] == [True] * 4


def test_an_unknown_reference_is_explained(owner: Browser) -> None:
    page = search(owner, "参考号 ZZZZZZZZ")
    assert page.status == 404
    assert "日志中没有这个参考号" in page.words
    assert "让客户发来卡密" in page.words


def test_a_refusal_of_a_card_that_does_not_exist_is_explained(owner: Browser, proxied: Service) -> None:
    proxied.verify(question("NO SUCH CARD", NEW), address=NEW_ADDRESS)
    entry = Event.get(Event.code == Code.CARD_NOT_FOUND)
    page = search(owner, entry.reference)
    assert "没有这张卡密：客户输错了" in page.words
    assert NEW in page.words


def test_an_owner_moves_the_card_after_seeing_both_machines(
    owner: Browser, proxied: Service, cards: list[str], reference: str
) -> None:
    confirmation = owner.get(url(MOVE, id=cards[0], reference=reference))
    assert [text in confirmation.words for text in (cards[0], OLD, NEW, NEW_ADDRESS)] == [True] * 4
    assert Client.get(Client.card == cards[0]).hardware == OLD
    done = owner.submit(confirmation, MOVE)
    assert done.path.startswith("/admin/card?")
    assert "换绑" in done.words
    assert Event.get(Event.kind == EventKind.MOVED).actor == "console:老王"
    assert proxied.verify(question(cards[0], NEW), address=NEW_ADDRESS).status == 200
    explained = owner.get(url("/admin/refusal", reference=reference)).words
    assert explained.index("这不是绑定的设备") < explained.index("此后的处理 换绑")
    assert "卡密已绑定这台设备" in owner.get(url(MOVE, id=cards[0], reference=reference)).words


def test_an_unknown_address_of_the_bound_machine_is_a_dash(owner: Browser, cards: list[str], reference: str) -> None:
    Client.update(ip=UNKNOWN_ADDRESS).where(Client.card == cards[0]).execute()
    assert f"IP 地址 — {NEW_ADDRESS}" in owner.get(url(MOVE, id=cards[0], reference=reference)).words
    assert "IP 地址 — 最近功能" in owner.get(url("/admin/card", id=cards[0])).words


def test_moves_count_as_changes_of_the_day(owner: Browser, proxied: Service, cards: list[str], reference: str) -> None:
    owner.submit(owner.get(url(MOVE, id=cards[0], reference=reference)), MOVE)
    assert IssueCount.get().changed == 1
    proxied.cardctl("card", "unbind", cards[0])
    IssueCount.update(changed=MAX_CHANGES_PER_DAY).execute()
    refused = owner.submit(owner.get(url(MOVE, id=cards[0], reference=reference)), MOVE)
    assert (refused.status, "今天还可改动 0 张" in refused.words) == (400, True)
    assert Client.select().where(Client.card == cards[0]).count() == 0
    proxied.cardctl("card", "move", cards[0], "--reference", reference)
    assert Client.get(Client.card == cards[0]).hardware == NEW


def test_a_move_that_is_refused_says_why(owner: Browser, proxied: Service, cards: list[str], reference: str) -> None:
    confirmation = owner.get(url(MOVE, id=cards[0], reference=reference))
    (live,) = proxied.issue()
    assert proxied.verify(question(live, NEW), address=NEW_ADDRESS).status == 200
    refused = owner.submit(confirmation, MOVE)
    assert (refused.status, f"另一张有效卡密 {live}" in refused.words) == (400, True)
    for wrong in ({"id": cards[0], "reference": "ZZZZZZZZ"}, {"id": "nothing", "reference": reference}, {}):
        assert owner.get(url(MOVE, **wrong)).status == 400
    assert Client.get(Client.card == cards[0]).hardware == OLD


def test_a_seller_sees_no_machine_and_moves_nothing(seller: Browser, cards: list[str], reference: str) -> None:
    page = seller.get(url("/admin/refusal", reference=reference))
    assert page.status == 200
    assert "这不是绑定的设备" in page.words
    assert not any(secret in page.text for secret in (cards[0], OLD, NEW))
    assert seller.get(url(MOVE, id=cards[0], reference=reference)).status == 403


def test_markup_in_what_a_client_sent_is_shown_as_text(owner: Browser) -> None:
    evil = "<script>alert(1)</script>"
    details = {"before": {"hardware": evil, "ip": "203.0.113.1"}}
    entry = journal.Entry(
        datetime.now(UTC),
        EventKind.REJECTED,
        Code.CLIENT_MISMATCH,
        evil,
        "EV1KEV1K",
        "203.0.113.9",
        hardware=evil,
        function=evil,
        details=details,
    )
    journal.append([entry])
    page = owner.get(url("/admin/refusal", reference="EV1KEV1K"))
    assert evil not in page.text
    assert page.words.count(evil) >= 3
