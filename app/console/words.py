"""The console's words for codes, kinds, states and the journal's details; a test finds missing ones."""

import re
from datetime import timedelta
from typing import Any

from app.domain.cards.cards import parse_validity, trade_name, validity_text
from app.domain.codes import CardStatus, Change, EventKind
from app.domain.licence.terms import BindingTerm, RenewTerm
from app.domain.operators.operators import Role, Scope
from app.domain.texts import NamedEnum, Text
from app.domain.webhooks import Topic
from app.http.customer_messages import NAMES
from app.services.cards.filters import EXPIRY_PRESETS, SORTS
from app.services.field_names import field_name
from app.services.licence.refusals import REASONS
from app.tokens.keys import KeyState

_NAMED: tuple[type[NamedEnum], ...] = (CardStatus, EventKind, KeyState, Role, Scope, Topic)
_WORDS: dict[str, Text] = {
    **{str(value): value.text for kind in _NAMED for value in kind},
    **{str(code): name for code, name in NAMES.items()},
    Change.HARDWARE_CHANGED: Text("硬件变化", "hardware changed"),
    Change.ADDRESS_CHANGED: Text("地址变化", "address changed"),
}


def word(value: str) -> Text:
    """Return what a code, kind, state or role is called; what has no name here is called by itself."""
    return _WORDS.get(value, Text(value, value))


def reason(value: str) -> Text:
    """Return why a request was refused, for the vendor; of other entries what they are called."""
    return REASONS.get(value, word(value))


_NONE = {"": Text("（无）", "(none)")}
_YES_OR_NO = {True: Text("是", "yes"), False: Text("否", "no")}
_SAID: dict[str, dict[Any, Text]] = {
    **dict.fromkeys(("batch", "note"), _NONE),
    **dict.fromkeys(("kind", "role", "scopes", "status", "topics"), _WORDS),
    **dict.fromkeys(("own_cards_only", "paused"), _YES_OR_NO),
    "changed": {"password": Text("密码", "password"), "secret": Text("签名密钥", "signing secret")},
    "expires": {key: name for key, (name, _since, _until) in EXPIRY_PRESETS.items()},
    "no_batch": {"1": Text("是", "yes")},
    "sort": {str(sort): name for sort, name in SORTS.items()},
    "totp": {True: Text("启用", "turned on"), False: Text("停用", "taken away")},
    "what": {"cards": Text("卡密", "cards"), "journal": Text("日志", "journal")},
    "wrong": {
        "password": Text("用户名或密码", "name or password"),
        "code": Text("动态验证码", "code"),
        "no code": Text("未填动态验证码", "no code"),
    },
}
"""By detail: its values that are words of ours. What else stands there is a vendor's or a stranger's own."""


def detail(name: str, value: Any) -> Text:  # noqa: ANN401  # any JSON value
    """Return what a detail says, in words where there are some: several things one after the other."""
    if isinstance(value, dict):
        pairs = [(field_name(key), detail(key, each)) for key, each in value.items()]
        return _listed([Text(f"{key.zh}={each.zh}", f"{key.en}={each.en}") for key, each in pairs])
    if isinstance(value, list):
        return _listed([detail(name, each) for each in value])
    if name == "validity" and isinstance(value, str):
        return card_validity(parse_validity(value))
    if name in {"longest_validity", "by", "cost"} and isinstance(value, str):
        return validity_text(parse_validity(value))
    return _SAID.get(name, {}).get(value, Text(str(value), str(value)))


_TERMS = {
    "binding": "换机后能否使用",
    "changes_per_day": "每天最多变化几次",
    "minimum_version": "最低版本",
    "latest_version": "最新版本",
    "update_url": "更新地址",
    "notice": "公告",
    "self_service": "自助页面",
    "self_unbind_per_30_days": "30 天内可自助解绑几次",
    "self_unbind_cost": "每次自助解绑扣除的时长",
    "self_renew": "可用另一张卡密续费",
    "contact": "联系方式",
}
_UNSET = Text("未设置", "not set")
_ON, _OFF = Text("开", "on"), Text("关", "off")
_TERM_VALUES: dict[str, dict[Any, Text]] = {
    "binding": {value: value.text for value in BindingTerm},
    "self_service": {True: _ON, False: _OFF, "on": _ON, "off": _OFF},
    "self_renew": {value: value.text for value in RenewTerm},
}
"""By term: its values that are words of ours, as JSON and as forms have them. Other values are numbers or texts."""


def term_name(name: str) -> Text:
    """Return what a term is called: in English by its name."""
    return Text(_TERMS.get(name, name), name)


def term_value(name: str, value: Any) -> Text:  # noqa: ANN401  # any JSON value
    """Return what a term says, as the journal or a form has it."""
    if value in {None, ""}:
        return _UNSET
    if name == "self_unbind_cost":
        return validity_text(parse_validity(value))
    return _TERM_VALUES.get(name, {}).get(value, Text(str(value), str(value)))


_QUOTED_OR_TERM = re.compile(rf"""['"“].*['"”]|\b(?:{"|".join(_TERMS)})\b""", re.ASCII | re.DOTALL)


def with_term_names(text: Text) -> Text:
    """Return a message about terms with what they are called in place of their names, but not in quoted input."""
    return Text(_QUOTED_OR_TERM.sub(lambda found: _TERMS.get(found[0], found[0]), text.zh), text.en)


def _listed(texts: list[Text]) -> Text:
    return Text(", ".join(text.zh for text in texts), ", ".join(text.en for text in texts))


def card_validity(value: timedelta | None) -> Text:
    """Return how long a card lasts, for people: in Chinese by the trade's name, if there is one."""
    length = validity_text(value)
    return length if value is None else Text(trade_name(value) or length.zh, length.en)
