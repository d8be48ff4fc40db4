"""Reads the cells of an imported file, and makes a card of a line's values. What is wrong is a RefusedError."""

import re
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from app.domain.addresses import UNKNOWN_ADDRESS, canonical_address
from app.domain.cards.cards import card_id_of, check_imported_key, parse_card_id, plain
from app.domain.codes import CardStatus
from app.domain.imports import Chosen, ContradictionError, Line, use_of, validity_of
from app.domain.licence.policy import MAX_HARDWARE
from app.domain.texts import RefusedError, check_text
from app.services.imports.import_times import EMPTY, NEVER, cut
from app.storage.cards import NewBinding, NewCard

_STATUSES = {
    CardStatus.UNUSED: ("未使用", "未激活", "new", "not used", "not activated"),
    CardStatus.ACTIVE: ("已激活", "已使用", "使用中", "used", "in use", "activated"),
    CardStatus.EXPIRED: ("已过期", "已到期", "过期", "到期", "失效", "已失效"),
    CardStatus.FROZEN: (
        *("已冻结", "冻结", "封禁", "已封禁", "禁用", "已禁用", "停用", "已停用", "锁定", "已锁定", "作废", "已作废"),
        *("banned", "disabled", "blocked", "suspended", "locked", "void", CardStatus.SPENT.value),  # spent: not for use
    ),
}
_STATUS_OF = {word: status for status, words in _STATUSES.items() for word in (status.value, *words)}
_SAYS_NOTHING = frozenset(["正常", "有效", "启用", "已启用", "normal", "ok", "valid", "enabled"])
"""Statuses of cards that may be used: whether they were, the other columns say."""
_MARKED = re.compile(r"(^|;\"*)'(?='*[=+\-@＝＋－＠])")  # as app.services.cards.exports marks them
_ROUNDED = re.compile(r"[0-9](\.[0-9]+)?E\+[0-9]+")


def read_key(cell: str) -> tuple[str, str | None]:
    """Read a card, an ID in our form or the key of another system: return its ID, and the key where that is another."""
    card_id = parse_card_id(cell)
    if card_id is not None:
        return card_id, None
    key = plain(_unmarked(cell))
    if _ROUNDED.fullmatch(key):
        raise RefusedError(
            f"“{cut(key)}”是被表格软件改写的长数字，后面的数字已丢失：请把此列设为“文本”格式，从原系统重新导出",
            f"'{cut(key)}' is a long number that a spreadsheet has rounded: format the column as text, and export it "
            "from the other system again",
        )
    try:
        check_imported_key(key)
    except RefusedError as error:
        raise RefusedError(
            f"“{cut(cell)}”不是卡密：{error.text.zh}", f"'{cut(cell)}' is not a card: {error.text.en}"
        ) from error
    return card_id_of(key), key


def _unmarked(cell: str) -> str:
    """Return a text without the marks that our own lists put before what a spreadsheet would take for a formula."""
    return _MARKED.sub(r"\1", cell)


@lru_cache
def read_text(name: str, cell: str) -> str | None:
    """Read a vendor's text, which errors call `name`."""
    text = _unmarked(cell)
    check_text(name, text or None)
    return text or None


def read_status(cell: str) -> CardStatus | None:
    """Read a status; None where the cell says nothing about the use of the card."""
    text = cell.strip().lower()
    if text in EMPTY - {"0"} or text in _SAYS_NOTHING:
        return None
    if text not in _STATUS_OF:
        raise RefusedError(
            f"“{cut(cell)}”不是状态：请写 未使用、已激活、已过期、已冻结，或删去此列",
            f"'{cut(cell)}' is not a status: write {', '.join(CardStatus)}, or remove the column",
        )
    return _STATUS_OF[text]


def read_hardware(cell: str) -> str | None:
    """Read the hardware string of the bound machine, as it is: the program will send it, character by character."""
    if cell.strip().lower() in EMPTY:
        return None
    hardware = _unmarked(cell)
    if len(hardware) > MAX_HARDWARE or "\0" in hardware:
        raise RefusedError(
            f"机器码最多 {MAX_HARDWARE} 个字符，不能含 NUL",
            f"a machine's string is at most {MAX_HARDWARE} characters without NUL",
        )
    return hardware


@lru_cache
def read_address(cell: str) -> str | None:
    """Read an address; what stands after it in the cell, such as a city, is left out."""
    text = cell.strip()
    if text.lower() in EMPTY:
        return None
    try:
        return canonical_address(re.split(r"[\s,;(（\[]", text)[0])
    except ValueError as error:
        raise RefusedError(f"“{cut(text)}”不是 IP 地址", f"'{cut(text)}' is not an IP address") from error


def card_of(values: dict[str, Any], now: datetime, chosen: Chosen | None) -> NewCard:
    """Return the card that a line describes, or raise ContradictionError; `chosen` is for a file without a validity."""
    (card_id, key), imported, hardware = values["id"], values.get("imported_key"), values.get("hardware")
    if imported is not None and card_id_of(imported) != card_id:
        raise ContradictionError(
            "imported_key", "原卡密与同行的卡密 ID 不一致", "this key is not that of the card in the same line"
        )
    expires, validity = values.get("expires_at"), values.get("validity")
    is_never = expires == NEVER
    line = Line(None, values.get("activated_at"), None if is_never else expires, values.get("status"), hardware)
    if "validity" not in values and not is_never:
        validity = validity_of(line, chosen, now)
    if is_never and validity is not None:
        raise ContradictionError("expires_at", "永不过期，有效期却不是永久", "never, but the validity is not permanent")
    activated_at, expires_at = use_of(line._replace(validity=validity), now)
    binding = None
    if hardware is not None and activated_at is not None:
        # It was not seen here: nobody is to count it as online.
        last = min(activated_at, now - timedelta(days=1))
        binding = NewBinding(hardware, values.get("ip") or UNKNOWN_ADDRESS, last)
    return NewCard(
        card_id,
        validity,
        values.get("batch"),
        values.get("note"),
        activated_at,
        expires_at,
        now if line.status is CardStatus.FROZEN else None,
        imported or key,
        binding,
    )
