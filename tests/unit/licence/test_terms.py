"""The vendor's terms as a person writes them, and versions of the vendor's program."""
# Owns terms-values, terms-versions.

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.licence.terms import BindingTerm, RenewTerm, Terms, is_older, is_version, read_terms, write_term
from app.domain.texts import RefusedError
from tests.support.tables import for_each

ALL = {
    "binding": ("hardware", BindingTerm.HARDWARE),
    "changes_per_day": ("3", 3),
    "minimum_version": ("1.9", "1.9"),
    "latest_version": ("1.10", "1.10"),
    "update_url": ("https://example.com/新版?a=1", "https://example.com/新版?a=1"),
    "notice": ("服务器\u3000今晚维护\n22:00", "服务器\u3000今晚维护\n22:00"),
    "self_service": ("on", True),
    "self_unbind_per_30_days": ("2", 2),
    "self_unbind_cost": ("1d", timedelta(days=1)),
    "self_renew": ("batch", RenewTerm.BATCH),
    "contact": ("QQ 12345", "QQ 12345"),
}


def test_each_term_is_read_and_an_empty_text_sets_its_default_again() -> None:
    terms = read_terms(Terms(), [(name, text) for name, (text, _) in ALL.items()])
    assert {name: getattr(terms, name) for name in ALL} == {name: value for name, (_, value) in ALL.items()}
    assert read_terms(terms, [(name, "") for name in ALL]) == Terms()


def test_the_smallest_and_the_largest_value_are_read_and_what_is_not_named_stays() -> None:
    for name, text in (
        *(("changes_per_day", text) for text in ("1", "1000")),
        *(("self_unbind_per_30_days", text) for text in ("0", "1000")),
        ("update_url", "https://example.com/" + "x" * 480),
        ("notice", "x" * 500),
        ("contact", "x" * 200),
        ("minimum_version", "1" * 32),
    ):
        terms = read_terms(Terms(contact="QQ"), [(name, text)])
        assert str(getattr(terms, name)) == text, name
        assert terms == replace(Terms(contact="QQ"), **{name: getattr(terms, name)}), name


def test_terms_are_written_as_they_are_read() -> None:
    terms = read_terms(Terms(), [(name, text) for name, (text, _) in ALL.items()])
    texts = terms.as_texts()
    assert list(texts) == list(ALL)
    assert (texts["binding"], texts["self_unbind_cost"], texts["self_renew"]) == ("hardware", "1d", "batch")
    assert Terms().as_texts()["self_unbind_cost"] is None
    for each, switch in ((terms, "on"), (Terms(), "off")):
        written = {name: write_term(value) for name, value in each.as_texts().items()}
        assert read_terms(Terms(self_renew=RenewTerm.ANY, notice="x"), written.items()) == each
        assert written["self_service"] == switch


WRONG = {
    "binding": ("none", "Either", "hardware,both", " both"),
    "changes_per_day": ("0", "1001", "-1", "1.5", "１", "many", "9" * 5_000, " 1"),
    "minimum_version": ("v1", "1.0-beta", "1.", "1" * 33),
    "latest_version": ("latest",),
    "update_url": (
        *("http://example.com", "example.com", "https://", "javascript:alert(1)", "HTTPS://example.com"),
        *("https://a b", "https://a/" + "x" * 500, "https://[", "https://a\nb"),
    ),
    "notice": ("x" * 501, "\x00", "a\tb", "  ", "\u202e"),
    "self_service": ("yes", "1", "ON"),
    "self_unbind_per_30_days": ("-1", "1001", "two"),
    "self_unbind_cost": ("1", "permanent", "0d", "2 days"),
    "self_renew": ("on", "true", "type", "Any"),
    "contact": ("x" * 201, "a\nb"),
}


@for_each(("name", "texts"), WRONG.items())
def test_a_wrong_value_is_refused_by_the_name_of_its_term(name: str, texts: tuple[str, ...]) -> None:
    for text in texts:
        with pytest.raises(RefusedError) as refused:
            read_terms(Terms(), [(name, text)])
        assert name in refused.value.text.zh, text
        assert name in refused.value.text.en, text
        if name == "binding":
            assert "binding must be one of either, hardware, both" in refused.value.text.en


def test_an_unknown_or_repeated_term_is_named() -> None:
    for fields, reason in (
        ([("minimal_version", "1")], "there is no term “minimal_version”; there are: binding, changes_per_day"),
        ([("contact", "a"), ("contact", "b")], "contact is given twice"),
    ):
        with pytest.raises(RefusedError, match=reason):
            read_terms(Terms(), fields)


def test_no_version_above_the_latest_can_be_demanded() -> None:
    for least, latest in (("1.10", "1.9"), ("2", "1.99.99")):
        with pytest.raises(RefusedError, match=f"minimum_version {least} must not be above latest_version {latest}"):
            read_terms(Terms(), [("minimum_version", least), ("latest_version", latest)])
        with pytest.raises(RefusedError, match="minimum_version"):
            read_terms(Terms(minimum_version=least), [("latest_version", latest)])
    terms = read_terms(Terms(), [("minimum_version", "2.0"), ("latest_version", "2")])
    assert (terms.minimum_version, terms.latest_version) == ("2.0", "2")


numbers = st.lists(st.integers(0, 10**6), min_size=1, max_size=4)


def test_dotted_numbers_are_versions_and_zeros_at_the_end_or_before_a_number_make_no_difference() -> None:
    for text in ("0", "1", "1.10", "2026.11.28", "1.0.0.0", "007", "1" * 32, "1." * 15 + "1"):
        assert is_version(text), text
    for text in (
        "",
        ".",
        "1.",
        ".1",
        "1..2",
        "v1",
        "1.0-beta",
        " 1",
        "1\n",
        "１",
        "+1",
        "1_0",
        "1" * 33,
        "1." * 16 + "1",
    ):
        assert not is_version(text), text
    for left, right in (("1.10", "1.10.0"), ("0", "0.0"), ("1", "01"), ("2.0", "2")):
        assert not is_older(left, right), (left, right)
        assert not is_older(right, left), (left, right)


@given(numbers, numbers)
def test_one_of_two_versions_is_older_unless_they_are_equal(left: list[int], right: list[int]) -> None:
    texts = [".".join(map(str, parts)) for parts in (left, right)]
    padded = [parts + [0] * (4 - len(parts)) for parts in (left, right)]
    assert is_older(*texts) is (padded[0] < padded[1])
