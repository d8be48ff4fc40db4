"""The vendor's terms as a person writes them, versions of the vendor's program, and IDs of several programs."""
# Owns terms-values, terms-versions.

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.licence.terms import BindingTerm, RenewTerm, Terms, is_older, is_version, read_terms, write_term
from app.domain.programs import MAIN, check_program, issuer_of, named
from app.domain.texts import RefusedError

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


def test_each_term_is_read_and_written_and_an_empty_text_sets_its_default_again() -> None:
    terms = read_terms(Terms(), [(name, text) for name, (text, _) in ALL.items()])
    assert {name: getattr(terms, name) for name in ALL} == {name: value for name, (_, value) in ALL.items()}
    assert read_terms(terms, [(name, "") for name in ALL]) == Terms()
    texts = terms.as_texts()
    assert list(texts) == list(ALL)
    assert (texts["binding"], texts["self_unbind_cost"], texts["self_renew"]) == ("hardware", "1d", "batch")
    assert Terms().as_texts()["self_unbind_cost"] is None
    for each, switch in ((terms, "on"), (Terms(), "off")):
        written = {name: write_term(value) for name, value in each.as_texts().items()}
        assert read_terms(Terms(self_renew=RenewTerm.ANY, notice="x"), written.items()) == each
        assert written["self_service"] == switch
    # The smallest and the largest value are read, and what is not named stays.
    for name, text in (
        *(("changes_per_day", "1"), ("changes_per_day", "1000"), ("minimum_version", "1" * 32)),
        *(("self_unbind_per_30_days", "0"), ("self_unbind_per_30_days", "1000"), ("contact", "x" * 200)),
        *(("update_url", "https://example.com/" + "x" * 480), ("notice", "x" * 500)),
    ):
        terms = read_terms(Terms(contact="QQ"), [(name, text)])
        assert str(getattr(terms, name)) == text, name
        assert terms == replace(Terms(contact="QQ"), **{name: getattr(terms, name)}), name


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


def test_a_wrong_value_and_an_unknown_or_repeated_term_are_refused_by_the_name_of_the_term() -> None:
    for name, text in ((name, text) for name, texts in WRONG.items() for text in texts):
        with pytest.raises(RefusedError) as refused:
            read_terms(Terms(), [(name, text)])
        assert name in refused.value.text.zh, (name, text)
        assert name in refused.value.text.en, (name, text)
    for fields, reason in (
        ([("binding", "none")], "binding must be one of either, hardware, both"),
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


@given(numbers, numbers)
def test_dotted_numbers_are_versions_of_which_one_is_older_unless_they_are_equal(
    one: list[int], other: list[int]
) -> None:
    for text in ("0", "1", "1.10", "2026.11.28", "1.0.0.0", "007", "1" * 32, "1." * 15 + "1"):
        assert is_version(text), text
    others = ["", ".", "1.", ".1", "1..2", "v1", "1.0-beta", " 1", "1\n", "１", "+1", "1_0", "1" * 33, "1." * 16 + "1"]
    assert [text for text in others if is_version(text)] == []
    for left, right in (("1.10", "1.10.0"), ("0", "0.0"), ("1", "01"), ("2.0", "2")):
        assert not is_older(left, right), (left, right)
        assert not is_older(right, left), (left, right)
    texts = [".".join(map(str, parts)) for parts in (one, other)]
    assert is_older(*texts) is (one + [0] * (4 - len(one)) < other + [0] * (4 - len(other)))


def test_programs_have_plain_ids_and_names_and_each_but_main_an_issuer_of_its_own() -> None:
    assert [issuer_of("kadun", program) for program in (MAIN, "b")] == ["kadun", "kadun/b"]
    assert [named(program) for program in (MAIN, "b")] == [{}, {"program": "b"}]
    for program in ("a", "2-go", "a" * 32):
        check_program(program, "名称")
    for program, name, field in (
        *((program, "b", "program's ID") for program in ("", "A", "-a", "a b", "a\n", "a" * 33, "é", "a/b")),
        *(("b", name, "name") for name in ("", "a\nb")),
    ):
        with pytest.raises(RefusedError, match=field):
            pytest.fail(f"{program!r} {name!r} is taken: {check_program(program, name)}")
