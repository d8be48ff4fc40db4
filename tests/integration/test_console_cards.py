"""The console's list of cards: filters, search, paging, exports."""

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pyotp
import pytest

from app.console.rendering import url
from app.domain.codes import EventKind
from app.storage.database import Database
from app.storage.models import Card, Client, Event, Operator
from tests.support.console import OWN, Browser, Seen
from tests.support.service import Service

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


def test_an_invalid_filter_of_cards_is_refused(owner: Browser) -> None:
    make(1)
    page = owner.get("/admin/cards?expires_from=yesterday")
    assert page.status == 400
    assert 'role="alert"' in page.text
    assert "/admin/card?" not in page.text


def test_a_seller_has_no_forms_in_the_list(seller: Browser) -> None:
    card_id = active(1, None)
    page = seller.get("/admin/cards")
    assert f"{card_id[:4]}•••" in page.words
    posts = {urlsplit(form.action).path for form in page.forms if form.method == "post" and form.buttons}
    assert posts == set()
    assert 'name="id"' not in page.text
    assert "data-choose-all" not in page.text


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


def test_a_selection_can_be_exported(owner: Browser) -> None:
    ids = [make(number) for number in range(5)]
    chosen = [ids[3], ids[1]]
    page = owner.get("/admin/cards")
    asked = owner.submit(page, "/admin/cards/confirm", id=chosen, button=("format", "txt"))
    assert "所选的 2 张" in asked.words
    answer = owner.submit(asked, EXPORT, OWN)
    assert answer.text.split() == chosen


@pytest.mark.parametrize("output", ["csv", "txt"])
def test_an_export_of_an_empty_selection_is_refused(owner: Browser, output: str) -> None:
    for number in range(3):
        make(number)
    page = owner.get("/admin/cards")
    answer = owner.submit(page, "/admin/cards/confirm", button=("format", output))
    assert answer.status == 400
    assert "没有选中任何卡密" in answer.words
    assert not Event.select().where(Event.kind == EventKind.EXPORTED).exists()


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


@pytest.mark.parametrize(("fields", "query"), [({"format": "exe"}, ""), ({"format": "csv"}, "?status=odd")])
def test_an_invalid_export_is_refused(owner: Browser, fields: dict[str, str], query: str) -> None:
    assert owner.post(f"{EXPORT}{query}", {**fields, **OWN}).status == 400
    assert not Event.select().where(Event.kind == EventKind.EXPORTED).exists()


def test_a_list_is_sorted_by_expiry_and_by_last_use(owner: Browser, proxied: Service, cards: list[str]) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    for days, card in zip((2, 9, 5), cards, strict=False):
        Card.update(expires_at=now + timedelta(days=days)).where(Card.id == card).execute()
        Client.update(requested_at=now - timedelta(minutes=days)).where(Client.card == card).execute()
    first, last, middle = cards[:3]
    for sort, order in {
        "expiry": [first, middle, last],
        "-expiry": [last, middle, first],
        "used": [first, middle, last],
        "-used": [last, middle, first],
    }.items():
        page = owner.get(url("/admin/cards", sort=sort))
        assert listed(page) == order, sort
        assert "共 3 张" in page.words
    assert 'aria-sort="ascending"' in page.text
    assert url("/admin/cards", sort="used") in page.links
    assert "排序" in owner.get(url("/admin/cards", sort="odd")).words
    assert owner.get(url("/admin/cards", sort="odd")).status == 400


def test_a_longer_list_says_how_much_of_it_is_sorted_by_last_use(
    owner: Browser, cards: list[str], database: Database
) -> None:
    database.execute_sql(
        "INSERT INTO card (id, is_activated, activated_at, created_at)"
        " SELECT lpad(number::text, 32, '0'), true, now(), now() FROM generate_series(1, 10001) AS number"
    )
    assert "只有到期最晚的 10,000 张按最近使用排序" in owner.get(url("/admin/cards", sort="used")).words
    assert "按最近使用排序" not in owner.get(url("/admin/cards", sort="used", expires="30d")).words


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
