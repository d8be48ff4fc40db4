"""The console's list of cards: filters, search, paging, exports."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pyotp

from app.console.rendering import url
from app.domain.codes import EventKind
from app.storage.models import Card, Client, Event, Operator
from tests.support.console import OWN, Browser, Seen
from tests.support.service import Service, question

EXPORT = "/admin/cards/export"


def make(number: int, **columns: object) -> str:
    """A card whose ID tells its number."""
    card_id = f"{number:04d}".replace("0", "A").rjust(8, "Z") + "0" * 24
    born = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    Card.insert(**{"id": card_id, "validity": timedelta(days=30), "created_at": born, **columns}).execute()
    return card_id


def listed(page: Seen) -> list[str]:
    """The cards that the list has, in its order."""
    assert page.status == 200, page.words
    found = [parse_qs(urlsplit(link).query)["id"][0] for link in page.links if urlsplit(link).path == "/admin/card"]
    return list(dict.fromkeys(found))


def test_an_export_asks_for_the_password_and_the_code_and_is_journalled(owner: Browser) -> None:
    card_id = make(1, batch="甲")
    make(2, batch="乙")
    page = owner.get("/admin/cards?batch=%E7%94%B2")
    asked = owner.submit(page, EXPORT, button=("format", "txt"))
    assert (asked.status, "全部符合条件的：批次=甲" in asked.words) == (200, True)
    assert "/admin/cards?batch=%E7%94%B2" in asked.links
    refused = owner.submit(asked, EXPORT, own_password="guess")
    assert (refused.status, "您的密码不正确" in refused.words) == (400, True)
    assert owner.follow(owner.get(asked.path)).path == "/admin/cards", "a reload leads to the list"
    app = pyotp.TOTP(pyotp.random_base32())
    Operator.update(totp_secret=app.secret).execute()
    refused = owner.submit(refused, EXPORT, OWN)
    assert (refused.status, "请输入两步验证的验证码" in refused.words) == (400, True)
    assert not Event.select().where(Event.kind == EventKind.EXPORTED).exists()
    code = app.at(datetime.now(UTC))
    assert owner.submit(refused, EXPORT, OWN, own_code=code).text.split() == [card_id]
    assert owner.submit(refused, EXPORT, OWN, own_code=code).status == 400, "each code works once"
    entry = Event.get(Event.kind == EventKind.EXPORTED)
    assert entry.actor == "console:老王"
    assert entry.details == {"what": "cards", "format": "txt", "filter": {"batch": "甲"}}


def test_an_export_of_a_search_has_all_of_it_or_is_refused(owner: Browser) -> None:
    born = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [{"id": f"7{n:031d}", "created_at": born, "batch": "稀" if n >= 1_500 else "多"} for n in range(1_510)]
    Card.insert_many(rows).execute()
    page = owner.get("/admin/cards?q=7&batch=%E7%A8%80")
    assert len(listed(page)) == 10
    assert "搜索内容太短" not in page.words
    asked = owner.submit(page, EXPORT, button=("format", "txt"))
    assert len(owner.submit(asked, EXPORT, OWN).text.split()) == 10
    broad = owner.get("/admin/cards?q=7")
    assert "至少 1,000 张" in broad.words
    assert "搜索内容太短" in broad.words
    assert len([form for form in broad.forms if "/export" in form.action]) == 0
    refused = owner.post(f"{EXPORT}?q=7", {"format": "txt", **OWN})
    assert refused.status == 400
    assert "不能全部列出" in refused.words
    assert Event.select().where(Event.kind == EventKind.EXPORTED).count() == 1


def test_an_invalid_export_and_one_of_an_empty_selection_are_refused(owner: Browser) -> None:
    make(1)
    for output, query in (("exe", ""), ("csv", "?status=odd")):
        assert owner.post(f"{EXPORT}{query}", {"format": output, **OWN}).status == 400, output
    for output in ("csv", "txt"):
        answer = owner.submit(owner.get("/admin/cards"), "/admin/cards/confirm", button=("format", output))
        assert (answer.status, "没有选中任何卡密" in answer.words) == (400, True), output
    assert not Event.select().where(Event.kind == EventKind.EXPORTED).exists()


def test_customers_seen_in_the_last_quarter_of_an_hour_are_online(owner: Browser, cards: list[str]) -> None:
    now = datetime.now(UTC)
    for minutes, card in zip((1, 14, 16), cards, strict=False):
        Client.update(requested_at=now - timedelta(minutes=minutes)).where(Client.card == card).execute()
    assert owner.get("/admin/cards").words.count("● 在线") == 2
    assert "● 在线" in owner.get(url("/admin/card", id=cards[0])).words
    assert "● 在线" not in owner.get(url("/admin/card", id=cards[2])).words
    Card.update(frozen_at=now).where(Card.id == cards[0]).execute()
    assert owner.get("/admin/cards").words.count("● 在线") == 1
    assert "● 在线" not in owner.get(url("/admin/card", id=cards[0])).words


def test_a_cards_page_has_its_history_in_pages_and_leads_to_the_card_that_it_renewed(olga: Browser) -> None:
    card, spent = make(1), make(2)
    Card.update(renewed_card_id=card).where(Card.id == spent).execute()
    extended = {"at": datetime.now(UTC), "kind": "extended", "card_id": card, "details": {}}
    Event.insert_many([extended | {"actor": f"number-{n:02d}"} for n in range(30)]).execute()
    first = olga.get(f"/admin/card?id={card.lower()}")
    assert ("number-29" in first.words, "number-09" in first.words, spent in first.words) == (True, False, True)
    second = olga.get(first.way("after"))
    assert ("number-09" in second.words, "number-10" in second.words) == (True, False)
    assert card in olga.get(f"/admin/card?id={spent}").words
    assert Event.select().count() == 30, "opening a page writes nothing"


def test_a_batch_leads_to_its_cards_and_hardware_with_what_looks_like_a_card_is_hardware(
    owner: Browser, proxied: Service
) -> None:
    proxied.cardctl("card", "issue", "--validity", "30d", "--batch", "春季", "--count", "2")
    found = owner.get(url("/admin/cards", q=" 春季 "))
    assert (found.status, found.headers["location"]) == (303, url("/admin/cards", batch="春季"))
    assert owner.get(url("/admin/cards", q="春")).status == 200
    (card_id,) = proxied.issue()
    hardware = f"board {'0123456789ABCDEF' * 2}"
    assert proxied.verify(question(card_id, hardware), address="203.0.113.77").status == 200
    page = owner.get(url("/admin/cards", q=hardware))
    assert (page.status, card_id in page.words) == (200, True)
