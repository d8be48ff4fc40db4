"""What a vendor may type as a text, and changes of a card's batch and note."""

import pytest

from app.domain.card_edits import Texts, check_edit, journalled
from app.domain.texts import MAX_TEXT, LaterError, RefusedError, Text, check_text
from tests.support.tables import for_each

BEFORE = Texts("old", None)


@for_each(
    "changes, said",
    [
        ({}, "choose what to change"),
        ({"batch": ""}, "batch must be"),
        ({"batch": "b", "note": "a\nb"}, "note must be"),
    ],
)
def test_texts_are_set_and_cleared_and_an_invalid_one_is_refused_by_its_name(
    changes: dict[str, str | None], said: str
) -> None:
    check_edit({"batch": "b" * MAX_TEXT, "note": None})
    with pytest.raises(RefusedError, match=said):
        check_edit(changes)


def test_the_journal_has_what_changed_and_what_it_was() -> None:
    for changes, said in (
        ({"batch": "new"}, {"batch": "new", "before": {"batch": "old"}}),
        ({"batch": None}, {"batch": "", "before": {"batch": "old"}}),
        ({"batch": "old", "note": "n"}, {"note": "n", "before": {"note": None}}),
        ({"batch": "old", "note": None}, None),
    ):
        assert journalled(BEFORE, changes) == said, (changes, said)


def test_a_vendors_text_is_printable_and_of_a_bounded_length() -> None:
    for value in (None, "x", "老客户", "x" * MAX_TEXT, "老客户\u3000上海", "a\u00a0b", "👩\u200d💻"):
        check_text("note", value)
    for value in ("", "x" * (MAX_TEXT + 1), "a\nb", "\x1b[2J", "a\u2028b", "\u202egnp.exe", "a\u200bb"):
        with pytest.raises(RefusedError) as caught:
            check_text("note", value)
        expected = Text("note 必须是 1 到 200 个可打印字符", "note must be 1 to 200 printable characters")
        assert caught.value.text == expected, value


def test_a_refusal_for_now_says_when_to_try_again() -> None:
    later = LaterError(30, "稍后再试", "try again later")
    assert (later.retry_after, later.text, str(later)) == (
        30,
        ("稍后再试", "try again later"),
        "稍后再试 / try again later",
    )
