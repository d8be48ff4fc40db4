"""Texts in two languages, and what a vendor may type as a text."""

import pytest

from app.domain.texts import MAX_TEXT, RefusedError, Text, check_text


def test_a_text_shows_both_languages() -> None:
    assert str(Text("不", "no")) == str(RefusedError("不", "no")) == "不 / no"
    assert RefusedError("不", "no").text == Text("不", "no")


def test_a_vendors_text_is_printable_and_of_a_bounded_length() -> None:
    for value in (None, "x", "老客户", "x" * MAX_TEXT, "老客户\u3000上海", "a\u00a0b", "👩\u200d💻"):
        check_text("note", value)
    for value in ("", "x" * (MAX_TEXT + 1), "a\nb", "\x1b[2J", "a\u2028b", "\u202egnp.exe", "a\u200bb"):
        with pytest.raises(RefusedError) as caught:
            check_text("note", value)
        expected = Text("note 必须是 1 到 200 个可打印字符", "note must be 1 to 200 printable characters")
        assert caught.value.text == expected, value
