"""The table of cases: `cases.csv` says what is sent and what is expected, the modules beside it how it is forged."""

import csv
from pathlib import Path

from kadun_conformance.case import Case
from kadun_conformance.cases import claims, genuine, http, keys, sealed, tokens

_MODULES = (genuine, claims, tokens, keys, sealed, http)


def _load() -> "list[Case]":
    answers = {name: answer for module in _MODULES for name, answer in module.ANSWERS.items()}
    key_sets = {**genuine.KEY_SETS, **keys.KEY_SETS, **http.KEY_SETS}
    with Path(__file__).with_name("cases.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    if sorted(row["name"] for row in rows) != sorted(answers):
        raise ValueError("cases.csv and the modules beside it name different cases")
    return [Case(**row, answer=answers[row["name"]], key_set=key_sets.get(row["name"])) for row in rows]


_CASES = _load()
GENUINE = tuple(case for case in _CASES if case.genuine)
FORGED = tuple(case for case in _CASES if not case.genuine)
