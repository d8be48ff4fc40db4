"""What can go wrong. Each error has a `message` to show to a customer, and a `detail` for the vendor."""

from __future__ import annotations

from kadun.messages import rejection, text, with_reference

_LONGEST_DETAIL = 200


def printable(foreign: object) -> str:
    """Text from outside, fit for a terminal or a log: cut short, no control or bidirectional characters."""
    cut = str(foreign)[:_LONGEST_DETAIL]
    return "".join(character if character.isprintable() else "?" for character in cut)


class KadunError(Exception):
    """The base of all errors that this package raises on purpose.

    Attributes:
        message: for the customer, in the client's language.
        detail: for the vendor, in English; may be empty.
    """

    text_key = "error"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.detail = printable(detail)
        self.message = text(self.text_key, "zh")

    def speak(self, language: str) -> None:
        """Put the message into `language`, `zh` or `en`."""
        self.message = text(self.text_key, language)

    def offline_refused(self, reason: str, *, over: bool) -> None:
        """Add why the last yes does not stand in for the server: its time is over, or something for the vendor."""
        self.detail = printable(f"{self.detail}; no offline starts: {reason}")
        if over:
            self.text_key = "offline_over"

    def __str__(self) -> str:
        return f"{self.message} [{self.detail}]" if self.detail else self.message


class _SignedRejection(KadunError):
    """A verdict that is no yes; its message came with its code, in the client's language."""

    def __init__(self, code: str, message: str, reference: str = "") -> None:
        super().__init__()
        self.args = (code, message, reference)
        self.code = code
        self.message = message
        self.reference = reference

    def speak(self, language: str) -> None:
        """Nothing to do: the message is in the client's language already."""


class CardRejected(_SignedRejection):
    """The genuine server said no, and signed it.

    Attributes:
        code: why, as in the protocol: `CARD_EXPIRED` and so on.
        reference: 参考号, by which the vendor finds this very answer in the journal.
    """


class CoreFunctionError(_SignedRejection):
    """The genuine server found the card good, and signed that the function gave no result.

    Attributes:
        code: `FUNCTION_NOT_FOUND`, `FUNCTION_FAILED` or `FUNCTION_TIMEOUT`.
        reference: 参考号, by which the vendor finds this very answer, and the traceback.
    """


class FunctionNotFound(CoreFunctionError):
    """The vendor has installed no function of this name."""


class FunctionFailed(CoreFunctionError):
    """The function raised, or returned what JSON cannot say. It has run, at least in part."""


class FunctionTimeout(CoreFunctionError):
    """The function took longer than the server allows. It has run, at least in part."""


class ServerUnreachable(KadunError):
    """No answer, or one that says to come back later. It says nothing about the card.

    Attributes:
        retry_after: seconds that the server asks to wait; None when it did not say.
        passing: whether asking again at once has a chance.
        sent: whether the request may have reached the server; False when no connection came about.
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
        if busy:  # there was an answer: the customer's own network is not to blame
            self.text_key = "busy"
        super().__init__(detail)
        self.retry_after = retry_after
        self.passing = passing
        self.sent = sent


class UntrustedAnswer(KadunError):
    """Something answered, but it is not the genuine server or not an answer to this request."""

    text_key = "untrusted"


class RequestRefused(KadunError):
    """The request's form was refused (problem+json): most often a mistyped card, else the vendor's mistake.

    No verdict and not signed: show it, and conclude nothing about the card from it.

    Attributes:
        code: the problem's code, such as `INVALID_REQUEST`.
    """

    text_key = "refused"

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.args = (code, detail)
        self.code = printable(code)


class DownloadFailed(KadunError):
    """A file did not arrive. What stood at the target before stands there still.

    Attributes:
        reason: `missing` (not on the server), `refused`, `damaged`, `disk_full`, `not_saved` (the disk or the
            system does not let us) or `under_way` (another program is at it).
        name: the file's, as asked for.
        reference: 参考号 of the verdict that offered the file, or did not.
    """

    def __init__(self, reason: str, name: str, reference: str = "", detail: str = "") -> None:
        self.text_key = f"download_{reason}"
        super().__init__(detail)
        self.args = (reason, name, reference, detail)
        self.reason = reason
        self.name = printable(name)
        self.reference = reference
        self.speak("zh")

    def speak(self, language: str) -> None:
        """Put the message into `language`, `zh` or `en`."""
        message = text(self.text_key, language).replace("{name}", self.name)
        self.message = with_reference(message, self.reference, language)


class UnsealFailed(KadunError):
    """The core data does not open with this card's key, or is no age file."""

    text_key = "unseal"


class HardwareUnknown(KadunError):
    """This machine offers nothing to recognise it by; hand in a string of your own as `hardware`."""

    text_key = "hardware"


_FUNCTION_ERRORS = {
    "FUNCTION_NOT_FOUND": FunctionNotFound,
    "FUNCTION_FAILED": FunctionFailed,
    "FUNCTION_TIMEOUT": FunctionTimeout,
}


def rejection_error(code: str, reference: str, language: str) -> CardRejected | CoreFunctionError:
    """The error for a verdict that is no yes."""
    message = rejection(code, reference, language)
    if code.startswith("FUNCTION_"):
        return _FUNCTION_ERRORS.get(code, CoreFunctionError)(code, message, reference)
    return CardRejected(code, message, reference)
