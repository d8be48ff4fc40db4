"""The console's page of the vendor's terms, and what it asks for before a webhook is changed."""

from datetime import timedelta

from app.clock import utc_now
from app.domain.ceilings import MAX_CHANGES_PER_DAY
from app.domain.codes import EventKind
from app.domain.terms import BindingTerm, RenewTerm, Terms
from app.services import terms
from app.services.terms import VendorTerms
from app.services.webhooks import Webhooks
from app.storage.database import Database
from app.storage.models import Ceiling, Event, Webhook
from tests.support.console import OWN, Browser, Seen
from tests.support.sealing import SEALING

PATH = "/admin/settings"
TYPED = {
    "binding": "hardware",
    "changes_per_day": "3",
    "minimum_version": "1.9",
    "latest_version": "1.10",
    "update_url": "https://shop.invalid/get?v=1",
    "notice": "停机维护：\n周日 & <周一>",
    "self_service": "on",
    "self_unbind_per_30_days": "2",
    "self_unbind_cost": "1天",
    "self_renew": "any",
    "contact": "QQ 群 12345",
}


def save(browser: Browser, page: Seen | None = None, **typed: str) -> Seen:
    """Fill in the form as it stands in the page, with the password."""
    return browser.submit(page or browser.get(PATH), PATH, typed | OWN)


def fields(page: Seen) -> dict[str, str]:
    return dict(page.form(PATH).fields)


def test_a_vendor_changes_every_term_and_cleared_fields_are_the_defaults_again(olga: Browser) -> None:
    typed = TYPED | {"notice": TYPED["notice"].replace("\n", "\r\n")}  # as browsers send lines
    page = save(olga, **typed)
    assert "in force in every process within two seconds" in page.words
    assert terms.read() == (
        1,
        Terms(
            binding=BindingTerm.HARDWARE,
            changes_per_day=3,
            minimum_version="1.9",
            latest_version="1.10",
            update_url="https://shop.invalid/get?v=1",
            notice=TYPED["notice"],
            self_service=True,
            self_unbind_per_30_days=2,
            self_unbind_cost=timedelta(days=1),
            self_renew=RenewTerm.ANY,
            contact="QQ 群 12345",
        ),
    )
    shown = fields(olga.get(PATH))
    assert {name: shown[name] for name in TYPED} == TYPED | {"self_unbind_cost": "1d"}
    entry = Event.get(Event.kind == EventKind.TERMS_CHANGED)
    assert (entry.actor, entry.details["after"]["binding"]) == ("console:olga", "hardware")
    journal = olga.get("/admin/journal?kind=terms_changed").words
    for change in ("binding either → hardware", "minimum_version not set → 1.9", "self_renew off → any"):
        assert change in journal
    journal = olga.get("/admin/journal?kind=terms_changed&lang=zh").words
    for change in ("硬件和网络地址都变了才拒绝 → 硬件变了就拒绝", "最低版本 未设置 → 1.9", "扣除的时长 未设置 → 1 天"):
        assert change in journal
    page = olga.get(PATH)
    kept = [(name, value) for name, value in page.form(PATH).fields if name not in {"self_service", "self_renew", *OWN}]
    emptied = {name: "" for name, _value in kept if name in TYPED} | {"binding": "either"}
    assert olga.post(PATH, dict(kept) | emptied | OWN).status == 303
    assert terms.read() == (2, Terms())


def test_what_is_wrong_is_named_and_nothing_typed_is_lost(olga: Browser) -> None:
    for typed, named in [
        ({"changes_per_day": "0"}, ["changes_per_day"]),
        ({"minimum_version": "1.x", "update_url": "http://shop.invalid/"}, ["minimum_version", "update_url"]),
        ({"minimum_version": "2.0", "latest_version": "1.10"}, ["minimum_version", "latest_version"]),
        ({"binding": "neither"}, ["binding"]),
        ({"self_unbind_per_30_days": "1001"}, ["self_unbind_per_30_days"]),
        ({"self_unbind_cost": "永久"}, ["self_unbind_cost"]),
        ({"notice": "长" * 501, "contact": "c" * 201}, ["notice", "contact"]),
    ]:
        page = save(olga, **TYPED | typed)
        assert page.status == 400, (typed, named)
        assert all(f'id="wrong-{name}"' in page.text for name in named)
        assert page.text.count('id="wrong-') == len(named)
        shown = fields(page)
        assert {name: shown.get(name) for name in TYPED if name != "binding"} == {
            name: (TYPED | typed)[name] for name in TYPED if name != "binding"
        }
        assert terms.read() == (0, Terms()), (typed, named)


def test_a_wrong_password_changes_nothing_and_saving_what_is_in_force_is_no_change(olga: Browser) -> None:
    page = olga.submit(olga.get(PATH), PATH, TYPED | {"own_password": "wrong"})
    assert page.status == 400
    assert "your own password is wrong" in page.words
    assert fields(page)["notice"] == TYPED["notice"]
    assert save(olga).status == 200
    assert terms.read() == (0, Terms())
    assert not Event.select().where(Event.kind == EventKind.TERMS_CHANGED).count()


def test_what_somebody_else_changed_meanwhile_is_not_overwritten_unseen(olga: Browser, database: Database) -> None:
    page = olga.get(PATH)
    VendorTerms(database, "tester", utc_now).change([("notice", "closed on Sunday")])
    refused = save(olga, page, contact="QQ 1")
    assert refused.status == 400
    assert "the terms were changed meanwhile" in refused.words
    assert "In force now: closed on Sunday" in refused.words
    assert (fields(refused)["contact"], terms.read()[1].contact) == ("QQ 1", None)
    save(olga, refused)
    assert terms.read() == (2, Terms(contact="QQ 1"))


def test_a_webhook_is_paused_by_password_and_its_changes_count_among_those_of_the_day(
    olga: Browser, database: Database
) -> None:
    """Otherwise a stolen session could silence what tells the vendor of it."""
    one, name = "/admin/webhook", {"name": "shop"}
    Webhooks(database, "tester", utc_now, SEALING).add("shop", "https://shop.invalid/", ["card.activated"])
    for given in ({}, {"own_password": "wrong"}):
        answer = olga.post(f"{one}/pause", {**name, **given})
        assert (answer.status, "your own password is wrong" in answer.words) == (400, True)
    assert Webhook.get().paused_at is None
    assert olga.post(f"{one}/pause", {**name, **OWN}).status == 303
    assert Webhook.get().paused_at is not None
    assert olga.post(f"{one}/resume", name).status == 303, "it takes nothing to have them again"
    other = {"name": "other", "url": "https://other.invalid/", "topic": "card.activated", **OWN}
    assert olga.post("/admin/webhooks", other).status == 200
    for number, (action, more) in enumerate({"test": {}, "secret": OWN, "remove": OWN}.items()):
        assert olga.post(f"{one}/{action}", {"name": "other", **more}).status in {200, 303}
        assert Ceiling.get().changed == 4 + number
    Ceiling.update(changed=MAX_CHANGES_PER_DAY).execute()
    before = Event.select().count()
    for action, more in (("test", {}), ("pause", OWN)):
        answer = olga.post(f"{one}/{action}", {**name, **more})
        assert (answer.status, "at most 10000 cards a day may be changed" in answer.words) == (400, True)
    assert (Event.select().count(), Webhook.get().paused_at) == (before, None)
