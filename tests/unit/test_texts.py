"""Texts in two languages, and the bounds of vendors' texts."""

import pytest

from app.domain.texts import MAX_TEXT, RefusedError, Text, check_text


def test_a_text_shows_both_languages() -> None:
    assert str(Text("不", "no")) == str(RefusedError("不", "no")) == "不 / no"
    assert RefusedError("不", "no").text == Text("不", "no")


@pytest.mark.parametrize("value", [None, "x", "老客户", "x" * MAX_TEXT, "老客户\u3000上海", "a\u00a0b", "👩\u200d💻"])
def test_a_printable_text_is_accepted(value: str | None) -> None:
    check_text("note", value)


@pytest.mark.parametrize(
    "value", ["", "x" * (MAX_TEXT + 1), "a\nb", "\x1b[2J", "a\u2028b", "\u202egnp.exe", "a\u200bb"]
)
def test_a_text_of_another_length_or_with_control_characters_is_refused(value: str) -> None:
    with pytest.raises(RefusedError) as caught:
        check_text("note", value)
    assert caught.value.text == Text("note 必须是 1 到 200 个可打印字符", "note must be 1 to 200 printable characters")
