"""The codes of verdicts and the kinds of journal entries (protocol, sections 2 and 3)."""

from enum import StrEnum

from app.domain.texts import NamedEnum


class Code(StrEnum):
    """The code of a verdict. `accepted` is true exactly for `OK`."""

    OK = "OK"
    CARD_NOT_FOUND = "CARD_NOT_FOUND"
    CARD_FROZEN = "CARD_FROZEN"
    CARD_EXPIRED = "CARD_EXPIRED"
    CARD_SPENT = "CARD_SPENT"
    CLIENT_BLOCKED = "CLIENT_BLOCKED"
    CLIENT_MISMATCH = "CLIENT_MISMATCH"
    CLIENT_HAS_ANOTHER_CARD = "CLIENT_HAS_ANOTHER_CARD"
    TOO_MANY_CHANGES = "TOO_MANY_CHANGES"
    UPDATE_REQUIRED = "UPDATE_REQUIRED"
    FUNCTION_NOT_FOUND = "FUNCTION_NOT_FOUND"
    FUNCTION_FAILED = "FUNCTION_FAILED"
    FUNCTION_TIMEOUT = "FUNCTION_TIMEOUT"


class EventKind(NamedEnum):
    """The kind of a journal entry."""

    ISSUED = "issued", "发卡", "issued"
    IMPORTED = "imported", "导入", "imported"
    ACTIVATED = "activated", "激活", "activated"
    BOUND = "bound", "绑定", "bound"
    RELEASED = "released", "释放绑定", "binding released"
    ENVIRONMENT_CHANGED = "environment_changed", "环境变化", "environment changed"
    REJECTED = "rejected", "拒绝", "rejected"
    FROZEN = "frozen", "已冻结", "frozen"
    UNFROZEN = "unfrozen", "解冻", "unfrozen"
    UNBOUND = "unbound", "解绑", "unbound"
    MOVED = "moved", "换绑", "moved to another machine"
    SELF_UNBOUND = "self_unbound", "客户自助解绑", "unbound by the customer"
    RENEWED = "renewed", "客户自助续费", "renewed by the customer"
    EXTENDED = "extended", "延期", "extended"
    SHORTENED = "shortened", "缩短", "shortened"
    EDITED = "edited", "修改批次、备注", "batch or note changed"
    DELETED = "deleted", "删除", "deleted"
    KEY_ROTATED = "key_rotated", "轮换密钥", "key rotated"
    KEYS_MOVED = "keys_moved", "移动密钥", "keys moved"
    FILE_ADDED = "file_added", "添加文件", "file added"
    FILE_REMOVED = "file_removed", "删除文件", "file removed"
    FILE_DOWNLOADED = "file_downloaded", "下载文件", "file downloaded"
    OPERATOR_ADDED = "operator_added", "添加管理员", "operator added"
    OPERATOR_CHANGED = "operator_changed", "修改管理员", "operator changed"
    OPERATOR_REMOVED = "operator_removed", "删除管理员", "operator removed"
    LOGGED_IN = "logged_in", "登录", "logged in"
    LOGGED_OUT = "logged_out", "退出登录", "logged out"
    LOGIN_REFUSED = "login_refused", "登录被拒", "log-in refused"
    TOKEN_ADDED = "token_added", "添加令牌", "token added"
    TOKEN_CHANGED = "token_changed", "修改令牌", "token changed"
    TOKEN_REVOKED = "token_revoked", "吊销令牌", "token revoked"
    WEBHOOK_ADDED = "webhook_added", "添加 Webhook", "webhook added"
    WEBHOOK_CHANGED = "webhook_changed", "修改 Webhook", "webhook changed"
    WEBHOOK_REMOVED = "webhook_removed", "删除 Webhook", "webhook removed"
    TERMS_CHANGED = "terms_changed", "修改条款", "terms changed"
    PROGRAM_ADDED = "program_added", "添加程序", "program added"
    PROGRAM_CHANGED = "program_changed", "修改程序", "program changed"
    PROGRAM_REMOVED = "program_removed", "移除程序", "program removed"
    BLOCK_ADDED = "block_added", "加入黑名单", "blocked"
    BLOCK_REMOVED = "block_removed", "移出黑名单", "unblocked"
    EXPORTED = "exported", "导出", "exported"


class Change(StrEnum):
    """A change of a card's environment, which a client can repeat: counted for each card and day, as `COUNTED` are."""

    HARDWARE_CHANGED = "hardware_changed"
    ADDRESS_CHANGED = "address_changed"


COUNTED = frozenset(Code) - {Code.OK, Code.CARD_NOT_FOUND, Code.CLIENT_BLOCKED}
"""The codes of rejections that concern an existing card."""
OF_AN_ENVIRONMENT = frozenset(
    (*Change, Code.CLIENT_MISMATCH, Code.CLIENT_HAS_ANOTHER_CARD, Code.TOO_MANY_CHANGES, Code.UPDATE_REQUIRED)
)
"""What is only counted where it is repeated in an environment that the day's entries have."""


class CardStatus(NamedEnum):
    """The status of a card: the first that applies, in this order."""

    SPENT = "spent", "已用于续费", "spent"
    FROZEN = "frozen", "已冻结", "frozen"
    EXPIRED = "expired", "已过期", "expired"
    ACTIVE = "active", "使用中", "active"
    UNUSED = "unused", "未激活", "unused"
