"""The codes of verdicts and the kinds of journal entries (protocol, sections 2 and 3)."""

from enum import StrEnum


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


class EventKind(StrEnum):
    """The kind of a journal entry."""

    ISSUED = "issued"
    IMPORTED = "imported"
    ACTIVATED = "activated"
    BOUND = "bound"
    RELEASED = "released"
    ENVIRONMENT_CHANGED = "environment_changed"
    REJECTED = "rejected"
    FROZEN = "frozen"
    UNFROZEN = "unfrozen"
    UNBOUND = "unbound"
    MOVED = "moved"
    SELF_UNBOUND = "self_unbound"
    RENEWED = "renewed"
    EXTENDED = "extended"
    SHORTENED = "shortened"
    EDITED = "edited"
    DELETED = "deleted"
    KEY_ROTATED = "key_rotated"
    KEYS_MOVED = "keys_moved"
    FILE_ADDED = "file_added"
    FILE_REMOVED = "file_removed"
    FILE_DOWNLOADED = "file_downloaded"
    OPERATOR_ADDED = "operator_added"
    OPERATOR_CHANGED = "operator_changed"
    OPERATOR_REMOVED = "operator_removed"
    LOGGED_IN = "logged_in"
    LOGGED_OUT = "logged_out"
    LOGIN_REFUSED = "login_refused"
    RECOVERY_CODE_USED = "recovery_code_used"
    TOKEN_ADDED = "token_added"  # noqa: S105  # a kind
    TOKEN_CHANGED = "token_changed"  # noqa: S105  # a kind
    TOKEN_REVOKED = "token_revoked"  # noqa: S105  # a kind
    WEBHOOK_ADDED = "webhook_added"
    WEBHOOK_CHANGED = "webhook_changed"
    WEBHOOK_REMOVED = "webhook_removed"
    TERMS_CHANGED = "terms_changed"
    BLOCK_ADDED = "block_added"
    BLOCK_REMOVED = "block_removed"
    EXPORTED = "exported"


class Counted(StrEnum):
    """What a client can make happen to one card again and again: counted for each card and day.

    Changes of the environment, hardware and address apart, and the codes of rejections that concern an existing card.
    """

    HARDWARE_CHANGED = "hardware_changed"
    ADDRESS_CHANGED = "address_changed"
    CLIENT_MISMATCH = "CLIENT_MISMATCH"
    CLIENT_HAS_ANOTHER_CARD = "CLIENT_HAS_ANOTHER_CARD"
    TOO_MANY_CHANGES = "TOO_MANY_CHANGES"
    UPDATE_REQUIRED = "UPDATE_REQUIRED"
    FUNCTION_NOT_FOUND = "FUNCTION_NOT_FOUND"
    FUNCTION_FAILED = "FUNCTION_FAILED"
    FUNCTION_TIMEOUT = "FUNCTION_TIMEOUT"
    CARD_FROZEN = "CARD_FROZEN"
    CARD_EXPIRED = "CARD_EXPIRED"
    CARD_SPENT = "CARD_SPENT"

    @property
    def is_of_an_environment(self) -> bool:
        """Whether a repetition in an environment that the day's entries have is only counted."""
        return self in {
            Counted.HARDWARE_CHANGED,
            Counted.ADDRESS_CHANGED,
            Counted.CLIENT_MISMATCH,
            Counted.CLIENT_HAS_ANOTHER_CARD,
            Counted.TOO_MANY_CHANGES,
            Counted.UPDATE_REQUIRED,
        }


class CardStatus(StrEnum):
    """The status of a card: the first that applies, in this order."""

    SPENT = "spent"
    FROZEN = "frozen"
    EXPIRED = "expired"
    ACTIVE = "active"
    UNUSED = "unused"
