"""Changes of the vendor's terms, and their journal entries."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from app.domain.codes import EventKind
from app.domain.terms import BindingTerm, RenewTerm, Terms
from app.domain.texts import RefusedError
from app.services.terms import VendorTerms
from app.storage.database import Database
from app.storage.models import Event


def test_terms_are_changed_whole_and_each_change_is_journalled(terms: VendorTerms) -> None:
    assert terms.get() == Terms()
    changed = terms.change([("binding", "both"), ("changes_per_day", "2"), ("self_unbind_cost", "1d")])
    assert changed == terms.get() == Terms(BindingTerm.BOTH, 2, self_unbind_cost=timedelta(days=1))
    with pytest.raises(RefusedError, match="contact"):
        terms.change([("changes_per_day", "9"), ("contact", "x" * 201)])
    assert terms.get() == changed
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
    assert terms.get() == Terms(contact="QQ", notice="hello", changes_per_day=3, self_renew=RenewTerm.ANY)
    assert Event.select().where(Event.kind == EventKind.TERMS_CHANGED).count() == len(given)
