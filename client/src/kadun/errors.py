"""The errors of the SDK. Each has a `message` for the customer, and a `detail` for the vendor."""

from __future__ import annotations

from kadun.messages import text, with_reference

_LONGEST_DETAIL = 200


def printable(foreign: object) -> str:
    """Return untrusted text safe for a terminal or a log: shortened, without control or bidirectional characters."""
    cut = str(foreign)[:_LONGEST_DETAIL]
    return "".join(character if character.isprintable() else "?" for character in cut)


class KadunError(Exception):
    """The base class of all errors of this package.

    Attributes:
        message: for the customer, in the client's language.
        detail: for the vendor, in English; may be empty.
    """

    text_key = "error"

    def __init__(self, detail: str = "") -> None:
        # Without super().__init__: `args` stay those of the constructor, by which a copy is unpickled.
        self.detail = printable(detail)
        self.message = ""
        self.speak("zh")

    def speak(self, language: str) -> None:
        """Set the language of the message, `zh` or `en`."""
        self.message = text(self.text_key, language)

    def offline_refused(self, reason: str, *, over: bool) -> None:
        """Add why there is no offline start: its time is over, or another reason for the vendor."""
        self.detail = printable(f"{self.detail}; no offline starts: {reason}")
        if over:
            self.text_key = "offline_over"

    def __str__(self) -> str:
        return f"{self.message} [{self.detail}]" if self.detail else self.message


class _SignedRejection(KadunError):
    """A signed verdict that is not an acceptance; its message is in the client's language already."""

    def __init__(self, code: str, message: str, reference: str = "") -> None:
        super().__init__()
        self.code = code
        self.message = message
        self.reference = reference

    def speak(self, language: str) -> None:
        """Do nothing: the message is in the client's language already."""


class CardRejected(_SignedRejection):
    """The genuine server rejected the card with a signed verdict.

    Attributes:
        code: the reason, as in the protocol: `CARD_EXPIRED` and so on.
        reference: 参考号, with which the vendor finds this answer in the journal.
    """


class UpdateRequired(CardRejected):
    """The card is valid, but the vendor no longer lets this version of the program open (UPDATE_REQUIRED).

    Attributes:
        latest_version: the version to update to, if the vendor names one.
        update_url: where to get it, if the vendor says so. Open it only if it begins with https://.
    """

    def __init__(
        self,
        code: str,
        message: str,
        reference: str = "",
        latest_version: str | None = None,
        update_url: str | None = None,
    ) -> None:
        super().__init__(code, message, reference)
        self.latest_version = latest_version
        self.update_url = update_url


class CoreFunctionError(_SignedRejection):
    """The genuine server accepted the card, and signed that the function returned no result.

    Attributes:
        code: `FUNCTION_NOT_FOUND`, `FUNCTION_FAILED` or `FUNCTION_TIMEOUT`.
        reference: 参考号, with which the vendor finds this answer and the traceback.
    """


class FunctionNotFound(CoreFunctionError):
    """The vendor has not installed a function with this name."""


class FunctionFailed(CoreFunctionError):
    """The function raised an exception, or its result is not JSON. It has run, at least in part."""


class FunctionTimeout(CoreFunctionError):
    """The function took longer than the server allows. It has run, at least in part."""


class ServerUnreachable(KadunError):
    """No answer, or one that says to retry later. It says nothing about the card.

    Attributes:
        retry_after: seconds that the server asks to wait; None if it did not say.
        passing: whether an immediate retry may succeed.
        sent: whether the request may have reached the server; False if no connection was established.
    """

    text_key = "unreachable"

    def __init__(
        self,
        detail: str = "",
        retry_after: int | None = None,
        *,
        passing: bool = False,
        busy: bool = False,
        sent: bool = True,
    ) -> None:
        if busy:  # there was an answer: the customer's network works
            self.text_key = "busy"
        super().__init__(detail)
        self.retry_after = retry_after
        self.passing = passing
        self.sent = sent


class UntrustedAnswer(KadunError):
    """The answer is not from the genuine server, or not to this request."""

    text_key = "untrusted"


class RequestRefused(KadunError):
    """The server refused the request as malformed (problem+json): usually a mistyped card.

    This is not a signed verdict: show it, but conclude nothing about the card.

    Attributes:
        code: the code of the problem, such as `INVALID_REQUEST`.
    """

    text_key = "refused"

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = printable(code)


class DownloadFailed(KadunError):
    """A download failed. The target is unchanged.

    Attributes:
        reason: `missing` (not on the server), `refused`, `damaged`, `disk_full`, `not_saved` (it cannot be written)
            or `under_way` (another program is downloading it).
        name: the name of the file, as requested.
        reference: 参考号 of the verdict that offered the file, or did not.
    """

    def __init__(self, reason: str, name: str, reference: str = "", detail: str = "") -> None:
        self.text_key = f"download_{reason}"
        self.reason = reason
        self.name = printable(name)
        self.reference = reference
        super().__init__(detail)

    def speak(self, language: str) -> None:
        """Set the language of the message, `zh` or `en`."""
        message = text(self.text_key, language).replace("{name}", self.name)
        self.message = with_reference(message, self.reference, language)


class UnsealFailed(KadunError):
    """The core data does not decrypt with this card's key, or is not an age file."""

    text_key = "unseal"


class HardwareUnknown(KadunError):
    """This machine has no identifier; pass your own string as `hardware`."""

    text_key = "hardware"
