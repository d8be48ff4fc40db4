"""What the journal's details are called: held to what is written into them, as it stands in the sources."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import app
from app.console import words
from app.domain.ceilings import Ceilings
from app.domain.codes import CardStatus, Code, EventKind
from app.domain.operators import Role, Scope
from app.domain.terms import BindingTerm, RenewTerm, Terms, TermsContradictionError, read_terms
from app.domain.texts import RefusedError, Text
from app.services.filters import CARD_FIELDS, JOURNAL_FIELDS

APP = Path(app.__file__).parent
ELSEWHERE = ("console/exports.py", "console/journal.py", "domain/token_limits.py")
WRITERS = [*sorted((APP / "services").glob("*.py")), *(APP / name for name in ELSEWHERE)]
CALLS = {"Entry", "entry", "_entry", "_act", "reject"}
"""What takes an entry's details as an argument."""
NAMES = {"details", "more", "before", "what", "said", "shown"}
"""What they are called on their way there."""
OTHERS = {*CARD_FIELDS, *JOURNAL_FIELDS, "chosen", *Ceilings._fields}
"""Names that do not stand where details are written."""


def written() -> Iterator[tuple[str, object]]:
    """Each detail that is written somewhere, with its value where that stands there too, or None."""
    for node in (node for path in WRITERS for node in ast.walk(ast.parse(path.read_text("utf-8")))):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in CALLS:
                yield from pairs_in([*node.args, *(keyword.value for keyword in node.keywords)])
            case ast.Call(func=ast.Attribute(attr="refused"), args=[_, ast.Constant(value=value), *_]):
                yield "wrong", value
            case ast.Assign(targets=[ast.Name(id=name)]) | ast.AnnAssign(target=ast.Name(id=name)) if name in NAMES:
                yield from pairs_in([node.value] if node.value else [])
            case ast.FunctionDef(returns=returns) if returns is not None and "Changes" in ast.unparse(returns):
                returned = [each.value for each in ast.walk(node) if isinstance(each, ast.Return)]
                yield from pairs_in([value for value in returned if value is not None])


def pairs_in(nodes: list[ast.expr]) -> Iterator[tuple[str, object]]:
    for each in (each for node in nodes for each in ast.walk(node) if isinstance(each, ast.Dict)):
        for key, value in zip(each.keys, each.values, strict=True):
            if isinstance(key, ast.Constant):
                yield str(key.value), value.value if isinstance(value, ast.Constant) else None


def test_every_detail_of_the_journal_has_a_name_in_both_languages() -> None:
    named = set(words._DETAILS)  # noqa: SLF001
    assert {name for name, _value in written()} | OTHERS == named, "no more and no less than what is written"
    for name in named:
        zh, en = words.detail_name(name)
        assert not zh.isascii(), name
        assert en.isascii(), name
        assert en[0].isupper(), name


def test_terms_and_what_they_say_are_named_in_chinese() -> None:
    assert words._TERMS.keys() == Terms().as_texts().keys()  # noqa: SLF001
    assert all(words.term_value("self_renew", value).zh != value for value in RenewTerm)
    said = [words.term_value("binding", value).zh for value in BindingTerm]
    said += [
        words.term_value("self_unbind_cost", "365d").zh,
        words.with_term_names(Text("minimum_version 太旧", "")).zh,
    ]
    assert said == ["硬件和网络地址都变了才拒绝", "硬件变了就拒绝", "有一项变了就拒绝", "365 天", "最低版本 太旧"]
    assert words.term_value("changes_per_day", 1).zh == "1"


def test_only_a_terms_own_values_are_words_of_ours() -> None:
    assert words.term_value("contact", "any").zh == "any"
    assert words.term_value("notice", "hardware").zh == "hardware"
    assert {words.term_value("self_service", value).zh for value in (False, "off")} == {"关"}
    assert words.term_value("self_renew", "off").zh == "不允许"
    assert {words.term_value("contact", value).zh for value in (None, "")} == {"未设置"}


@pytest.mark.parametrize("typed", ["binding", "a' binding 'b", "notice\nbinding"])
def test_terms_are_not_named_in_quoted_input(typed: str) -> None:
    with pytest.raises(RefusedError) as refused:
        read_terms(Terms(), [("self_unbind_cost", typed)])
    said = words.with_term_names(refused.value.text).zh
    assert said == refused.value.text.zh.replace("self_unbind_cost", "每次自助解绑扣除的时长")
    assert "binding" in said
    with pytest.raises(TermsContradictionError) as contradiction:
        read_terms(Terms(), [("minimum_version", "2.0"), ("latest_version", "1.0")])
    assert words.with_term_names(contradiction.value.text).zh == "最低版本 2.0 不能高于 最新版本 1.0"


def test_every_word_in_a_detail_is_said_in_both_languages() -> None:
    said = {(name, value) for name, value in written() if value is not None}
    assert {("changed", "password"), ("wrong", "no code"), ("totp", True)} <= said
    for name, value in said:
        zh, en = words.detail(name, value)
        assert not zh.isascii(), (name, value)
        assert en.isascii(), (name, value)
        assert en != "True", (name, value)


def test_overview_details_are_in_words() -> None:
    assert words.detail("by", "36500d") == ("36500 天", "36500 days")
    assert words.detail("validity", "permanent") == ("永久", "permanent")
    assert words.detail("validity", "30d") == ("月卡", "30 days")
    assert words.detail("validity", "31d") == ("31 天", "31 days")
    assert words.detail("by", "30d") == ("30 天", "30 days")
    assert words.detail("scopes", ["cards:issue", "cards:read"]) == ("发卡, 查询卡密", "issue cards, look cards up")
    filtered = {"status": "active", "batch": "active", "chosen": 3}
    assert words.detail("filter", filtered).zh == "状态=使用中, 批次=active, 选中的张数=3"
    assert words.detail("sha256", "active") == ("active", "active")


@pytest.mark.parametrize("value", [*CardStatus, *Code, *EventKind, *Role, *Scope])
def test_every_code_kind_state_role_and_scope_has_a_name_in_both_languages(value: str) -> None:
    assert words.word(value).zh != value
    assert not words.word(value).en.isupper()
