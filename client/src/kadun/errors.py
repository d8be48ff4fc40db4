"""What can go wrong. Each error has a `message` to show to a customer, and a `detail` for the vendor."""

from __future__ import annotations

from kadun.messages import text

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

    def __str__(self) -> str:
        return f"{self.message} [{self.detail}]" if self.detail else self.message


class CardRejected(KadunError):
    """The genuine server said no, and signed it.

    Attributes:
        code: why, as in the protocol: `CARD_EXPIRED` and so on.
        reference: 参考号, by which the vendor finds this very answer in the journal.
    """

    text_key = "rejected"

    def __init__(self, code: str, message: str, reference: str = "") -> None:
        super().__init__()
        self.args = (code, message, reference)
        self.code = code
        self.message = message
        self.reference = reference

    def speak(self, language: str) -> None:
        """Nothing to do: this message came with its code, in the client's language."""


class ServerUnreachable(KadunError):
    """No answer, or one that says to come back later. It says nothing about the card.

    Attributes:
        retry_after: seconds that the server asks to wait; None when it did not say.
        passing: whether asking again at once has a chance.
    """

    text_key = "unreachable"

    def __init__(
        self,
        detail: str = "",
        retry_after: int | None = None,
        *,
        passing: bool = False,
        busy: bool = False,
    ) -> None:
        if busy:  # there was an answer: the customer's own network is not to blame
            self.text_key = "busy"
        super().__init__(detail)
        self.retry_after = retry_after
        self.passing = passing


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


class UnsealFailed(KadunError):
    """The core data does not open with this card's key, or is no age file."""

    text_key = "unseal"


class HardwareUnknown(KadunError):
    """This machine offers nothing to recognise it by; hand in a string of your own as `hardware`."""

    text_key = "hardware"
