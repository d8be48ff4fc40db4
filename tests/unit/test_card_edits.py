"""Changes of a card's batch and note."""

import pytest

from app.domain.card_edits import Texts, check_edit, journalled
from app.domain.texts import MAX_TEXT, RefusedError
from tests.support.tables import for_each

BEFORE = Texts("old", None)


@for_each("changes", [{"batch": None}, {"note": "n"}, {"batch": "b" * MAX_TEXT, "note": None}])
def test_texts_are_set_and_cleared(changes: dict[str, str | None]) -> None:
    check_edit(changes)


@for_each("changes", [{"batch": ""}, {"note": "n" * (MAX_TEXT + 1)}, {"batch": "b", "note": "a\nb"}])
def test_an_invalid_text_is_refused_by_its_name(changes: dict[str, str | None]) -> None:
    with pytest.raises(RefusedError, match="batch must be" if changes.get("batch") == "" else "note must be"):
        check_edit(changes)


def test_a_change_of_nothing_is_refused() -> None:
    with pytest.raises(RefusedError, match="choose what to change"):
        check_edit({})


@for_each(
    ("changes", "said"),
    [
        ({"batch": "new"}, {"batch": "new", "before": {"batch": "old"}}),
        ({"batch": None}, {"batch": "", "before": {"batch": "old"}}),
        ({"batch": "old", "note": "n"}, {"note": "n", "before": {"note": None}}),
        ({"batch": "old", "note": None}, None),
    ],
)
def test_the_journal_has_what_changed_and_what_it_was(
    changes: dict[str, str | None], said: dict[str, object] | None
) -> None:
    assert journalled(BEFORE, changes) == said
