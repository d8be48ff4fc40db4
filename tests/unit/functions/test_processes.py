"""Finding the descendants of a process."""

import os

import pytest

from app.functions import processes

PARENTS = {3: 1, 7: 40, 9: 7, 12: 30, 30: 1, 31: 30, 40: 31, 41: 3}
"""Of processes under 30: 31, 12 and 40; under 40, numbers having begun again, 7 and, under that, 9."""


def test_descendants_with_lower_and_higher_ids_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "listdir", lambda _: ["self", *map(str, PARENTS)])
        patch.setattr(processes, "_parent_of", PARENTS.get)
        found = list(processes.descendants(30))
    assert sorted(found) == [7, 9, 12, 31, 40]
