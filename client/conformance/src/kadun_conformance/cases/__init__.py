"""The table of cases: `cases.csv` says what is sent and what is expected, the modules beside it how it is forged."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kadun_conformance.cases import http, keys, verdicts

if TYPE_CHECKING:
    from kadun_conformance.forger import Answer

REJECTED = "rejected"


@dataclass(frozen=True)
class Case:
    """One thing that the server sends, and what a client must make of it.

    `expected` is `opened`; `rejected` by a signed verdict; `untrusted`; `unreachable` (docs/client-authors.md, section
    8). In the Python SDK: a verdict, CardRejected, UntrustedAnswer, ServerUnreachable.

    `options` are `live`: not part of the test vectors, because it is too large, needs several requests or exists in
    HTTP only. `body`: its vector has the request's body, and a token that is bound to it. `may_reject`: it contradicts
    itself or contains a genuine rejection, so that a client may treat it as a rejection, though never as an acceptance.
    """

    name: str
    group: str  # a heading for people
    check: str  # which check must refuse it; empty for genuine responses
    expected: str
    options: str
    zh: str  # what is sent, in Chinese and English
    en: str
    answer: Answer  # to `POST /v1/verify`
    key_set: Answer | None = None  # if the token's key is not pinned

    @property
    def about(self) -> str:
        """What is sent, in Chinese and English."""
        return f"{self.zh} / {self.en}"

    @property
    def genuine(self) -> bool:
        """Whether the genuine server could have sent this."""
        return not self.check


def _load() -> list[Case]:
    answers = {**verdicts.ANSWERS, **keys.ANSWERS, **http.ANSWERS}
    key_sets = {**keys.KEY_SETS, **http.KEY_SETS}
    with Path(__file__).with_name("cases.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    if sorted(row["name"] for row in rows) != sorted(answers):
        raise ValueError("cases.csv and the modules beside it name different cases")
    return [Case(**row, answer=answers[row["name"]], key_set=key_sets.get(row["name"])) for row in rows]


_CASES = _load()
GENUINE = tuple(case for case in _CASES if case.genuine)
FORGED = tuple(case for case in _CASES if not case.genuine)
