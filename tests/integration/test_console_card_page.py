"""The console's page of one card."""

from datetime import UTC, datetime

from app.storage.models import Card, Event
from tests.support.console import Browser
from tests.support.service import Service, question

CONFIRM, APPLY = "/admin/cards/confirm", "/admin/cards/apply"


def test_a_card_shows_its_client_its_history_and_the_possible_actions(
    owner: Browser, proxied: Service, cards: list[str]
) -> None:
    proxied.verify(question(cards[0], "machine-0", "导出"), address="203.0.113.200")
    proxied.verify(question(cards[0], "thief <b>"), address="198.51.100.1")
    page = owner.get(f"/admin/card?id={cards[0].lower()}")
    assert "月卡（30 天）" in page.words
    for text in ["machine-0", "203.0.113.200", "导出", "使用中", "环境变化", "设备不符", "激活", "thief <b>"]:
        assert text in page.words, text
    assert "thief <b>" not in page.text
    buttons = {value for form in page.forms for name, value, _where in form.buttons if name == "action"}
    assert buttons == {"freeze", "unbind", "extend", "shorten"}
    assert "data-chart" in page.text
    preview = owner.submit(page, CONFIRM, button=("action", "freeze"))
    assert f"/admin/card?id={cards[0]}" in preview.links
    frozen_page = owner.get(owner.submit(preview, APPLY).links[-1])
    assert "已冻结" in frozen_page.words


def test_the_history_of_a_card_has_pages(owner: Browser, cards: list[str]) -> None:
    extended = {"at": datetime.now(UTC), "kind": "extended", "card_id": cards[5], "details": {}}
    Event.insert_many([extended | {"actor": f"number-{n:02d}"} for n in range(30)]).execute()
    first = owner.get(f"/admin/card?id={cards[5]}")
    assert "number-29" in first.words
    assert "number-09" not in first.words
    onward = next(link for link in first.links if "after=" in link and "lang=" not in link)
    second = owner.get(onward)
    assert "number-09" in second.words
    assert "number-10" not in second.words


def test_opening_a_card_writes_nothing(owner: Browser, cards: list[str]) -> None:
    before = Event.select().count()
    assert cards[0] in owner.get(f"/admin/card?id={cards[0]}").words
    assert Event.select().count() == before


def test_a_spent_card_and_the_card_that_it_renewed_lead_to_each_other(
    owner: Browser, seller: Browser, cards: list[str]
) -> None:
    spent, renewed = cards[5], cards[0]
    Card.update(renewed_card_id=renewed).where(Card.id == spent).execute()
    page = owner.get(f"/admin/card?id={spent}")
    assert f"已用于续费的卡密 {renewed}" in page.words
    assert f"请冻结它续费的那张卡密： {renewed}" in page.words
    page = owner.get(f"/admin/card?id={renewed}")
    assert f"续费用的卡密 {spent}" in page.words
    listed = owner.get("/admin/cards?status=spent")
    assert [card_id in listed.words for card_id in (spent, renewed)] == [True, False]
    masked = seller.get(f"/admin/card?id={renewed}")
    assert spent not in masked.text
    assert f"{spent[:4]}•••" in masked.words
