"""Verdicts: their claims, what a verification writes, that stale facts write nothing, and a model of the rules."""
# Owns token-claims, verdict-writes, verdict-guarded, verdict-model.

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
import peewee
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from joserfc import jwe
from joserfc.jwk import OKPKey

from app.domain.cards.card_actions import Action
from app.domain.codes import Code, EventKind
from app.domain.licence.policy import Facts, VerificationRequest, decide
from app.services.cards.card_actions import CardActions
from app.services.cards.issuing import Issuing
from app.services.licence.licence import Verification
from app.storage import bindings, journal
from app.storage.database import Database
from app.storage.models import Card, Client, Event, Usage
from app.storage.statements import OTHER_FUNCTIONS
from tests.conftest import START, Clock
from tests.support.concurrency import wait_behind
from tests.support.licence import bound_cards
from tests.support.licence.bound_cards import ask, claims, kinds
from tests.support.query_plans import statements
from tests.support.services.service import Service, question
from tests.support.tables import for_each

KEY = OKPKey.generate_key("X25519")
SEALING = {"client_public_key": str(KEY.as_dict(private=False)["x"])}
AWAY = "203.0.113.9"


def header(token: str) -> dict[str, object]:
    return dict(json.loads(base64.urlsafe_b64decode(token.split(".", 1)[0] + "==")))


def test_a_token_has_the_claims_of_the_protocol_and_the_key_sealed_where_a_public_key_is_sent(service: Service) -> None:
    (card_id,) = service.issue(validity="1d")
    asked = question(card_id)
    answer = service.verify(asked)
    assert set(answer.body) == {"code", "message", "token"}
    token = answer.body["token"]
    keys = {key["kid"]: key for key in service.get("/.well-known/jwks.json").body["keys"]}
    kid = header(token)["kid"]
    assert header(token) == {"alg": "EdDSA", "typ": "verdict+jwt", "kid": kid}
    claims = jwt.decode(token, jwt.PyJWK(keys[str(kid)]), ["EdDSA"], audience="kadun-client", issuer="kadun")
    sent = {"sub": card_id, "nonce": asked["nonce"], "function": "打开程序"}
    assert {name: claims[name] for name in sent} == sent
    assert claims["exp"] - claims["iat"] == 300
    assert claims["card_expires_at"] - claims["card_activated_at"] == 86_400
    assert claims["KERNAL_DATA_KEY"] == service.environment["KERNAL_DATA_KEY"]
    assert "offline_until" not in claims, "without the vendor's leave"
    claims = service.verify(question(card_id, **SEALING)).claims
    assert "KERNAL_DATA_KEY" not in claims
    assert set(header(claims["KERNAL_DATA_KEY_SEALED"])) == {"alg", "enc", "epk"}
    opened = jwe.decrypt_compact(claims["KERNAL_DATA_KEY_SEALED"], KEY, algorithms=["ECDH-ES", "A256GCM"])
    assert (opened.plaintext or b"").decode() == service.environment["KERNAL_DATA_KEY"]


def test_every_verdict_is_bound_to_the_bytes_of_its_request(service: Service) -> None:
    (card_id,) = service.issue()
    for path in ("/v1/verify", "/v1/files"):  # and /v1/execute: test_execute
        for card, ensure_ascii in ((card_id, True), (card_id, False), ("0" * 32, False)):
            body = f"\n{json.dumps(question(card), ensure_ascii=ensure_ascii, indent=1)} ".encode()
            answer = service.request("POST", path, body, {"Content-Type": "application/json"})
            assert answer.claims["request_sha256"] == hashlib.sha256(body).hexdigest(), (path, answer)


def test_settings_require_the_sealed_key_and_allow_offline_starts(database_url: str, tmp_path: Path) -> None:
    with Service(tmp_path, database_url, KADUN_REQUIRE_SEALED="true", KADUN_OFFLINE_GRACE="7d") as service:
        short, long = service.issue(validity="1d") + service.issue(validity="permanent")
        refused = service.verify(question(short))
        assert (refused.status, refused.body["field"]) == (400, "client_public_key")
        assert service.verify(question(short, function="导出报表")).status == 200
        first = service.verify(question(short, **SEALING)).claims
        second = service.verify(question(long, hardware="h2", **SEALING)).claims
    assert first["offline_until"] == first["card_expires_at"]
    assert second["offline_until"] == second["iat"] + 7 * 86_400


def test_the_first_request_activates_and_binds_others_are_counted_and_another_card_takes_the_client_over(
    verification: Verification, card_id: str, other_id: str, clock: Clock
) -> None:
    token, whole = claims(ask(verification, card_id)), clock.now.replace(microsecond=0)
    assert (token["activated"], token["KERNAL_DATA_KEY"]) == (True, "the-vendor's-own-key")
    times = (whole.timestamp(), (whole + timedelta(days=30)).timestamp())
    assert (token["card_activated_at"], token["card_expires_at"]) == times
    clock.advance(timedelta(minutes=1))
    assert claims(ask(verification, card_id))["activated"] is False
    assert Client.get().requested_at == clock.now
    assert (Usage.get().count, Usage.get().last_at) == (2, clock.now)
    token = claims(ask(verification, card_id, function="导出报表", address=AWAY))
    assert token["accepted"] is True
    assert not {"KERNAL_DATA_KEY", "KERNAL_DATA_KEY_SEALED", "offline_until"} & set(token), "of another function no key"
    assert kinds() == [EventKind.ACTIVATED, EventKind.ENVIRONMENT_CHANGED]
    changed = Event.get(Event.kind == EventKind.ENVIRONMENT_CHANGED)
    assert changed.details["before"] == {"hardware": "h1", "ip": "198.51.100.1"}
    assert Client.get().ip == AWAY
    client_id = Client.get().id
    clock.advance(timedelta(days=30))
    assert [ask(verification, card).code for card in (card_id, other_id)] == [Code.CARD_EXPIRED, Code.OK]
    assert (Client.get().id, Client.get().card_id) == (client_id, other_id)
    released = Event.get(Event.kind == EventKind.RELEASED)
    assert (released.card_id, released.details["moved_to"]) == (card_id, other_id)
    activated = {card.id: card.activated_at for card in Card.select()}
    assert activated == {card_id: whole, other_id: clock.now.replace(microsecond=0)}


def test_another_machine_is_refused_and_all_that_it_sent_journalled(verification: Verification, card_id: str) -> None:
    ask(verification, card_id)
    before = [list(table.select().dicts()) for table in (Client, Card, Usage)]
    sent = ("h2", "导出报表", "a nonce of its own", AWAY, "192.168.1.7", "a public key")
    token = claims(verification.verify(VerificationRequest.from_fields(card_id, *sent, version="1.4")))
    assert (token["code"], token["accepted"]) == (Code.CLIENT_MISMATCH, False)
    assert not {"card_activated_at", "card_expires_at", "KERNAL_DATA_KEY"} & set(token)
    assert [list(table.select().dicts()) for table in (Client, Card, Usage)] == before
    event = Event.get(Event.code == Code.CLIENT_MISMATCH)
    named = (event.card_id, event.hardware, event.function, event.ip, event.claimed_ip, event.reference)
    assert named == (card_id, "h2", "导出报表", AWAY, "192.168.1.7", str(token["jti"])[-8:])
    details = {"nonce": "a nonce of its own", "client_public_key": "a public key", "version": "1.4"}
    assert details.items() <= event.details.items()
    ask(verification, "0" * 32)
    assert list(Event.get(Event.code == Code.CARD_NOT_FOUND).details) == ["hardware_sha256"], "of others no nonce"


def test_beyond_64_functions_a_day_all_count_as_one(verification: Verification, card_id: str, other_id: str) -> None:
    for function in (*(f"f{number}" for number in range(70)), "f3"):
        assert ask(verification, card_id, function=function).code is Code.OK
    assert ask(verification, card_id, function="f3", address=AWAY).code is Code.OK  # a change, not a refresh
    counts = {row.function: row.count for row in Usage.select()}
    assert (len(counts), counts["其他"], counts["f3"]) == (65, 6, 3)
    assert ask(verification, other_id, hardware="h2", function="f99").code is Code.OK
    assert Usage.get(Usage.card == other_id).function == "f99"


def test_unknown_functions_are_uncounted(verification: Verification, card_id: str, other_id: str, clock: Clock) -> None:
    day = clock.now.date()
    for function in ("f0", "f0", *(f"f{number}" for number in range(1, 67))):
        ask(verification, card_id, function=function)
    ask(verification, other_id, hardware="h2", function="f0")
    clock.advance(timedelta(days=1))
    ask(verification, card_id, function="f0")

    def taken_back(function: str) -> dict[str, int]:
        bindings.take_back(VerificationRequest.from_fields(card_id, "h1", function, "n" * 22, "198.51.100.1"), day)
        rows = list(Usage.select().where(Usage.function.in_(["f0", "f1", OTHER_FUNCTIONS])))
        assert sorted(row.count for row in rows if (row.card_id, row.day) != (card_id, day)) == [1, 1]
        return {row.function: row.count for row in rows if (row.card_id, row.day) == (card_id, day)}

    assert taken_back("f0") == {"f0": 1, "f1": 1, OTHER_FUNCTIONS: 3}
    assert taken_back("f0") == {"f1": 1, OTHER_FUNCTIONS: 3}
    assert taken_back("f66") == {"f1": 1, OTHER_FUNCTIONS: 2}
    assert [taken_back("f66") for _ in range(3)][-1] == {"f1": 1}


def test_usage_is_counted_by_the_vendors_day(verification: Verification, card_id: str, clock: Clock) -> None:
    clock.now = clock.now.replace(hour=15, minute=59)
    ask(verification, card_id)
    clock.advance(timedelta(minutes=1))  # midnight in Shanghai
    ask(verification, card_id)
    assert [str(row.day) for row in Usage.select().order_by(Usage.day)] == ["2026-03-01", "2026-03-02"]


CARD, RIVAL_CARD, UNUSED = "A" * 32, "B" * 32, "C" * 32
CLIENT, RIVAL_CLIENT, NEW, OTHER = "1" * 32, "2" * 32, "3" * 32, "4" * 32
DAY, DAYS_30 = date(2026, 3, 1), timedelta(days=30)
AT = START.replace(microsecond=0)
LATER = START + timedelta(minutes=1)
REQUEST = VerificationRequest.from_fields(CARD, "h1", "f", "n" * 22, "2001:db8::1")
RIVAL = VerificationRequest.from_fields(RIVAL_CARD, "h2", "f", "n" * 22, "198.51.100.2")
NEWCOMER = VerificationRequest.from_fields(UNUSED, "h3", "f", "n" * 22, "198.51.100.3")
MOVING = REQUEST._replace(card_id=UNUSED, sent_card_id=UNUSED)


def apply(
    database: Database, request: VerificationRequest, facts: Facts | None = None, kind: Any = EventKind.ACTIVATED
) -> bool:
    """Write what the rules say to these facts, or to the present ones, with an entry of this kind."""
    facts = facts or bindings.read_facts(database, request.card_id, request.hardware_sha256)
    decision = decide(facts, request, LATER)
    entries = [replace(journal.Entry(LATER, EventKind.ACTIVATED, card_id=request.card_id), kind=kind)]
    return bindings.apply(database, facts, decision, request, at=LATER, day=DAY, entries=entries, client_id=NEW)


def rows() -> bound_cards.Rows:
    cards, clients, usage = bound_cards.rows()
    return [cards, clients, list(Event.select().order_by(Event.id).dicts()), usage]


@pytest.fixture
def bound(database: Database) -> Facts:
    """A card and its rival, each bound, with usage on two days and of two functions, and an unused card."""
    for card_id, client_id, request in ((CARD, CLIENT, REQUEST), (RIVAL_CARD, RIVAL_CLIENT, RIVAL)):
        times = {"activated_at": AT, "expires_at": AT + DAYS_30}
        Card.insert(id=card_id, validity=DAYS_30, is_activated=True, created_at=AT, **times).execute()
        environment = {"hardware": request.hardware, "hardware_sha256": request.hardware_sha256, "ip": request.address}
        Client.insert(id=client_id, card=card_id, requested_at=AT, function="old", **environment).execute()
        for day, function in ((DAY, "f"), (DAY, "g"), (DAY - timedelta(days=1), "f")):
            Usage.insert(card=card_id, day=day, function=function, count=3, last_at=AT).execute()
    Card.insert(id=UNUSED, validity=DAYS_30, created_at=AT).execute()
    return bindings.read_facts(database, CARD, REQUEST.hardware_sha256)


def change(table: Any, key: str, **columns: object) -> Callable[[], object]:
    return lambda: table.update(**columns).where(table.id == key).execute()


STALE: dict[str, Callable[[], object]] = {
    "frozen": change(Card, CARD, frozen_at=AT),
    "extended": change(Card, CARD, expires_at=AT + timedelta(days=31)),
    "made permanent": change(Card, CARD, expires_at=None, validity=None),
    "unbound": lambda: Client.delete().where(Client.id == CLIENT).execute(),
    "bound to another machine": change(Client, CLIENT, hardware="h3", hardware_sha256=sha256(b"h3").hexdigest()),
    "at another address": change(Client, CLIENT, ip="2001:db8::3"),
    "moved to another card": change(Client, CLIENT, card=UNUSED),
    "bound anew": change(Client, CLIENT, id=OTHER),
}


@for_each("way", STALE)
def test_stale_facts_write_nothing(database: Database, bound: Facts, way: str) -> None:
    with database.atomic() as transaction:
        STALE[way]()
        before = rows()
        assert not apply(database, REQUEST, bound)
        assert rows() == before
        transaction.rollback()


def test_a_machine_takes_its_client_from_a_dead_card_to_another(database: Database, bound: Facts) -> None:
    for dead, request, kept in (
        (CARD, MOVING._replace(address="198.51.100.9"), [rows()[1][1]]),
        (RIVAL_CARD, REQUEST._replace(hardware=RIVAL.hardware, hardware_sha256=RIVAL.hardware_sha256), []),
    ):
        with database.atomic() as transaction:
            Card.update(frozen_at=AT).where(Card.id == dead).execute()
            assert apply(database, request)
            named = {"hardware": request.hardware, "hardware_sha256": request.hardware_sha256, "ip": request.address}
            moved = {"id": CLIENT, "card": request.card_id, "program": "main", "requested_at": LATER, "function": "f"}
            assert rows()[1] == [moved | named, *kept]
            used = {"card": CARD, "day": DAY, "function": "f", "count": 4, "last_at": LATER}
            assert (used in rows()[3]) is (request.card_id == CARD)
            transaction.rollback()


def test_an_error_that_is_no_conflict_is_raised_and_undoes_everything(database: Database, bound: Facts) -> None:
    before = rows()
    with pytest.raises(peewee.IntegrityError):
        apply(database, REQUEST, kind=None)
    assert rows() == before


def test_what_changed_while_a_write_waited_is_seen(database: Database, elsewhere: Database, bound: Facts) -> None:
    """Another request binds the same machine; the dead card of the machine is revived."""
    Client.delete().where(Client.id == RIVAL_CLIENT).execute()
    insert = "INSERT INTO client (id, card_id, hardware, hardware_sha256, ip, requested_at, function)"
    values = (OTHER, RIVAL_CARD, "h3", NEWCOMER.hardware_sha256, "198.51.100.3", LATER, "f")
    Card.update(frozen_at=AT).where(Card.id == CARD).execute()
    revive = "UPDATE card SET frozen_at = NULL WHERE id = %s"
    for request, statement in (
        (NEWCOMER, (f"{insert} VALUES (%s, %s, %s, %s, %s, %s, %s)", values)),
        (MOVING, (revive, (CARD,))),
    ):
        facts = bindings.read_facts(database, request.card_id, request.hardware_sha256)
        elsewhere.execute_sql(*statement)
        assert not wait_behind(elsewhere, database, partial(apply, database, request, facts)), request
        elsewhere.execute_sql("BEGIN")
    assert (Card.get_by_id(UNUSED).is_activated, Client.get_by_id(CLIENT).card_id) == (False, CARD)
    facts = bindings.read_facts(database, UNUSED, NEWCOMER.hardware_sha256)
    Card.delete().where(Card.id == UNUSED).execute()
    assert not apply(database, NEWCOMER, facts), "a card that was deleted is not activated"


def test_cards_are_locked_in_the_order_of_their_ids(database: Database, bound: Facts) -> None:
    with database.atomic(), statements(database) as ran:
        locked = bindings.lock_cards([UNUSED, "Z" * 32, CARD])
    assert [card.id for card in locked] == [CARD, UNUSED]
    # A stronger lock would hold up writers of other tables.
    assert ran[0][0].endswith('ORDER BY "t1"."id" FOR NO KEY UPDATE')


CARDS = 4
MACHINES = st.sampled_from(["h1", "h2", "h3"])
ADDRESSES = st.sampled_from(["198.51.100.1", "198.51.100.2", "2001:db8::1", "2001:db8::2", "2001:db8:0:1::1"])
NETWORK = {"2001:db8::2": "2001:db8::1"}  # of the addresses above, these two count as one
INDEX = st.integers(0, CARDS - 1)
ONE_DAY = timedelta(days=1)


@dataclass
class ModelCard:
    """A card in the model: the protocol's section 2, implemented a second time in another way."""

    validity: timedelta | None
    expires: datetime | None = None
    activated: bool = False
    frozen: bool = False
    machine: str | None = None
    address: str | None = None

    def live(self, now: datetime) -> bool:
        return self.activated and not self.frozen and not self.expired(now)

    def expired(self, now: datetime) -> bool:
        return self.activated and self.expires is not None and now >= self.expires

    def release(self) -> None:
        self.machine = self.address = None


def ask_model(cards: list[ModelCard], index: int, machine: str, address: str, now: datetime) -> str:
    card = cards[index]
    if card.frozen:
        return "CARD_FROZEN"
    if card.expired(now):
        return "CARD_EXPIRED"
    if card.machine is not None and card.machine != machine and card.address != address:
        return "CLIENT_MISMATCH"
    for other in cards:
        if other is not card and other.machine == machine:
            if other.live(now):
                return "CLIENT_HAS_ANOTHER_CARD"
            other.release()
    if not card.activated:
        card.activated = True
        card.expires = None if card.validity is None else now.replace(microsecond=0) + card.validity
    card.machine, card.address = machine, address
    return "OK"


def machine_of(  # noqa: C901  # the rules stand together
    database: Database, verification: Verification, card_actions: CardActions, issuing: Issuing, clock: Clock
) -> type[RuleBasedStateMachine]:
    class Customers(RuleBasedStateMachine):
        @initialize(validities=st.lists(st.sampled_from([ONE_DAY, 3 * ONE_DAY, None]), min_size=CARDS, max_size=CARDS))
        def issue(self, validities: list[timedelta | None]) -> None:
            database.execute_sql("SET session_replication_role = replica")
            database.execute_sql("DELETE FROM usage; DELETE FROM client; DELETE FROM event; DELETE FROM card")
            database.execute_sql("SET session_replication_role = DEFAULT")
            clock.now = START
            self.ids = [issuing.issue(1, validity).cards[0].id for validity in validities]
            self.cards = [ModelCard(validity) for validity in validities]

        @rule(index=INDEX, machine=MACHINES, address=ADDRESSES)
        def ask(self, index: int, machine: str, address: str) -> None:
            verdict = ask(verification, self.ids[index], machine, address)
            expected = ask_model(self.cards, index, machine, NETWORK.get(address, address), clock.now)
            assert verdict.code == expected
            told = claims(verdict)
            assert told["accepted"] is ("KERNAL_DATA_KEY" in told) is (expected == "OK")
            if expected.startswith("CLIENT"):
                assert Event.select().where(Event.reference == verdict.reference).count() == 1
            self.compare()

        @rule(index=INDEX, action=st.sampled_from([Action.FREEZE, Action.UNFREEZE, Action.UNBIND]))
        def act(self, index: int, action: Action) -> None:
            outcome, card = card_actions.apply(action, [self.ids[index]]), self.cards[index]
            is_live_again = card.frozen and card.activated and not card.expired(clock.now)
            assert bool(outcome.revived_unbound) is (
                action is Action.UNFREEZE and is_live_again and card.machine is None
            )
            if action is Action.UNBIND:
                card.release()
            else:
                card.frozen = action is Action.FREEZE
            self.compare()

        @precondition(lambda self: any(card.validity for card in self.cards))
        @rule(data=st.data())
        def extend(self, data: st.DataObject) -> None:
            index = data.draw(st.sampled_from([i for i, card in enumerate(self.cards) if card.validity]))
            card_actions.apply(Action.EXTEND, [self.ids[index]], ONE_DAY)
            card = self.cards[index]
            assert card.validity is not None
            if card.expires is None:
                card.validity += ONE_DAY
            else:
                card.expires = max(card.expires, clock.now.replace(microsecond=0)) + ONE_DAY
            self.compare()

        @rule(by=st.sampled_from([timedelta(seconds=1), ONE_DAY - timedelta(seconds=1), ONE_DAY, 5 * ONE_DAY]))
        def wait(self, by: timedelta) -> None:
            clock.advance(by)

        def compare(self) -> None:
            """Compare all rows with the model: one card, one client, always."""
            for card_id, card in zip(self.ids, self.cards, strict=True):
                row, client = Card.get_by_id(card_id), Client.get_or_none(Client.card == card_id)
                assert (row.is_activated, row.expires_at) == (card.activated, card.expires)
                assert (row.frozen_at is not None) is card.frozen
                bound = None if client is None else (client.hardware, NETWORK.get(client.ip, client.ip))
                assert bound == (None if card.machine is None else (card.machine, card.address))

    return Customers


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("examples", [25, pytest.param(200, marks=pytest.mark.nightly)])
def test_the_service_behaves_as_the_model(
    database: Database,
    verification: Verification,
    card_actions: CardActions,
    issuing: Issuing,
    clock: Clock,
    examples: int,
) -> None:
    health = list(HealthCheck)
    run_state_machine_as_test(
        machine_of(database, verification, card_actions, issuing, clock),
        settings=settings(
            max_examples=examples, stateful_step_count=30, derandomize=True, suppress_health_check=health
        ),
    )
