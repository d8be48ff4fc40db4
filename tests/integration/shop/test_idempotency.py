"""A request takes effect once, however often it is sent: shops' orders, operators' forms, and the answers kept."""
# Owns shop-once, form-once.

import http.client
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import peewee
import pytest

from app.console.forms import Form
from app.domain.codes import EventKind
from app.domain.errors import ConflictError, DatabaseUnavailableError
from app.domain.operators.operators import Scope
from app.domain.texts import RefusedError
from app.services.cards.issuing import Issuing
from app.services.shop import idempotency as records
from app.services.shop.idempotency import Document, Idempotency, KeyReusedError, Owner, Request
from app.services.shop.shop_tokens import ShopTokens
from app.services.system import periodic
from app.storage.database import Database
from app.storage.models import Card, Event, Operator
from tests.conftest import Clock
from tests.integration.conftest import with_keys
from tests.support.concurrency import wait_behind
from tests.support.console.console import Browser, Fields, Files, Seen, add_operator
from tests.support.services.processes import children_of
from tests.support.services.relays import Wire
from tests.support.services.service import Response, Service, wait_for
from tests.support.shop import CARDS, Shop


@pytest.fixture
def idempotency(database: Database, clock: Clock) -> Idempotency:
    return Idempotency(database, clock)


@pytest.fixture(params=["operator", "shop"])
def sample_request(request: pytest.FixtureRequest, database: Database, clock: Clock) -> Request:
    """A request of each kind of owner."""
    if request.param == "operator":
        add_operator("olga")
        owner = Owner(operator_id=Operator.get().id)
    else:
        tokens = ShopTokens(database, "tester", clock)
        shop = tokens.authenticate(tokens.add("taobao", list(Scope)))
        assert shop is not None
        owner = Owner(token_id=shop.id)
    return Request(owner, "order-42", "0" * 64, 201)


@pytest.fixture
def run(idempotency: Idempotency, issuing: Issuing) -> Any:
    """Issue a card, once for each request."""

    def act() -> Document:
        return {"cards": [card.id for card in issuing.issue(1, None).cards], "备注": "n"}

    return lambda request: idempotency.run(request, act)


def test_a_request_sent_again_gets_the_kept_answer(run: Any, idempotency: Idempotency, sample_request: Request) -> None:
    first, second = run(sample_request), run(sample_request)
    assert (first.status, first.is_replayed, second) == (201, False, first._replace(is_replayed=True))
    assert json.loads(first.body) == idempotency.find(sample_request.owner, "order-42")
    assert Card.select().count() == 1


def test_a_key_is_of_one_owner_and_one_request(run: Any, idempotency: Idempotency, sample_request: Request) -> None:
    run(sample_request)
    with pytest.raises(KeyReusedError):
        run(sample_request._replace(request_sha256="1" * 64))
    add_operator("other")
    other = Owner(operator_id=Operator.get(Operator.name == "other").id)
    assert idempotency.find(other, "order-42") is None
    assert not run(sample_request._replace(owner=other)).is_replayed
    assert not run(sample_request._replace(key="order-43")).is_replayed
    assert Card.select().count() == 3


def test_a_refused_request_may_be_sent_once_more(run: Any, idempotency: Idempotency, sample_request: Request) -> None:
    def refuse() -> Document:
        raise RefusedError("不", "no")

    with pytest.raises(RefusedError):
        idempotency.run(sample_request, refuse)
    with pytest.raises(RefusedError, match="your account was removed"):
        run(Request(Owner(operator_id=7_777_777), "form", "0" * 64, 303))
    unkept: Any = None  # no status, which the table refuses
    with pytest.raises(peewee.IntegrityError):
        run(sample_request._replace(status=unkept))
    assert (Card.select().count(), Event.select().where(Event.kind == "issued").count()) == (0, 0)
    assert not run(sample_request).is_replayed


def test_a_conflict_is_tried_again_and_at_last_given_up(
    idempotency: Idempotency, sample_request: Request, caplog: pytest.LogCaptureFixture
) -> None:
    conflicts = iter([ConflictError("40P01")] * 6)

    def conflict() -> Document:
        for error in conflicts:
            raise error
        return {}

    with pytest.raises(DatabaseUnavailableError):
        idempotency.run(sample_request, conflict)
    assert "gave up a request" in caplog.text
    assert not idempotency.run(sample_request, conflict).is_replayed


def test_an_answer_is_kept_for_seven_days_and_pruned_in_batches(
    run: Any, sample_request: Request, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "PRUNE_BATCH", 1)
    first, _second = (run(sample_request._replace(key=key)) for key in ("order-42", "order-43"))
    clock.advance(timedelta(days=7))
    assert periodic.prune_console(clock.now) == 0
    assert run(sample_request) == first._replace(is_replayed=True)
    clock.advance(timedelta(seconds=1))
    assert periodic.prune_console(clock.now) == 2
    assert not run(sample_request).is_replayed


def claim(elsewhere: Database, request: Request) -> None:
    """Claim the request's key in another transaction."""
    insert = "INSERT INTO idempotency_record VALUES (DEFAULT, %s, %s, %s, %s, 201, '{}', now())"
    elsewhere.execute_sql(insert, (*request.owner, request.key, request.request_sha256))


@pytest.mark.parametrize("end", ["COMMIT", "ROLLBACK"])
def test_a_request_in_progress_elsewhere_is_waited_for(
    run: Any, sample_request: Request, database: Database, elsewhere: Database, end: str
) -> None:
    claim(elsewhere, sample_request)
    answer = wait_behind(elsewhere, database, partial(run, sample_request), end)
    assert (answer.is_replayed, Card.select().count()) == ((True, 0) if end == "COMMIT" else (False, 1))


def test_a_request_that_stays_in_progress_elsewhere_is_soon_told_to_come_again(
    run: Any, sample_request: Request, database: Database, elsewhere: Database, caplog: pytest.LogCaptureFixture
) -> None:
    pid = database.connection().get_backend_pid()
    claim(elsewhere, sample_request)
    with pytest.raises(DatabaseUnavailableError, match=r"^the same request is still being processed$"):  # a 503
        run(sample_request)
    elsewhere.execute_sql("ROLLBACK")
    assert not run(sample_request).is_replayed
    assert database.connection().get_backend_pid() == pid, "the database was not away"
    assert caplog.messages == []


def test_the_claim_alone_waits_shortly(idempotency: Idempotency, sample_request: Request, database: Database) -> None:
    def limits() -> Document:
        names = ("lock_timeout", "idle_in_transaction_session_timeout")
        return {name: database.execute_sql(f"SHOW {name}").fetchone()[0] for name in names}

    def act() -> Document:
        database.allow_idle(180)
        return limits()

    usual = limits()
    assert usual["lock_timeout"] != f"{records.CLAIM_SECONDS}s"
    longer = usual | {"idle_in_transaction_session_timeout": "3min"}
    assert json.loads(idempotency.run(sample_request, act).body) == longer
    assert limits() == usual | {"idle_in_transaction_session_timeout": "30s"}


ORDER = {"validity": "30d", "count": 2, "note": "order 42"}
WRITES_AN_ORDER = b'INSERT INTO "idempotency_record"'


@pytest.fixture
def shop(service: Service, database: Database) -> Shop:
    return Shop(service, database)


def is_replay(answer: Response) -> bool:
    return answer.headers.get("idempotency-replayed") == "true"


def sold_once() -> bool:
    return (Card.select().count(), Event.select().where(Event.kind == "issued").count()) == (2, 1)


def test_a_repeated_change_of_cards_has_no_further_effect(shop: Shop) -> None:
    (card_id,) = shop.issue(validity="1d")
    first, second = (shop.post(f"{CARDS}/extend", {"ids": [card_id], "by": "week"}, "renewal") for _ in range(2))
    assert first.body == second.body == {"changed": [card_id], "revived_unbound": []}
    assert shop.look_up(card_id).body["validity_seconds"] == 8 * 86_400


def test_a_key_is_good_for_one_order_in_any_json_form(service: Service, shop: Shop) -> None:
    first = shop.post(CARDS, ORDER, "order-42")
    assert not is_replay(first)
    _, headers = shop.order(ORDER, "order-42")
    turned = json.dumps({**dict(reversed(ORDER.items())), "batch": None}, indent=2).encode()
    again = service.request("POST", CARDS, turned, headers)
    assert (again.status, again.body, is_replay(again)) == (201, first.body, True)
    for path, document in [
        (CARDS, {**ORDER, "validity": "month"}),  # the same time, otherwise written
        (CARDS, {"validity": "30d", "count": 2}),
        (f"{CARDS}/freeze", {"ids": ["0" * 32]}),
    ]:
        answer = shop.post(path, document, "order-42")
        refused = (answer.status, answer.body["code"], answer.body["field"])
        assert refused == (422, "IDEMPOTENCY_CONFLICT", "Idempotency-Key"), (path, document)
        assert sold_once(), (path, document)


@contextmanager
def one_order(
    database: Database, database_url: str, folder: Path
) -> Iterator[tuple[Wire, Service, Shop, Future[Response]]]:
    """Have an order written whose commit's answer is held, by one worker on a connection that it had kept."""
    with (
        Wire(database_url, WRITES_AN_ORDER) as wire,
        Service(with_keys(folder), wire.url, KADUN_WORKERS="1", KADUN_THREADS="1") as service,
        ThreadPoolExecutor(1) as pool,
    ):
        shop = Shop(service, database)
        shop.look_up("0" * 32)
        order = pool.submit(shop.post, CARDS, ORDER, "order-42")
        assert wire.held.wait(60)
        yield wire, service, shop, order


def test_a_worker_killed_after_the_commit_sells_once(database: Database, database_url: str, tmp_path: Path) -> None:
    with one_order(database, database_url, tmp_path) as (_wire, service, shop, lost):
        assert sold_once()  # and the worker does not know it yet
        (worker,) = children_of(service.process.pid)
        os.kill(worker, signal.SIGKILL)
        with pytest.raises((OSError, http.client.HTTPException)):
            lost.result()
        wait_for(lambda: set(children_of(service.process.pid)) - {worker})
        again = shop.post(CARDS, ORDER, "order-42")
    assert (again.status, is_replay(again)) == (201, True)
    assert {card["id"] for card in again.body["cards"]} == {row.id for row in Card.select()}
    assert sold_once()


def test_a_connection_broken_at_the_commit_sells_once(database: Database, database_url: str, tmp_path: Path) -> None:
    with one_order(database, database_url, tmp_path) as (wire, _service, _shop, order):
        wire.cut()
        answer = order.result()
    assert (answer.status, is_replay(answer)) == (201, True)
    assert sold_once()


CONFIRM, APPLY = "/admin/cards/confirm", "/admin/cards/apply"
ISSUE, IMPORT = "/admin/cards/issue", "/admin/cards/import"
CONTENT = b"id,validity\n" + b"".join(b"%032d,30d\n" % number for number in range(3))
Send = Callable[[], Seen]
"""Sends the same form each time."""


def issuing_cards(browser: Browser) -> Send:
    return again(browser, browser.get(ISSUE), ISSUE)


def importing(browser: Browser) -> Send:
    files = {"file": ("a.csv", CONTENT)}
    told = browser.submit(browser.get(IMPORT), IMPORT, button=("step", "preview"), files=files)
    return again(browser, told, IMPORT, {"step": "import"}, files)


def freezing_undone(browser: Browser) -> Send:
    browser.service.issue()
    asked = browser.submit(browser.get("/admin/cards"), CONFIRM, id=[Card.get().id], button=("action", "freeze"))
    return again(browser, browser.submit(asked, APPLY), APPLY)


def again(browser: Browser, page: Seen, action: str, more: Fields | None = None, files: Files | None = None) -> Send:
    fields: dict[str, str | list[str]] = {}
    for name, value in page.form(action).fields:
        fields[name] = [*fields.get(name, []), value]
    return lambda: browser.post(action, {**fields, **(more or {})}, files, csrf="unused: it is among the fields")


@pytest.mark.parametrize(
    ("prepare", "kind"),
    [
        (issuing_cards, EventKind.ISSUED),
        (importing, EventKind.IMPORTED),
        (freezing_undone, EventKind.UNFROZEN),
    ],
)
def test_a_form_sent_often_has_one_effect(owner: Browser, prepare: Callable[[Browser], Send], kind: EventKind) -> None:
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
    assert list(Card.select().order_by(Card.id).dicts()) == state
    assert Event.select().where((Event.kind == kind) & (Event.actor == "console:老王")).count() == 1
    assert owner.get(result).status == 200


def test_a_form_without_a_number_is_refused(owner: Browser) -> None:
    Card.insert(id="0" * 32, created_at="2026-01-01T00:00:00Z").execute()
    for path, fields, files in (
        (APPLY, {"action": "freeze", "id": "0" * 32}, None),
        ("/admin/cards/edit/apply", {"id": "0" * 32, "change": "note", "note": "new"}, None),
        (ISSUE, {"validity": "30d", "count": "1"}, None),
        (IMPORT, {"step": "import"}, {"file": ("a.csv", CONTENT)}),
    ):
        answer = owner.post(path, {**fields, "form_number": ""}, files)
        assert (answer.status, "页面已过期" in answer.words) == (400, True), path
    assert [(card.id, card.frozen_at, card.note) for card in Card.select()] == [("0" * 32, None, None)]


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
