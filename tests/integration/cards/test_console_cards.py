"""The console's list of cards with filters, search and exports, and owners' actions on cards."""

from datetime import UTC, datetime, timedelta

import pyotp

from app.console.rendering import url
from app.domain.codes import EventKind
from app.storage.models import Card, Ceiling, Client, Event, IdempotencyRecord, Operator
from tests.support.console.console import OWN, PASSWORD, Browser, Seen, add_operator
from tests.support.services.service import Service, question

LIST = "/admin/cards"
CONFIRM, APPLY, EXPORT = (f"{LIST}/{name}" for name in ("confirm", "apply", "export"))


def make(number: int, **columns: object) -> str:
    """A card whose ID tells its number."""
    card_id = f"{number:04d}".replace("0", "A").rjust(8, "Z") + "0" * 24
    born = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=number)
    Card.insert(**{"id": card_id, "validity": timedelta(days=30), "created_at": born, **columns}).execute()
    return card_id


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
    born = datetime.now(UTC)
    rows = [{"id": f"7{n:031d}", "created_at": born, "batch": "稀" if n >= 1_500 else "多"} for n in range(1_510)]
    Card.insert_many(rows).execute()
    page = owner.get("/admin/cards?q=7&batch=%E7%A8%80")
    assert "搜索内容太短" not in page.words
    asked = owner.submit(page, EXPORT, button=("format", "txt"))
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
        *((path, {"action": action, "id": card_id}) for path in (CONFIRM, APPLY) for action in ("odd", "")),
        *((path, {"action": "freeze"}) for path in (CONFIRM, APPLY)),
    ):
        answer = owner.post(path, fields)
        assert (answer.status, "html" in answer.headers["content-type"]) == (400, True), (path, fields)
    for output in ("csv", "txt"):
        answer = owner.submit(owner.get(LIST), CONFIRM, button=("format", output))
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


def confirm(browser: Browser, action: str, ids: list[str]) -> Seen:
    return browser.submit(browser.get(LIST), CONFIRM, id=ids, button=("action", action))


def apply(browser: Browser, page: Seen) -> Seen:
    return browser.submit(page, APPLY)


def frozen() -> set[str]:
    return {card.id for card in Card.select().where(Card.frozen_at.is_null(is_null=False))}


def many(count: int) -> list[str]:
    ids, born = [f"{number:032d}" for number in range(count)], datetime.now(UTC)
    Card.insert_many([{"id": card_id, "created_at": born} for card_id in ids]).execute()
    return ids


def test_a_card_that_changed_since_the_preview_is_previewed_again(
    owner: Browser, proxied: Service, cards: list[str]
) -> None:
    preview = confirm(owner, "delete", [cards[4], cards[5]])
    proxied.verify(question(cards[4], "quick machine"), address="203.0.113.9")
    refused = apply(owner, preview)
    assert refused.status == 400
    assert refused.words.count("已激活，不能删除") == 2, "it is why, and the preview leaves it out"
    assert "将删除 1 张" in refused.words
    assert Card.select().count() == 6
    page = owner.get(LIST)
    assert "已删除 1 张" in apply(owner, refused).words
    preview = owner.submit(page, CONFIRM, id=cards[3:], button=("action", "freeze"))
    assert "1 张已不存在，跳过" in preview.words
    assert "已冻结 2 张" in apply(owner, preview).words


def test_going_back_to_a_page_that_is_now_empty_shows_the_first_page(owner: Browser) -> None:
    ids = many(52)
    first = owner.get(f"{LIST}?status=unused")
    last = owner.get(first.way("after"))
    done = apply(owner, owner.submit(last, CONFIRM, id=ids[:2], button=("action", "freeze")))
    back = owner.get(done.way("after"))
    assert "共 50 张" in back.words
    assert back.way("before") == ""


def test_many_cards_are_changed_with_the_password_and_the_code_alone(owner: Browser) -> None:
    ids = many(501)
    assert owner.post(CONFIRM, {"action": "freeze", "id": ids}).status == 400, "a selection has at most 500 cards"
    Card.delete().where(Card.id.not_in(ids := ids[:101])).execute()
    page = owner.get(f"{LIST}?size=500")
    few = owner.submit(page, CONFIRM, id=ids[:100], button=("action", "freeze"))
    assert "已冻结 100 张" in apply(owner, few).words
    for action in ("freeze", "extend", "delete", "unfreeze"):
        Card.update(frozen_at=datetime.now(UTC) if action == "unfreeze" else None).execute()
        before = list(Card.select().order_by(Card.id).dicts())
        owner.post(APPLY, {"action": action, "id": ids, "by": "30d", "previewed": "30d"})
        assert list(Card.select().order_by(Card.id).dicts()) == before, action
    app = pyotp.TOTP(pyotp.random_base32())
    Operator.update(totp_secret=app.secret).execute()
    preview = owner.submit(page, CONFIRM, id=ids, button=("action", "unfreeze"))
    assert "一次更改超过 100 张，请输入您的密码" in preview.words
    own = {"own_password": PASSWORD}
    for wrong in ({"own_password": "guess"}, own, {**own, "own_code": "000000"}):
        refused = owner.submit(preview, APPLY, wrong)
        assert (refused.status, 'role="alert"' in refused.text) == (400, True)
    assert len(frozen()) == 101
    form = {**own, "own_code": app.at(datetime.now(UTC))}
    done = owner.submit(preview, APPLY, form)
    assert ("已解冻 101 张" in done.words, frozen()) == (True, set())
    assert owner.submit(preview, APPLY, form).path == done.path, "the same form again, although its code was used"


def test_only_the_operator_who_sent_a_form_sees_its_result(owner: Browser, proxied: Service, cards: list[str]) -> None:
    done = apply(owner, confirm(owner, "freeze", cards[:1]))
    add_operator("老李")
    other = Browser(proxied, address="192.0.2.7").walk_in("老李")
    assert (owner.get(done.path).status, other.get(done.path).status) == (200, 404)
    issued = owner.submit(owner.get("/admin/cards/issue"), "/admin/cards/issue")
    assert issued.status == 200
    for key in ["", "x", "0" * 64, IdempotencyRecord.get(IdempotencyRecord.body.contains("issued")).key]:
        assert owner.get(f"/admin/cards/done?form={key}").status == 404


def test_shortening_warns_of_cards_that_expire_at_once(owner: Browser, cards: list[str]) -> None:
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(days=2)
    Card.update(expires_at=soon).where(Card.id == cards[1]).execute()
    before = Card.get_by_id(cards[0]).expires_at
    preview = confirm(owner, "shorten", [cards[0], cards[1], cards[4]])
    shorter = owner.submit(preview, APPLY, by="other", by_other="7天", button=("step", "preview"))
    for said in ("将缩短 3 张，每张 7 天", "1 张剩余时间不足，将立即到期", "1 张使用中，到期时间提前"):
        assert said in shorter.words
    assert "已缩短 3 张" in apply(owner, shorter).words
    assert Card.get_by_id(cards[0]).expires_at == before - timedelta(days=7)
    assert Card.get_by_id(cards[4]).validity == timedelta(days=23)
    told = {event.card_id: event.details for event in Event.select().where(Event.kind == EventKind.SHORTENED)}
    assert told[cards[0]] == {"by": "7d", "expires_at": (before - timedelta(days=7)).isoformat()}
    assert told[cards[4]] == {"by": "7d", "validity": "23d"}


def test_an_edit_changes_what_is_ticked_counts_among_the_days_changes_and_of_many_needs_the_password(
    owner: Browser,
) -> None:
    ids = many(101)
    form = owner.post("/admin/cards/edit", {"id": ids, "back": LIST})
    refused = owner.submit(form, "/admin/cards/edit/apply", batch="b", note="n", own_password=PASSWORD)
    assert (refused.status, "请选择要修改的内容" in refused.words, 'value="n"' in refused.text) == (400, True, True)
    asked = owner.submit(form, "/admin/cards/edit/apply", change="note", note="n")
    assert asked.status in {200, 400}
    assert not Card.select().where(Card.note == "n").exists()
    done = owner.submit(form, "/admin/cards/edit/apply", change="note", batch="b", note="n", own_password=PASSWORD)
    assert "已修改 101 张" in done.words
    assert {(card.batch, card.note) for card in Card.select()} == {(None, "n")}
    assert Ceiling.get().changed == 101
