"""The vendor's terms as a person writes them."""

from datetime import timedelta

import pytest

from app.domain.terms import BindingTerm, RenewTerm, Terms, read_terms, write_term
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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("changes_per_day", text) for text in ("1", "1000")),
        *(("self_unbind_per_30_days", text) for text in ("0", "1000")),
        ("update_url", "https://example.com/" + "x" * 480),
        ("notice", "x" * 500),
        ("contact", "x" * 200),
        ("minimum_version", "1" * 32),
    ],
)
def test_the_smallest_and_the_largest_value_are_read(name: str, text: str) -> None:
    assert str(getattr(read_terms(Terms(), [(name, text)]), name)) == text


def test_a_wrong_choice_is_refused_with_those_that_exist() -> None:
    with pytest.raises(RefusedError, match="binding must be one of either, hardware, both") as refused:
        read_terms(Terms(), [("binding", "none")])
    assert refused.value.text.zh == "binding 须为 either, hardware, both 之一"


def test_what_is_not_named_stays() -> None:
    assert read_terms(Terms(contact="QQ"), [("changes_per_day", "5")]) == Terms(changes_per_day=5, contact="QQ")


def test_terms_are_written_as_they_are_read() -> None:
    terms = read_terms(Terms(), [(name, text) for name, (text, _) in ALL.items()])
    written = terms.as_texts()
    assert list(written) == list(ALL)
    assert (written["binding"], written["self_unbind_cost"], written["self_renew"]) == ("hardware", "1d", "batch")
    assert Terms().as_texts()["self_unbind_cost"] is None


@pytest.mark.parametrize("terms", [Terms(), read_terms(Terms(), [(name, text) for name, (text, _) in ALL.items()])])
def test_each_written_value_can_be_read_again(terms: Terms) -> None:
    written = {name: write_term(value) for name, value in terms.as_texts().items()}
    assert read_terms(Terms(self_renew=RenewTerm.ANY, notice="x"), written.items()) == terms
    assert written["self_service"] == ("on" if terms.self_service else "off")


@for_each(
    ("name", "text"),
    [
        *(("binding", text) for text in ("none", "Either", "hardware,both", " both")),
        *(("changes_per_day", text) for text in ("0", "1001", "-1", "1.5", "１", "many", "9" * 5_000, " 1")),
        *(("minimum_version", text) for text in ("v1", "1.0-beta", "1.", "1" * 33)),
        ("latest_version", "latest"),
        *(("update_url", text) for text in ("http://example.com", "example.com", "https://", "javascript:alert(1)")),
        *(("update_url", text) for text in ("https://a b", "https://a/" + "x" * 500, "https://[", "https://a\nb")),
        ("update_url", "HTTPS://example.com"),
        *(("notice", text) for text in ("x" * 501, "\x00", "a\tb", "  ", "\u202e")),
        *(("self_service", text) for text in ("yes", "1", "ON")),
        *(("self_unbind_per_30_days", text) for text in ("-1", "1001", "two")),
        *(("self_unbind_cost", text) for text in ("1", "permanent", "0d", "2 days")),
        *(("self_renew", text) for text in ("on", "true", "type", "Any")),
        *(("contact", text) for text in ("x" * 201, "a\nb")),
    ],
)
def test_a_wrong_value_is_refused_by_the_name_of_its_term(name: str, text: str) -> None:
    with pytest.raises(RefusedError) as refused:
        read_terms(Terms(), [(name, text)])
    assert name in refused.value.text.zh
    assert name in refused.value.text.en


def test_an_unknown_term_is_named_with_those_that_exist() -> None:
    with pytest.raises(RefusedError, match="there is no term “minimal_version”; there are: binding, changes_per_day"):
        read_terms(Terms(), [("minimal_version", "1")])


def test_a_term_is_given_once() -> None:
    with pytest.raises(RefusedError, match="contact is given twice"):
        read_terms(Terms(), [("contact", "a"), ("contact", "b")])


@pytest.mark.parametrize(("least", "latest"), [("1.10", "1.9"), ("2", "1.99.99")])
def test_no_version_above_the_latest_can_be_demanded(least: str, latest: str) -> None:
    with pytest.raises(RefusedError, match=f"minimum_version {least} must not be above latest_version {latest}"):
        read_terms(Terms(), [("minimum_version", least), ("latest_version", latest)])
    with pytest.raises(RefusedError, match="minimum_version"):
        read_terms(Terms(minimum_version=least), [("latest_version", latest)])


def test_the_latest_version_itself_can_be_demanded() -> None:
    terms = read_terms(Terms(), [("minimum_version", "2.0"), ("latest_version", "2")])
    assert (terms.minimum_version, terms.latest_version) == ("2.0", "2")
