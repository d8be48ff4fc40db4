"""The table of cases: `cases.csv` says what is sent and what is expected, the modules beside it how it is forged.

`changes` of a row is JSON: what the genuine response has otherwise, as members of its `claims`, of a `rejection` or of
the token's `header`, or as arguments of `seal`. The text `(absent)` leaves a member out.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kadun_conformance.cases import http, keys, verdicts
from kadun_conformance.crypto import ABSENT
from kadun_conformance.forger import Answer, verdict

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


def _changed(changes: str) -> Answer:
    def value(read: dict[str, Any]) -> dict[str, Any]:
        return {name: ABSENT if value == "(absent)" else value for name, value in read.items()}

    ((part, given),) = json.loads(changes, object_hook=value).items()
    answers: dict[str, Answer] = {
        "claims": lambda f: f.accept(**given),
        "rejection": lambda f: f.reject(**given),
        "header": lambda f: verdict(f.token(header=given)),
        "sealed": lambda f: f.accept(KERNAL_DATA_KEY_SEALED=f.sealed(**given)),
    }
    return answers[part]


def _case(changes: str, **row: str) -> Case:
    name = row["name"]
    return Case(**row, answer=_changed(changes) if changes else _ANSWERS[name], key_set=_KEY_SETS.get(name))


_ANSWERS = {**verdicts.ANSWERS, **keys.ANSWERS, **http.ANSWERS}
_KEY_SETS = {**keys.KEY_SETS, **http.KEY_SETS}
with Path(__file__).with_name("cases.csv").open(encoding="utf-8", newline="") as _table:
    _CASES = [_case(**row) for row in csv.DictReader(_table)]
GENUINE = tuple(case for case in _CASES if case.genuine)
FORGED = tuple(case for case in _CASES if not case.genuine)
