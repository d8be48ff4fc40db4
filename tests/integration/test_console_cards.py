"""The console's list of cards: filters, search, paging, exports; refusals by their reference, and moving a card."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pyotp
import pytest

from app.console.rendering import url
from app.domain.addresses import UNKNOWN_ADDRESS
from app.domain.ceilings import MAX_CHANGES_PER_DAY
from app.domain.codes import Code, EventKind
from app.storage.models import Card, Client, Event, IssueCount, Operator
from tests.support.console import OWN, Browser, Seen
from tests.support.service import Service, question

EXPORT = "/admin/cards/export"


def make(number: int, **columns: object) -> str:
    """A card whose ID tells its number."""
    card_id = f"{number:04d}".replace("0", "A").rjust(8, "Z") + "0" * 24
    born = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    Card.insert(**{"id": card_id, "validity": timedelta(days=30), "created_at": born, **columns}).execute()
    return card_id


def active(number: int, expires_in: timedelta | None, **columns: object) -> str:
    now = datetime.now(UTC).replace(microsecond=0)
    expires = None if expires_in is None else now + expires_in
    validity = None if expires_in is None else timedelta(days=30)
    begun = now - timedelta(days=400)
    times = {"is_activated": True, "activated_at": begun, "expires_at": expires, "validity": validity}
    return make(number, **times, **columns)


def listed(page: Seen) -> list[str]:
    """The cards that the list has, in its order."""
    assert page.status == 200, page.words
    found = [parse_qs(urlsplit(link).query)["id"][0] for link in page.links if urlsplit(link).path == "/admin/card"]
    return list(dict.fromkeys(found))


def way(page: Seen, name: str) -> str:
    """The pager's link on (`after`) or back (`before`), "" where there is none."""
    return next((link for link in page.links if f"{name}=" in link and "lang=" not in link), "")


def test_the_list_begins_with_the_newest_and_pages_on_and_back(owner: Browser) -> None:
    ids = [make(number) for number in range(120)]
    first = owner.get("/admin/cards")
    assert listed(first) == ids[:69:-1]
    assert "共 120 张" in first.words
    second = owner.get(way(first, "after"))
    assert listed(second) == ids[69:19:-1]
    third = owner.get(way(second, "after"))
    assert listed(third) == ids[19::-1]
    assert way(third, "after") == ""
    back = owner.get(way(third, "before"))
    assert listed(back) == listed(second)
    assert listed(owner.get(way(back, "before"))) == listed(first)


def test_a_page_may_have_a_thousand_cards(owner: Browser) -> None:
    for number in range(205):
        make(number)
    assert len(listed(owner.get("/admin/cards?size=200"))) == 200
    assert len(listed(owner.get("/admin/cards?size=500"))) == 205
    assert len(listed(owner.get("/admin/cards?size=7"))) == 50


def test_days_of_expiry_are_days_in_the_vendors_zone(owner: Browser) -> None:
    midnight = datetime(2027, 5, 2, tzinfo=ZoneInfo("Asia/Shanghai"))
    before, after = active(1, timedelta(days=1)), active(2, timedelta(days=1))
    Card.update(expires_at=midnight - timedelta(seconds=1)).where(Card.id == before).execute()
    Card.update(expires_at=midnight).where(Card.id == after).execute()
    assert listed(owner.get("/admin/cards?expires_from=2027-05-01&expires_before=2027-05-02")) == [before]
    assert listed(owner.get("/admin/cards?expires_from=2027-05-02&expires_before=2027-05-03")) == [after]


def export(browser: Browser, page: Seen, output: str) -> Seen:
    asked = browser.submit(page, EXPORT, button=("format", output))
    return browser.submit(asked, EXPORT, OWN)


def test_an_export_asks_for_the_password_and_the_code(owner: Browser) -> None:
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


def test_an_export_is_journalled_with_who_took_what(owner: Browser) -> None:
    make(1, batch="甲")
    export(owner, owner.get("/admin/cards?batch=%E7%94%B2&status=unused"), "csv")
    entry = Event.get(Event.kind == EventKind.EXPORTED)
    assert entry.actor == "console:老王"
    assert entry.details == {"what": "cards", "format": "csv", "filter": {"batch": "甲", "status": "unused"}}


def test_an_export_without_a_row_has_its_header(owner: Browser) -> None:
    header = "id,status,validity_seconds,activated_at,expires_at,batch,note,hardware,ip,imported_key\n"
    assert owner.post(EXPORT, {"format": "csv", **OWN}).content.decode("utf-8-sig") == header
    journal = owner.post("/admin/journal/export?kind=deleted", {"format": "csv", **OWN}).content.decode("utf-8-sig")
    assert journal == "id,at,kind,code,card_id,reference,ip,claimed_ip,hardware,function,actor,details\n"


def test_an_export_of_a_search_has_all_of_it_or_is_refused(owner: Browser) -> None:
    born = datetime(2026, 1, 1, tzinfo=UTC)
    rows = [{"id": f"7{n:031d}", "created_at": born, "batch": "稀" if n >= 1_500 else "多"} for n in range(1_510)]
    Card.insert_many(rows).execute()
    page = owner.get("/admin/cards?q=7&batch=%E7%A8%80")
    assert len(listed(page)) == 10
    assert "搜索内容太短" not in page.words
    assert len(export(owner, page, "txt").text.split()) == 10
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
    second = olga.get(next(link for link in first.links if "after=" in link and "lang=" not in link))
    assert ("number-09" in second.words, "number-10" in second.words) == (True, False)
    assert card in olga.get(f"/admin/card?id={spent}").words
    assert Event.select().count() == 30, "opening a page writes nothing"


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
