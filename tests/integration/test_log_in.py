"""Log-ins: accepted and refused ones, and what is stored."""

import unicodedata
from typing import Literal

import pytest
from argon2 import PasswordHasher

from app.domain.operators import MAX_PASSWORD
from app.services.credentials import LoginRefusedError
from app.services.passwords import Passwords
from app.services.sessions import Sessions
from app.storage.database import Database
from app.storage.models import Event, Operator, OperatorSession
from tests.support.log_ins import HOME, LogIns
from tests.support.passwords import OTHER, PASSWORD, CheapPasswords
from tests.support.sealing import SEALING


def test_name_and_password_open_a_session(log_ins: LogIns) -> None:
    assert log_ins.sessions.identify(log_ins.log_in()) == log_ins.alice
    entry = Event.get(Event.kind == "logged_in")
    assert (entry.actor, entry.ip, entry.details) == ("console:alice", HOME, None)


def test_white_space_and_full_width_letters_of_phones_are_accepted(log_ins: LogIns) -> None:
    log_ins.log_in(name=" alice ", password="ｃｏｒｒｅｃｔ horse battery")


def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(log_ins: LogIns) -> None:
    for name in ("alice", "bob", "", "a\0", "\ud800", "x" * 10_000):
        with pytest.raises(LoginRefusedError) as refusal:
            log_ins.log_in(OTHER, name=name)
        assert type(refusal.value) is LoginRefusedError
        assert refusal.value.text == LoginRefusedError().text
        assert OperatorSession.select().count() == 0, name


def test_odd_passwords_are_wrong(log_ins: LogIns) -> None:
    for password in ["", "a\0b", "\ud800", PASSWORD + " ", PASSWORD.upper()]:
        with pytest.raises(LoginRefusedError):
            log_ins.log_in(password)


def test_the_longest_password_is_compared_whole(log_ins: LogIns) -> None:
    longest = (PASSWORD * 20)[:MAX_PASSWORD]
    log_ins.operators.set_password("alice", longest)
    log_ins.log_in(longest)
    with pytest.raises(LoginRefusedError):
        log_ins.log_in(longest + "!")


def test_long_texts_are_cut_before_normalisation(log_ins: LogIns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Normalising marks that combine takes time by the square of their number, and lets no other thread run."""
    lengths: list[int] = []
    normalize = unicodedata.normalize

    def noting(form: Literal["NFC", "NFD", "NFKC", "NFKD"], text: str) -> str:
        lengths.append(len(text))
        return normalize(form, text[:MAX_PASSWORD])

    log_ins.with_totp()
    monkeypatch.setattr(unicodedata, "normalize", noting)
    marks = "\u0301\u0316" * 60_000
    for name, password, code in (("alice", marks, None), ("nobody", marks, None), ("alice", PASSWORD, marks)):
        with pytest.raises(LoginRefusedError):
            log_ins.log_in(password, name=name, code=code)
    assert len(log_ins.passwords.checked) == 3, "each of them at the cost of a hash"
    assert len(lengths) >= 3
    assert max(lengths) <= MAX_PASSWORD


def test_an_unknown_name_costs_a_hash_with_the_same_parameters(log_ins: LogIns) -> None:
    for name in ("alice", "bob"):
        with pytest.raises(LoginRefusedError):
            log_ins.log_in(OTHER, name=name)
    assert log_ins.passwords.checked == [Operator.get().password_hash, None]

    class Seeing(PasswordHasher):
        """Notes what it is to compare with."""

        def verify(self, hash: str | bytes, password: str | bytes) -> bool:  # noqa: A002  # its name there
            seen.append(str(hash))
            return super().verify(hash, password)

    seen: list[str] = []
    passwords = Passwords(Seeing(time_cost=1, memory_cost=64, parallelism=1))
    assert not passwords.matches(None, OTHER)
    assert [part.split("$")[:4] for part in seen] == [passwords.hash(OTHER).split("$")[:4]]


def test_an_unknown_name_is_not_journalled(log_ins: LogIns) -> None:
    for name in ("alice", OTHER):
        with pytest.raises(LoginRefusedError):
            log_ins.log_in(OTHER, name=name)
    entries = Event.select().where(Event.kind == "login_refused").order_by(Event.id)
    assert [(e.actor, e.ip, e.details) for e in entries] == [
        ("console:alice", HOME, {"wrong": "password"}),
        (None, HOME, {"wrong": "password"}),
    ]


def test_hashes_are_argon2id_with_the_low_memory_parameters_of_rfc_9106() -> None:
    assert Passwords().hash(PASSWORD).startswith("$argon2id$v=19$m=65536,t=3,p=4$")


def test_a_hash_with_old_parameters_is_replaced_at_the_next_log_in(log_ins: LogIns, database: Database) -> None:
    stronger = Sessions(database, log_ins.clock, SEALING, CheapPasswords(time_cost=2))
    first = stronger.log_in("alice", PASSWORD, None, HOME)
    assert ",t=2," in Operator.get().password_hash
    stronger.log_in("alice", PASSWORD, None, HOME)
    assert stronger.identify(first)
