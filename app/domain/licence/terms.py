"""The vendor's terms, which change the rules (docs/selling.md)."""

import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from enum import StrEnum
from functools import partial
from typing import Any
from urllib.parse import urlsplit

from app.domain.cards.cards import ValidityError, format_validity, parse_duration
from app.domain.texts import MAX_TEXT, NamedEnum, RefusedError, is_printable

MAX_NOTICE = 500
MAX_CHANGES_PER_DAY = 1_000
MAX_UNBINDS = 1_000
MAX_URL = 500
MAX_VERSION = 32
"""Characters of the longest version of the vendor's program."""
VERSION_PATTERN = r"^[0-9]+(\.[0-9]+)*\Z"
_TRUE, _FALSE = ("on", "true"), ("off", "false")


def is_version(text: str) -> bool:
    """Tell whether a text is a version: dotted numbers, at most `MAX_VERSION` characters."""
    return len(text) <= MAX_VERSION and re.match(VERSION_PATTERN, text) is not None


def is_older(version: str, other: str) -> bool:
    """Tell whether a version is older than another: `1.9` is older than `1.10`, which equals `1.10.0`."""
    return _numbers(version) < _numbers(other)


def _numbers(version: str) -> list[int]:
    numbers = [int(part) for part in version.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers


class BindingTerm(NamedEnum):
    """When a request is from another machine (rule 4)."""

    EITHER = "either", "硬件和网络地址都变了才拒绝", "either"
    """Both the hardware and the address differ."""
    HARDWARE = "hardware", "硬件变了就拒绝", "hardware"
    """The hardware differs."""
    BOTH = "both", "有一项变了就拒绝", "both"
    """The hardware or the address differs."""


class RenewTerm(NamedEnum):
    """With which unused cards customers may renew their own."""

    OFF = "off", "不允许", "off"
    """With none."""
    BATCH = "batch", "仅限同一批次", "batch"
    """With those of the same batch; two cards without a batch are of one."""
    ANY = "any", "任何未使用的卡密", "any"
    """With all."""


@dataclass(frozen=True, slots=True)
class Terms:
    """The vendor's terms. The defaults are the rules as they are without terms; None sets nothing."""

    binding: BindingTerm = BindingTerm.EITHER
    changes_per_day: int | None = None
    minimum_version: str | None = None
    latest_version: str | None = None
    update_url: str | None = None
    notice: str | None = None
    self_service: bool = False
    self_unbind_per_30_days: int = 0
    self_unbind_cost: timedelta | None = None
    self_renew: RenewTerm = RenewTerm.OFF
    contact: str | None = None

    def as_texts(self) -> dict[str, str | int | bool | None]:
        """Return the terms by name, as JSON and the journal have them; durations as `parse_duration` reads them."""
        cost = None if self.self_unbind_cost is None else format_validity(self.self_unbind_cost)
        return asdict(self) | {"self_unbind_cost": cost}


def write_term(value: str | int | bool | None) -> str:  # noqa: FBT001  # a value of `Terms.as_texts`
    """Return a value of `Terms.as_texts` as `read_terms` reads it; None is an empty text."""
    if isinstance(value, bool):
        return (_TRUE if value else _FALSE)[0]
    return "" if value is None else str(value)


class TermsContradictionError(RefusedError):
    """Terms that contradict each other, by their `names`."""

    names = ("minimum_version", "latest_version")

    def __init__(self, least: str, latest: str) -> None:
        super().__init__(
            f"minimum_version {least} 不能高于 latest_version {latest}",
            f"minimum_version {least} must not be above latest_version {latest}",
        )


def read_terms(terms: Terms, given: Iterable[tuple[str, str]]) -> Terms:
    """Return terms with some of them changed, names with texts of a person; an empty text sets the default again.

    Raise RefusedError, which names the term, or TermsContradictionError if two terms contradict each other.
    """
    changes: dict[str, Any] = {}
    for name, text in given:
        if name not in _READERS:
            names = ", ".join(_READERS)
            raise RefusedError(f"没有条款“{name}”，可用的有：{names}", f"there is no term “{name}”; there are: {names}")
        if name in changes:
            raise RefusedError(f"条款 {name} 给出了两次", f"{name} is given twice")
        changes[name] = _READERS[name](name, text) if text else getattr(Terms(), name)
    changed = replace(terms, **changes)
    least, latest = changed.minimum_version, changed.latest_version
    if least is not None and latest is not None and is_older(latest, least):
        raise TermsContradictionError(least, latest)
    return changed


def _choice(terms: type[StrEnum], name: str, text: str) -> StrEnum:
    try:
        return terms(text)
    except ValueError as error:
        choices = ", ".join(terms)
        raise RefusedError(f"{name} 须为 {choices} 之一", f"{name} must be one of {choices}") from error


def _whole(low: int, high: int, name: str, text: str) -> int:
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(high))
    if not is_number or not low <= int(text) <= high:
        raise RefusedError(
            f"{name} 须为 {low} 到 {high:,} 的整数", f"{name} must be a whole number from {low} to {high:,}"
        )
    return int(text)


def _version(name: str, text: str) -> str:
    if not is_version(text):
        raise RefusedError(
            f"{name} 须为用点分隔的数字，如 1.10，最多 {MAX_VERSION} 个字符",
            f"{name} must be dotted numbers such as 1.10, at most {MAX_VERSION} characters",
        )
    return text


def _url(name: str, text: str) -> str:
    try:
        has_host = text.startswith("https://") and bool(urlsplit(text).hostname)
    except ValueError:
        has_host = False
    if not has_host or len(text) > MAX_URL or not text.isprintable() or " " in text:
        raise RefusedError(
            f"{name} 须为 https:// 开头的网址，最多 {MAX_URL} 个字符",
            f"{name} must be a URL that begins with https://, at most {MAX_URL} characters",
        )
    return text


def _text(limit: int, name: str, text: str, *, has_lines: bool = False) -> str:
    lines = text.split("\n") if has_lines else [text]
    if len(text) > limit or text.isspace() or not all(map(is_printable, lines)):
        raise RefusedError(
            f"{name} 须为最多 {limit} 个可打印字符", f"{name} must be at most {limit} printable characters"
        )
    return text


def _duration(name: str, text: str) -> timedelta:
    try:
        return parse_duration(text)
    except ValidityError as error:
        raise RefusedError(f"{name}：{error.text.zh}", f"{name}: {error.text.en}") from error


def _switch(name: str, text: str) -> bool:
    if text not in (*_TRUE, *_FALSE):
        raise RefusedError(f"{name} 须为 on 或 off", f"{name} must be on or off")
    return text in _TRUE


_READERS: dict[str, Callable[[str, str], Any]] = {
    "binding": partial(_choice, BindingTerm),
    "changes_per_day": partial(_whole, 1, MAX_CHANGES_PER_DAY),
    "minimum_version": _version,
    "latest_version": _version,
    "update_url": _url,
    "notice": partial(_text, MAX_NOTICE, has_lines=True),
    "self_service": _switch,
    "self_unbind_per_30_days": partial(_whole, 0, MAX_UNBINDS),
    "self_unbind_cost": _duration,
    "self_renew": partial(_choice, RenewTerm),
    "contact": partial(_text, MAX_TEXT),
}
