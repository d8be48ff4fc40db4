"""Versions of the vendor's program."""

from hypothesis import given
from hypothesis import strategies as st

from app.domain.versions import is_older, is_version
from tests.support.tables import for_each

numbers = st.lists(st.integers(0, 10**6), min_size=1, max_size=4)


def written(parts: list[int]) -> str:
    return ".".join(map(str, parts))


@for_each(
    "text", ["", ".", "1.", ".1", "1..2", "v1", "1.0-beta", " 1", "1\n", "１", "+1", "1_0", "1" * 33, "1." * 16 + "1"]
)
def test_dotted_numbers_are_versions_and_other_texts_are_not(text: str) -> None:
    assert not is_version(text)
    for version in ("0", "1", "1.10", "2026.11.28", "1.0.0.0", "007", "1" * 32, "1." * 15 + "1"):
        assert is_version(version)


@for_each(("older", "newer"), [("1.9", "1.10"), ("1", "1.0.1"), ("0.9", "1"), ("9", "10"), ("0", "0.1")])
def test_versions_compare_number_by_number(older: str, newer: str) -> None:
    assert is_older(older, newer)
    assert not is_older(newer, older)


@for_each(("left", "right"), [("1.10", "1.10.0"), ("0", "0.0"), ("1", "01"), ("2.0", "2")])
def test_zeros_at_the_end_and_before_a_number_make_no_difference(left: str, right: str) -> None:
    assert not is_older(left, right)
    assert not is_older(right, left)


@given(numbers, numbers)
def test_one_of_two_versions_is_older_unless_they_are_equal(left: list[int], right: list[int]) -> None:
    longest = max(len(left), len(right))
    padded = [parts + [0] * (longest - len(parts)) for parts in (left, right)]
    assert is_older(written(left), written(right)) is (padded[0] < padded[1])
