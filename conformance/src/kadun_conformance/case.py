"""The form of the table of cases: one row says what is sent, and what a client must make of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Callable

from kadun_conformance.forger import Forger, Reply, verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

Answer = Callable[[Forger], Reply]
Forge = Callable[[Forger], Any]

REJECTED = "rejected"


@dataclass(frozen=True)
class Case:
    """One thing that the server sends, and what a client must make of it: a row of `cases/cases.csv`.

    Attributes:
        name: short and stable.
        group: a heading for people, Chinese and English.
        check: which check must refuse it; empty for genuine responses.
        expected: `opened`; `rejected` by a signed verdict; `untrusted`; `unreachable` (docs/client-authors.md,
            section 8). In the Python SDK: a verdict, CardRejected, UntrustedAnswer, ServerUnreachable.
        options: `live`: not part of the test vectors, because it is too large, needs several requests or exists in
            HTTP only. `body`: its vector has the request's body, and a token that is bound to it. `may_reject`: it
            contradicts itself or contains a genuine rejection, so that a client may treat it as a rejection, though
            never as an acceptance.
        zh: what is sent, in Chinese.
        en: what is sent, in English.
        answer: the response to `POST /v1/verify`.
        key_set: the response to `GET /.well-known/jwks.json`, if the token's key is not pinned.
    """

    name: str
    group: str
    check: str
    expected: str
    options: str
    zh: str
    en: str
    answer: Answer
    key_set: Answer | None = None

    @property
    def about(self) -> str:
        """What is sent, in Chinese and English."""
        return f"{self.zh} / {self.en}"

    @property
    def genuine(self) -> bool:
        """Whether the genuine server could have sent this."""
        return not self.check


def with_token(forge: Forge) -> Answer:
    """Send the token that `forge` makes."""
    return lambda forger: verdict(forge(forger))


def with_claims(changes: Callable[[Forger], Mapping[str, Any]]) -> Answer:
    """Send a token with a genuine signature over changed claims."""
    return lambda forger: verdict(forger.token(forger.claims(**changes(forger))))


def by_stranger(forger: Forger) -> Reply:
    """Send a verdict signed by the stranger, under the stranger's own `kid`."""
    return verdict(forger.token(key=forger.vendor.stranger))


def by_newest(forger: Forger) -> Reply:
    """Send a verdict signed by the newest key, which only a chain of endorsements makes trusted."""
    return verdict(forger.token(key=forger.vendor.newest))
