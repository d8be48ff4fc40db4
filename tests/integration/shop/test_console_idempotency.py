"""A form of the console takes effect once, however often it is sent."""
# Owns form-once.

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.console.forms import Form
from app.domain.codes import EventKind
from app.storage.models import Card, Event
from tests.support.console.console import Browser, Fields, Files, Seen

CONFIRM, APPLY = "/admin/cards/confirm", "/admin/cards/apply"
ISSUE, IMPORT = "/admin/cards/issue", "/admin/cards/import"
CONTENT = b"id,validity\n" + b"".join(b"%032d,30d\n" % number for number in range(3))
Send = Callable[[], Seen]
"""Sends the same form each time."""


def extending(browser: Browser) -> Send:
    browser.service.issue()
    page = browser.get("/admin/cards")
    told = browser.submit(page, CONFIRM, id=[Card.get().id], button=("action", "extend"))
    return again(browser, told, APPLY)


def editing(browser: Browser) -> Send:
    browser.service.issue()
    told = browser.submit(browser.get("/admin/cards"), CONFIRM, id=[Card.get().id], button=("action", "freeze"))
    form = {name: value for name, value in told.form(APPLY).fields if name == "form_number"}
    texts = {"id": Card.get().id, "change": "note", "note": "new"}
    return lambda: browser.post("/admin/cards/edit/apply", {**form, **texts})


def issuing(browser: Browser) -> Send:
    return again(browser, browser.get(ISSUE), ISSUE)


def importing(browser: Browser) -> Send:
    files = {"file": ("a.csv", CONTENT)}
    told = browser.submit(browser.get(IMPORT), IMPORT, button=("step", "preview"), files=files)
    return again(browser, told, IMPORT, {"step": "import"}, files)


def freezing_undone(browser: Browser) -> Send:
    browser.service.issue()
    page = browser.get("/admin/cards")
    told = browser.submit(page, CONFIRM, id=[Card.get().id], button=("action", "freeze"))
    return again(browser, browser.submit(told, APPLY), APPLY)


def again(browser: Browser, page: Seen, action: str, more: Fields | None = None, files: Files | None = None) -> Send:
    fields: dict[str, str | list[str]] = {}
    for name, value in page.form(action).fields:
        fields[name] = [*fields.get(name, []), value]
    return lambda: browser.post(action, {**fields, **(more or {})}, files, csrf="unused: it is among the fields")


def happened(kind: EventKind) -> int:
    """How often the operator did that, by the journal."""
    return Event.select().where((Event.kind == kind) & (Event.actor == "console:老王")).count()


@pytest.mark.parametrize(
    ("prepare", "kind"),
    [
        (extending, EventKind.EXTENDED),
        (editing, EventKind.EDITED),
        (issuing, EventKind.ISSUED),
        (importing, EventKind.IMPORTED),
        (freezing_undone, EventKind.UNFROZEN),
    ],
)
def test_a_form_sent_many_times_at_once_and_again_takes_effect_once_and_leads_to_its_result(
    owner: Browser, prepare: Callable[[Browser], Send], kind: EventKind
) -> None:
    send, together = prepare(owner), threading.Barrier(4)

    def press(_number: int) -> Seen:
        together.wait()
        return send()

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(press, range(4)))
    assert {answer.status for answer in answers} - {503} == {303}
    (result,) = {answer.headers["location"] for answer in answers if answer.status == 303}
    state = list(Card.select().order_by(Card.id).dicts())
    assert send().headers["location"] == result
    assert (happened(kind), list(Card.select().order_by(Card.id).dicts())) == (1, state)
    assert owner.get(result).status == 200


def test_a_form_without_a_number_is_refused(owner: Browser) -> None:
    Card.insert(id="0" * 32, created_at="2026-01-01T00:00:00Z").execute()
    for path, fields, files in (
        (APPLY, {"action": "freeze", "id": "0" * 32}, None),
        (ISSUE, {"validity": "30d", "count": "1"}, None),
        (IMPORT, {"step": "import"}, {"file": ("a.csv", CONTENT)}),
    ):
        answer = owner.post(path, {**fields, "form_number": ""}, files)
        assert (answer.status, "页面已过期" in answer.words) == (400, True), path
    assert [(card.id, card.frozen_at) for card in Card.select()] == [("0" * 32, None)]


def test_each_form_that_is_shown_has_another_number_and_filled_in_differently_is_another_form(owner: Browser) -> None:
    numbers = {dict(owner.get(path).form(path).fields)["form_number"] for path in (ISSUE, ISSUE, IMPORT)}
    assert len(numbers) == 3
    assert min(map(len, numbers)) >= 22
    page = owner.get(ISSUE)
    first, second = (owner.submit(page, ISSUE, count=count) for count in ("1", "2"))
    assert first.path != second.path
    assert Card.select().count() == 3


def test_the_digest_of_a_form_covers_all_fields_and_files() -> None:
    one, digest = {"a": ["1"]}, Form({"a": ["1"]}).digest()
    forms = [Form({"a": ["1", "2"]}), Form({"a": ["12"]}), Form({**one, "b": [""]})]
    forms += [Form(one, {"file": b"x"}), Form(one, {"file": b"y"})]
    assert len({digest, *(form.digest() for form in forms)}) == 6
    assert Form({"a": ["1"], "b": ["2"]}).digest() == Form({"b": ["2"], "a": ["1"]}).digest()
