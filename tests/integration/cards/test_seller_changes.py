"""What sellers change where an owner allows it: they unbind and move cards that they issued, so many a day."""

from datetime import UTC, datetime

import pytest

from app.console.rendering import url
from app.domain.codes import Code, EventKind
from app.domain.operators.ceilings import Ceilings
from app.services.operators.ceilings import set_ceilings
from app.storage import journal
from app.storage.cards import Owner
from app.storage.models import Card, Ceiling, Client, Event, Operator
from tests.support.console.console import Browser
from tests.support.services.service import Service, question
from tests.support.tables import for_each

CONFIRM, APPLY, MOVE = "/admin/cards/confirm", "/admin/cards/apply", "/admin/card/move"
OLD, NEW = "machine of the customer", "the customer's new machine"


def allow(changes: int | None) -> None:
    set_ceilings(Owner(Operator.get(Operator.name == "小李").id), Ceilings(changes_per_day=changes))


@pytest.fixture
def own(proxied: Service, seller: Browser) -> str:
    """A card that the seller issued, bound to a machine, and refused on another one."""
    allow(2)
    done = seller.submit(seller.get("/admin/cards/issue"), "/admin/cards/issue", count="1")
    (card_id,) = done.text.partition('id="keys"')[2].partition(">")[2].partition("<")[0].split()
    assert proxied.verify(question(card_id, OLD), address="203.0.113.9").status == 200
    assert proxied.verify(question(card_id, NEW), address="198.51.100.9").status == 403
    return str(card_id)


def reference() -> str:
    return str(Event.get(Event.code == Code.CLIENT_MISMATCH).reference)


def is_bound(card_id: str) -> bool:
    return bool(Client.select().where(Client.card == card_id).exists())


def test_a_seller_unbinds_their_own_card_from_its_page_so_many_a_day(
    seller: Browser, proxied: Service, own: str
) -> None:
    page = seller.get(url("/admin/card", id=own))
    buttons = {value for form in page.forms for name, value, _where in form.buttons if name == "action"}
    assert buttons == {"unbind"}
    preview = seller.submit(page, CONFIRM, button=("action", "unbind"))
    assert "将解绑 1 张" in preview.words
    assert own in preview.words
    assert OLD not in preview.text, "of machines a seller sees a digest"
    done = seller.submit(preview, APPLY)
    assert "已解绑 1 张" in done.words
    assert own in done.words
    assert not is_bound(own)
    assert Event.get(Event.kind == EventKind.UNBOUND).actor == "console:小李"
    assert proxied.verify(question(own, OLD), address="203.0.113.9").status == 200
    allow(1)
    refused = seller.submit(seller.post(CONFIRM, {"action": "unbind", "id": own}), APPLY)
    assert (refused.status, "每天最多改动 1 张卡密，今天还可改动 0 张" in refused.words) == (400, True)
    assert seller.submit(seller.get(url(MOVE, id=own, reference=reference())), MOVE).status == 400
    assert (is_bound(own), Ceiling.get().changed) == (True, 1)


def test_a_seller_moves_their_own_card_to_the_refused_machine(seller: Browser, own: str) -> None:
    confirmation = seller.get(url(MOVE, id=own, reference=reference()))
    assert not [machine for machine in (OLD, NEW) if machine in confirmation.text]
    assert "198.51.100.9" in confirmation.words
    assert "换绑" in seller.submit(confirmation, MOVE).words
    assert Client.get(Client.card == own).hardware == NEW


def test_cards_of_others_do_not_exist_for_a_seller_who_may_do_nothing_else(
    seller: Browser, proxied: Service, own: str
) -> None:
    (other,) = proxied.issue()
    assert proxied.verify(question(other, "theirs"), address="203.0.113.8").status == 200
    assert proxied.verify(question(other, "another"), address="198.51.100.8").status == 403
    preview = seller.post(CONFIRM, {"action": "unbind", "id": other})
    assert "没有需要更改的卡密" in preview.words
    form = {name: value for name, value in preview.form(APPLY).fields if name in {"form_number", "csrf"}}
    refused = seller.post(APPLY, {**form, "action": "unbind", "id": [own, other]})
    assert (refused.status, f"卡密 {other} 不存在" in refused.words) == (400, True)
    theirs = Event.get((Event.code == Code.CLIENT_MISMATCH) & (Event.card_id == other)).reference
    moved = seller.get(url(MOVE, id=other, reference=theirs))
    assert (moved.status, "不存在" in moved.words) == (400, True)
    assert not seller.get(url("/admin/card", id=other)).text.count('name="action"')
    for action in ["freeze", "unfreeze", "extend", "shorten", "delete"]:
        for path in (CONFIRM, APPLY):
            answer = seller.post(
                path, {"action": action, "id": own, "by": "30d", "previewed": "30d", "form_number": "n"}
            )
            assert answer.status == 403, path
        assert seller.post("/admin/cards/edit", {"id": own}).status == 403, action
    assert is_bound(own)
    assert is_bound(other)


def test_another_card_of_the_machine_is_not_named(seller: Browser, proxied: Service, own: str) -> None:
    (other,) = proxied.issue()
    assert proxied.verify(question(other, NEW), address="198.51.100.9").status == 200
    refused = seller.get(url(MOVE, id=own, reference=reference()))
    assert (refused.status, "另一张有效卡密 •••" in refused.words, other in refused.text) == (400, True, False)
    Card.update(frozen_at=datetime.now(UTC)).where(Card.id == other).execute()
    released = seller.get(url(MOVE, id=own, reference=reference()))
    assert ("将解除绑定： •••" in released.words, other in released.text) == (True, False)
    details = {"moved_to": other}
    journal.append([journal.Entry(datetime.now(UTC), EventKind.RELEASED, card_id=own, details=details)])
    explained = seller.get(url("/admin/refusal", reference=reference()))
    assert ("•••" in explained.words, other in explained.text) == (True, False)


@for_each("changes", [None, 0])
def test_without_an_owners_word_a_seller_changes_nothing(seller: Browser, own: str, changes: int | None) -> None:
    allow(2)
    preview = seller.post(CONFIRM, {"action": "unbind", "id": own})
    allow(changes)
    assert not seller.get(url("/admin/card", id=own)).text.count('name="action"')
    assert MOVE not in seller.get(url("/admin/refusal", reference=reference())).text
    assert seller.submit(preview, APPLY).status == 403
    assert seller.get(url(MOVE, id=own, reference=reference())).status == 403
    assert is_bound(own)
