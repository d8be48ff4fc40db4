"""Cards in the console: the list with filters, search and exports, issuing, owners' actions, and sellers' own cards."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyotp
import pytest

from app.console.rendering import url
from app.domain.codes import Code, EventKind
from app.domain.operators.ceilings import Ceilings
from app.runtime.clock import utc_now
from app.services.cards.card_actions import CardActions
from app.services.journal import journal_lists
from app.services.operators.ceilings import set_ceilings
from app.storage import journal, models
from app.storage.cards import Owner
from app.storage.database import Database
from app.storage.models import Card, Ceiling, Client, Event, File, FileBatch, IdempotencyRecord, Operator
from tests.support.console.console import OWN, PASSWORD, Browser, Seen, add_operator
from tests.support.licence.bound_cards import CardState, write
from tests.support.query_plans import plan, statements
from tests.support.services.service import Service, question

LIST = "/admin/cards"
CONFIRM, APPLY, EXPORT, MOVE = f"{LIST}/confirm", f"{LIST}/apply", f"{LIST}/export", "/admin/card/move"
OLD, NEW = "machine of the customer", "the customer's new machine"
ISSUE = "/admin/cards/issue"


def make(number: int, **columns: object) -> str:
    """A card whose ID tells its number."""
    card_id = f"{number:04d}".replace("0", "A").rjust(8, "Z") + "0" * 24
    born = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    Card.insert(**{"id": card_id, "validity": timedelta(days=30), "created_at": born, **columns}).execute()
    return card_id


@pytest.fixture
def many() -> list[str]:
    """101 cards: one more than may be changed without the password."""
    ids = [f"{number:032d}" for number in range(101)]
    Card.insert_many([{"id": card_id, "created_at": datetime.now(UTC)} for card_id in ids]).execute()
    return ids


def confirm(browser: Browser, action: str, ids: list[str]) -> Seen:
    return browser.submit(browser.get(f"{LIST}?size=500"), CONFIRM, id=ids, button=("action", action))


def second_factor() -> pyotp.TOTP:
    """Give every operator this app."""
    app = pyotp.TOTP(pyotp.random_base32())
    Operator.update(totp_secret=app.secret).execute()
    return app


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
    assert not Event.select().where(Event.kind == EventKind.EXPORTED).exists()
    code = second_factor().at(datetime.now(UTC))
    assert owner.submit(refused, EXPORT, OWN, own_code=code).text.split() == [card_id]
    assert owner.submit(refused, EXPORT, OWN, own_code=code).status == 400, "each code works once"
    entry = Event.get(Event.kind == EventKind.EXPORTED)
    assert entry.actor == "console:老王"
    assert entry.details == {"what": "cards", "format": "txt", "filter": {"batch": "甲"}}


def test_an_export_of_a_search_has_all_of_it_or_is_refused(owner: Browser) -> None:
    born = datetime.now(UTC)
    Card.insert_many([{"id": f"7{n:031d}", "created_at": born} for n in range(1_510)]).execute()
    asked = owner.submit(owner.get(f"/admin/cards?q=7{150:030d}"), EXPORT, button=("format", "txt"))
    assert len(owner.submit(asked, EXPORT, OWN).text.split()) == 10
    broad = owner.get("/admin/cards?q=7")
    assert ("至少 1,000 张" in broad.words, "搜索内容太短" in broad.words) == (True, True)
    assert not [form for form in broad.forms if "/export" in form.action]
    refused = owner.post(f"{EXPORT}?q=7", {"format": "txt", **OWN})
    assert (refused.status, "不能全部列出" in refused.words) == (400, True)
    assert Event.select().where(Event.kind == EventKind.EXPORTED).count() == 1


def test_a_form_without_a_known_format_action_or_card_is_refused(owner: Browser) -> None:
    card_id = make(1)
    for path, fields in (
        (EXPORT, {"format": "exe", **OWN}),
        (f"{EXPORT}?status=odd", {"format": "csv", **OWN}),
        *((path, {"action": "odd", "id": card_id}) for path in (CONFIRM, APPLY)),
        *((path, {"action": "freeze"}) for path in (CONFIRM, APPLY)),
    ):
        answer = owner.post(path, fields)
        assert (answer.status, "html" in answer.headers["content-type"]) == (400, True), (path, fields)
    answer = owner.submit(owner.get(LIST), CONFIRM, button=("format", "csv"))
    assert (answer.status, "没有选中任何卡密" in answer.words) == (400, True)
    assert not Event.select().where(Event.kind == EventKind.EXPORTED).exists()


def test_customers_seen_in_the_last_quarter_of_an_hour_are_online(owner: Browser, cards: list[str]) -> None:
    now = datetime.now(UTC)
    Client.update(requested_at=now - timedelta(minutes=16)).where(Client.card == cards[0]).execute()
    Card.update(frozen_at=now).where(Card.id == cards[1]).execute()
    assert owner.get("/admin/cards").words.count("● 在线") == 1
    assert [("● 在线" in owner.get(url("/admin/card", id=card)).words) for card in cards[:3]] == [False, False, True]


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


def test_going_back_to_a_page_that_is_now_empty_shows_the_first_page(owner: Browser, many: list[str]) -> None:
    Card.delete().where(Card.id << many[52:]).execute()
    last = owner.get(owner.get(f"{LIST}?status=unused").way("after"))
    done = owner.submit(owner.submit(last, CONFIRM, id=many[:2], button=("action", "freeze")), APPLY)
    back = owner.get(done.way("after"))
    assert ("共 50 张" in back.words, back.way("before")) == (True, "")


def test_many_cards_are_changed_with_the_password_and_the_code_alone(owner: Browser, many: list[str]) -> None:
    too_many = [f"{number:032d}" for number in range(501)]
    assert owner.post(CONFIRM, {"action": "freeze", "id": too_many}).status == 400, "a selection has at most 500 cards"
    assert "已冻结 100 张" in owner.submit(confirm(owner, "freeze", many[:100]), APPLY).words
    for action in ("freeze", "extend", "delete", "unfreeze"):
        Card.update(frozen_at=datetime.now(UTC) if action == "unfreeze" else None).execute()
        before = list(Card.select().order_by(Card.id).dicts())
        owner.post(APPLY, {"action": action, "id": many, "by": "30d", "previewed": "30d"})
        assert list(Card.select().order_by(Card.id).dicts()) == before, action
    app = second_factor()
    preview = confirm(owner, "unfreeze", many)
    assert "一次更改超过 100 张，请输入您的密码" in preview.words
    for wrong in ({"own_password": "guess"}, OWN, {**OWN, "own_code": "000000"}):
        refused = owner.submit(preview, APPLY, wrong)
        assert (refused.status, 'role="alert"' in refused.text) == (400, True)
    frozen = Card.select().where(Card.frozen_at.is_null(is_null=False))
    assert frozen.count() == 101
    form = {**OWN, "own_code": app.at(datetime.now(UTC))}
    done = owner.submit(preview, APPLY, form)
    assert ("已解冻 101 张" in done.words, frozen.count()) == (True, 0)
    assert owner.submit(preview, APPLY, form).path == done.path, "the same form again, although its code was used"


def test_only_the_operator_who_sent_a_form_sees_its_result(owner: Browser, proxied: Service, cards: list[str]) -> None:
    done = owner.submit(confirm(owner, "freeze", cards[:1]), APPLY)
    add_operator("老李")
    other = Browser(proxied, address="192.0.2.7").walk_in("老李")
    assert (owner.get(done.path).status, other.get(done.path).status) == (200, 404)
    assert issue(owner).status == 200
    for key in ["", "x", "0" * 64, IdempotencyRecord.get(IdempotencyRecord.body.contains("issued")).key]:
        assert owner.get(f"/admin/cards/done?form={key}").status == 404


def test_shortening_warns_of_cards_that_expire_at_once(owner: Browser, cards: list[str]) -> None:
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    Card.update(expires_at=soon).where(Card.id == cards[1]).execute()
    preview = confirm(owner, "shorten", [cards[0], cards[1], cards[4]])
    shorter = owner.submit(preview, APPLY, by="other", by_other="7天", button=("step", "preview"))
    for said in ("将缩短 3 张，每张 7 天", "1 张剩余时间不足，将立即到期", "1 张使用中，到期时间提前"):
        assert said in shorter.words
    assert "已缩短 3 张" in owner.submit(shorter, APPLY).words
    assert Card.get_by_id(cards[4]).validity == timedelta(days=23)


def issue(browser: Browser, **fields: str) -> Seen:
    return browser.submit(browser.get(ISSUE), ISSUE, fields)


def keys(page: Seen) -> list[str]:
    start = page.text.index("<textarea")
    return page.text[page.text.index(">", start) + 1 : page.text.index("</textarea>")].split()


def test_a_refused_form_says_why_and_keeps_its_fields(seller: Browser) -> None:
    for fields in ({"count": "10001"}, {"validity": "365d", "validity_other": "1d"}, {"batch": "x" * 201}):
        page = issue(seller, **{"batch": "双十一", **fields})
        assert (page.status, 'role="alert"' in page.text, Card.select().count()) == (400, True, 0), fields
        kept = dict(page.form(ISSUE).fields)
        assert (kept["batch"], kept["count"]) == (fields.get("batch", "双十一"), fields.get("count", "1"))


def test_a_large_issue_asks_for_the_password(seller: Browser) -> None:
    assert "已发出 100 张" in issue(seller, count="100").words
    asked = issue(seller, count="101", batch="双十一")
    assert (asked.status, "一次发出超过 100 张" in asked.words) == (200, True)
    assert dict(asked.form(ISSUE).fields)["batch"] == "双十一"
    assert (seller.submit(asked, ISSUE, own_password="guess").status, Card.select().count()) == (400, 100)
    page = seller.submit(asked, ISSUE, OWN)
    assert "已发出 101 张" in page.words
    assert (seller.submit(asked, ISSUE, OWN).path, Card.select().count()) == (page.path, 201)


def test_a_seller_sees_only_what_they_issued_themselves(owner: Browser, seller: Browser, database: Database) -> None:
    owners, sellers = issue(owner, count="3", batch="老板的"), issue(seller, count="2", batch="小李的")
    CardActions(database, "tester", utc_now).edit(keys(sellers)[:1], {"batch": "B"})
    assert sorted(file_of(seller, sellers)) == sorted(keys(sellers)), "cards in another batch are still of their issue"
    assert seller.get(owners.path).status == seller.get(f"{owners.path}&format=txt").status == 404
    assert len(keys(owner.get(sellers.path))) == 2
    page = seller.get(ISSUE)
    assert ("小李的" in page.words, "老板的" in page.words) == (True, False)
    assert "console:小李" in owner.get(ISSUE).words


def test_a_session_alone_downloads_no_large_issue_of_the_past_or_of_another(owner: Browser, seller: Browser) -> None:
    page = issue(seller, count="101", **OWN)
    assert len(keys(page)) == len(file_of(seller, page)) == 101, "what was just issued"
    for browser in (owner, seller):
        at = Event.get(Event.kind == EventKind.ISSUED).at
        if browser is seller:  # an hour later; the journal itself forbids to change it
            at -= timedelta(hours=1)
            models.database.execute_sql("ALTER TABLE event DISABLE TRIGGER USER")
            Event.update(at=at).where(Event.kind == EventKind.ISSUED).execute()
            models.database.execute_sql("ALTER TABLE event ENABLE TRIGGER USER")
            Card.update(created_at=at).execute()
        path = url("/admin/cards/issued", at=at.isoformat())
        past = browser.get(path)
        assert len(keys(past)) == 100
        assert not [link for link in past.links if "format=" in link]
        assert browser.get(f"{path}&format=txt").status == 303, "it leads to the page"
        asked = browser.post(path, {"format": "txt"})
        assert "您的密码" in asked.words
        assert not any(card.id in asked.text for card in Card.select())
        assert browser.post(path, {"format": "txt", "own_password": "wrong"}).status == 400
        assert browser.post(path, {"format": "json", **OWN}).status == 400
        assert len(browser.post(path, {"format": "txt", **OWN}).text.split()) == 101
    exported = Event.select().where(Event.kind == EventKind.EXPORTED).order_by(Event.id)
    assert [event.actor for event in exported] == ["console:老王", "console:小李"]


def test_recent_issues_leave_out_those_of_shops(owner: Browser, seller: Browser, database: Database) -> None:
    issue(owner, batch="老板的")
    now = datetime.now(UTC)
    details = {"count": 1, "batch": "店铺的", "validity": "30d"}
    entry = journal.Entry(now + timedelta(seconds=1), EventKind.ISSUED, actor="shop:淘宝", details=details)
    journal.append([*[entry] * 20, replace(entry, actor="cardctl:root", details={**details, "batch": "命令行的"})])
    page = owner.get(ISSUE)
    assert [batch in page.words for batch in ("老板的", "命令行的", "店铺的")] == [True, True, False]
    with statements(database) as ran:
        journal_lists.issued_by_hand(10)
    for method in ("seqscan", "bitmapscan", "sort"):  # few rows: other tests' statistics decide otherwise
        database.execute_sql(f"SET enable_{method} = off")
    assert "using event_issued_by_hand" in plan(database, ran[0])


def test_a_seller_issues_within_their_ceilings_and_sees_them(seller: Browser) -> None:
    assert "您的发卡上限" not in seller.get(ISSUE).words, "as of an account from before there were ceilings"
    set_ceilings(Owner(Operator.get(Operator.name == "小李").id), Ceilings(10, timedelta(days=30)))
    issue(seller, count="4")
    File.insert(name="a", size=1, sha256="0" * 64, added_at=utc_now()).execute()
    FileBatch.insert(file_name="a", batch="专业版").execute()
    assert "您的发卡上限：每天 10 张，有效期最长 30 天；今天已发 4" in seller.get(ISSUE).words
    for fields, reason in (({"count": "7"}, "今天还可发 6 张"), ({"batch": "专业版"}, "有文件仅供批次“专业版”")):
        page = issue(seller, **fields)
        assert (page.status, reason in page.words) == (400, True), page.words
    assert "已发出 6 张" in issue(seller, count="6").words
    assert Card.select().count() == 10


def allow(changes: int | None) -> None:
    set_ceilings(Owner(Operator.get(Operator.name == "小李").id), Ceilings(changes_per_day=changes))


@pytest.fixture
def own(proxied: Service, seller: Browser) -> str:
    """A card that the seller issued, bound to a machine, and refused on another one; two changes a day are allowed."""
    allow(2)
    (card_id,) = keys(issue(seller))
    assert proxied.verify(question(card_id, OLD), address="203.0.113.9").status == 200
    assert proxied.verify(question(card_id, NEW), address="198.51.100.9").status == 403
    return card_id


def test_a_seller_moves_their_card_and_no_other_card_is_named(seller: Browser, proxied: Service, own: str) -> None:
    (other,) = proxied.issue()
    assert proxied.verify(question(other, NEW), address="198.51.100.9").status == 200
    refused = seller.get(move_of(own))
    assert (refused.status, "另一张有效卡密 •••" in refused.words, other in refused.text) == (400, True, False)
    Card.update(frozen_at=datetime.now(UTC)).where(Card.id == other).execute()
    released = seller.get(move_of(own))
    assert ("将解除绑定： •••" in released.words, other in released.text) == (True, False)
    details = {"moved_to": other}
    journal.append([journal.Entry(datetime.now(UTC), EventKind.RELEASED, card_id=own, details=details)])
    explained = seller.get(move_of(own).replace(MOVE, "/admin/refusal"))
    assert ("•••" in explained.words, other in explained.text) == (True, False)
    assert not [machine for machine in (OLD, NEW) if machine in released.text]
    assert "198.51.100.9" in released.words
    assert "换绑" in seller.submit(released, MOVE).words
    assert Client.get(Client.card == own).hardware == NEW


def test_without_an_owners_word_a_seller_changes_nothing(seller: Browser, own: str) -> None:
    preview = seller.post(CONFIRM, {"action": "unbind", "id": own})
    allow(None)
    assert not seller.get(url("/admin/card", id=own)).text.count('name="action"')
    assert MOVE not in seller.get(move_of(own).replace(MOVE, "/admin/refusal")).text
    assert [seller.submit(preview, APPLY).status, seller.get(move_of(own)).status] == [403, 403]
    assert is_bound(own)


def test_a_batch_leads_to_its_cards_and_hardware_that_looks_like_a_card_is_hardware(owner: Browser) -> None:
    for number in (1, 2):
        make(number, batch="春季")
    found = owner.get(url("/admin/cards", q=" 春季 "))
    assert (found.status, found.headers["location"]) == (303, url("/admin/cards", batch="春季"))
    assert owner.get(url("/admin/cards", q="春")).status == 200
    hardware = f"board {'0123456789ABCDEF' * 2}"
    (card_id,) = write([CardState(hardware=hardware)], datetime.now(UTC))
    page = owner.get(url("/admin/cards", q=hardware))
    assert (page.status, card_id in page.words) == (200, True)


def test_a_card_changed_after_its_preview_is_shown_again(owner: Browser, proxied: Service, cards: list[str]) -> None:
    preview = confirm(owner, "delete", [cards[4], cards[5]])
    proxied.verify(question(cards[4], "quick machine"), address="203.0.113.9")
    refused = owner.submit(preview, APPLY)
    assert refused.status == 400
    assert refused.words.count("已激活，不能删除") == 2, "it is why, and the preview leaves it out"
    assert "将删除 1 张" in refused.words
    assert Card.select().count() == 6
    page = owner.get(LIST)
    assert "已删除 1 张" in owner.submit(refused, APPLY).words
    preview = owner.submit(page, CONFIRM, id=cards[3:], button=("action", "freeze"))
    assert "1 张已不存在，跳过" in preview.words
    assert "已冻结 2 张" in owner.submit(preview, APPLY).words


def test_an_edit_changes_what_is_ticked_counts_and_of_many_takes_the_password(owner: Browser, many: list[str]) -> None:
    form = owner.post("/admin/cards/edit", {"id": many, "back": LIST})
    refused = owner.submit(form, "/admin/cards/edit/apply", batch="b", note="n", own_password=PASSWORD)
    assert (refused.status, "请选择要修改的内容" in refused.words, 'value="n"' in refused.text) == (400, True, True)
    asked = owner.submit(form, "/admin/cards/edit/apply", change="note", note="n")
    assert asked.status in {200, 400}
    assert not Card.select().where(Card.note == "n").exists()
    done = owner.submit(form, "/admin/cards/edit/apply", change="note", batch="b", note="n", own_password=PASSWORD)
    assert "已修改 101 张" in done.words
    assert {(card.batch, card.note) for card in Card.select()} == {(None, "n")}
    assert Ceiling.get().changed == 101


def file_of(browser: Browser, page: Seen) -> list[str]:
    """Download the cards of an issue as text."""
    (link,) = [link for link in page.links if "format=txt" in link]
    return browser.get(link).text.split()


def move_of(card_id: str) -> str:
    """The address of the form that moves a card to the machine that it was refused on."""
    refused = Event.get((Event.code == Code.CLIENT_MISMATCH) & (Event.card_id == card_id))
    return url(MOVE, id=card_id, reference=refused.reference)


def is_bound(card_id: str) -> bool:
    return bool(Client.select().where(Client.card == card_id).exists())


def test_a_seller_unbinds_their_own_card_so_many_a_day(seller: Browser, proxied: Service, own: str) -> None:
    page = seller.get(url("/admin/card", id=own))
    assert {value for form in page.forms for name, value, _where in form.buttons if name == "action"} == {"unbind"}
    preview = seller.submit(page, CONFIRM, button=("action", "unbind"))
    assert ("将解绑 1 张" in preview.words, own in preview.words) == (True, True)
    assert OLD not in preview.text, "of machines a seller sees a digest"
    done = seller.submit(preview, APPLY)
    assert ("已解绑 1 张" in done.words, own in done.words, is_bound(own)) == (True, True, False)
    assert Event.get(Event.kind == EventKind.UNBOUND).actor == "console:小李"
    assert proxied.verify(question(own, OLD), address="203.0.113.9").status == 200
    allow(1)
    refused = seller.submit(seller.post(CONFIRM, {"action": "unbind", "id": own}), APPLY)
    assert (refused.status, "每天最多改动 1 张卡密，今天还可改动 0 张" in refused.words) == (400, True)
    assert seller.submit(seller.get(move_of(own)), MOVE).status == 400
    assert (is_bound(own), Ceiling.get().changed) == (True, 1)


def test_others_cards_do_not_exist_for_a_seller_who_may_unbind(seller: Browser, proxied: Service, own: str) -> None:
    (other,) = proxied.issue()
    assert proxied.verify(question(other, "theirs"), address="203.0.113.8").status == 200
    assert proxied.verify(question(other, "another"), address="198.51.100.8").status == 403
    preview = seller.post(CONFIRM, {"action": "unbind", "id": other})
    assert "没有需要更改的卡密" in preview.words
    form = {name: value for name, value in preview.form(APPLY).fields if name in {"form_number", "csrf"}}
    refused = seller.post(APPLY, {**form, "action": "unbind", "id": [own, other]})
    assert (refused.status, f"卡密 {other} 不存在" in refused.words) == (400, True)
    moved = seller.get(move_of(other))
    assert (moved.status, "不存在" in moved.words) == (400, True)
    assert not seller.get(url("/admin/card", id=other)).text.count('name="action"')
    for action in ["freeze", "unfreeze", "extend", "shorten", "delete"]:
        fields = {"action": action, "id": own, "by": "30d", "previewed": "30d", "form_number": "n"}
        for path in (CONFIRM, APPLY, "/admin/cards/edit"):
            assert seller.post(path, fields).status == 403, (path, action)
    assert is_bound(own)
    assert is_bound(other)
