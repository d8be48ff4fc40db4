"""The vendor's terms and block list: their changes, on the command line, and in a running service."""
# Owns terms-change.

import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from app.domain.codes import EventKind
from app.domain.licence.terms import BindingTerm, RenewTerm, Terms
from app.domain.texts import RefusedError
from app.services.licence.terms import VendorTerms
from app.storage.database import Database
from app.storage.journal import MAX_REFUSALS_PER_MINUTE
from app.storage.models import Event
from tests.integration.conftest import with_keys
from tests.support.licence.in_force import REAL_INTERVAL
from tests.support.services.service import Response, Service, question


def test_terms_are_changed_whole_and_each_change_is_journalled(terms: VendorTerms) -> None:
    assert terms.read()[1] == Terms()
    changed = terms.change([("binding", "both"), ("changes_per_day", "2"), ("self_unbind_cost", "1d")])
    assert changed == terms.read()[1] == Terms(BindingTerm.BOTH, 2, self_unbind_cost=timedelta(days=1))
    with pytest.raises(RefusedError, match="contact"):
        terms.change([("changes_per_day", "9"), ("contact", "x" * 201)])
    assert terms.read()[1] == changed
    assert terms.change([("binding", "both")]) == changed
    assert terms.change([("binding", ""), ("notice", "你好")]).notice == "你好"
    entries = list(Event.select().where(Event.kind == EventKind.TERMS_CHANGED).order_by(Event.id))
    assert [entry.actor for entry in entries] == ["tester"] * 2
    assert [entry.details for entry in entries] == [
        {
            "terms": 1,
            "before": {"binding": "either", "changes_per_day": None, "self_unbind_cost": None},
            "after": {"binding": "both", "changes_per_day": 2, "self_unbind_cost": "1d"},
        },
        {
            "terms": 2,
            "before": {"binding": "both", "notice": None},
            "after": {"binding": "either", "notice": "你好"},
        },
    ]


def test_changes_at_the_same_time_lose_none(terms: VendorTerms, database: Database) -> None:
    def change(name: str, text: str) -> None:
        terms.change([(name, text)])
        database.close()

    given = {"contact": "QQ", "notice": "hello", "changes_per_day": "3", "self_renew": "any"}
    with ThreadPoolExecutor(len(given)) as pool:
        list(pool.map(change, given, given.values()))
    assert terms.read()[1] == Terms(contact="QQ", notice="hello", changes_per_day=3, self_renew=RenewTerm.ANY)
    assert Event.select().where(Event.kind == EventKind.TERMS_CHANGED).count() == len(given)


HOME = "198.51.100.1"


def test_the_terms_are_shown_as_they_are_set(offline: Service) -> None:
    offline.cardctl("terms", "set", "self_service=on", "self_unbind_cost=2d", "contact=QQ 1")
    shown = offline.cardctl_json("terms", "show")
    assert [shown[name] for name in ("binding", "self_service", "self_unbind_cost")] == ["either", True, "2d"]
    assert re.search(r"self_service +on\b", offline.cardctl("terms", "show").stdout)
    assert "Nothing is blocked" in offline.cardctl("block", "list").stderr


def test_wrong_commands_say_what_would_be_right(offline: Service) -> None:
    for command, status, told in [
        (["terms", "set", "binding=none"], 1, "binding must be one of either, hardware, both"),
        (["terms", "set", "binding"], 1, "must be written NAME=VALUE"),
        (["terms", "set"], 2, "NAME=VALUE"),
        (["block", "add", "--network", "0.0.0.0/0", "--reason", "all"], 1, "not all addresses"),
        (["block", "add", "--address", "1.2.3.4", "--hardware", "h", "--reason", "r"], 2, "Give one of"),
        (["block", "remove", "99"], 1, "there is no block 99"),
    ]:
        done = offline.cardctl(*command, check=False)
        assert (done.returncode, told in " ".join(done.stderr.split())) == (status, True), done.stderr
        assert not Event.select().exists(), (command, status, told)


def codes_of(service: Service, card_id: str, **more: object) -> set[str]:
    """Return the codes of as many answers as reach all processes."""
    document = question(card_id) | more

    def one(_: int) -> Response:
        return service.verify(document, address=HOME)

    with ThreadPoolExecutor(8) as pool:
        return {str(answer.claims["code"]) for answer in pool.map(one, range(40))}


@pytest.fixture
def as_in_production(database: Database, database_url: str, tmp_path: Path) -> Iterator[Service]:
    """Four processes that read the terms as often as those of customers."""
    settings = {"KADUN_BEHIND_PROXY": "true", "KADUN_WORKERS": "4", REAL_INTERVAL: "yes"}
    with Service(with_keys(tmp_path), database_url, **settings) as running:
        yield running


def wait_two_seconds() -> None:
    """Wait for as long as the contract allows; start over if the machine stood still."""
    left, end = 20, time.monotonic() + 60
    while left:
        began = time.monotonic()
        assert began < end, "the machine keeps standing still"
        time.sleep(0.1)
        left = 20 if time.monotonic() - began > 0.3 else left - 1


def test_terms_and_blocks_are_in_force_in_every_process_within_two_seconds(as_in_production: Service) -> None:
    proxied = as_in_production
    (card_id,) = proxied.issue()
    assert codes_of(proxied, card_id) == {"OK"}
    shown = proxied.cardctl("terms", "set", "minimum_version=2.0", "update_url=https://example.com/2")
    assert "https://example.com/2" in shown.stdout
    wait_two_seconds()
    assert codes_of(proxied, card_id) == {"UPDATE_REQUIRED"}
    assert codes_of(proxied, card_id, version="2.0.0") == {"OK"}
    proxied.cardctl("terms", "set", "minimum_version=")
    proxied.cardctl("block", "add", "--hardware", question(card_id)["hardware"], "--reason", "charged back")
    wait_two_seconds()
    assert codes_of(proxied, card_id) == {"CLIENT_BLOCKED"}
    (row,) = proxied.cardctl_json("block", "list")
    assert row["hits"] >= MAX_REFUSALS_PER_MINUTE
    proxied.cardctl("block", "remove", str(row["id"]))
    wait_two_seconds()
    assert codes_of(proxied, card_id) == {"OK"}
