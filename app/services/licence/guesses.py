"""Guesses at the keys of imported cards, which may be short: an address with too many refusals gets no answer."""

from datetime import datetime

from app.domain.cards.cards import CardFacts, answers_to, parse_card_id
from app.domain.texts import LaterError
from app.storage import journal


class TooFastError(LaterError):
    """The address guesses too often."""

    def __init__(self) -> None:
        super().__init__(60, "操作过于频繁，请稍后再试", "too many requests: try again in a moment")


def refuse_guesses(address: str, at: datetime, *typed: str) -> None:
    """Raise TooFastError for a text that is no card ID, if the address has too many refusals: it may guess keys."""
    if any(parse_card_id(text) is None for text in typed) and journal.has_too_many_refusals(address, at):
        raise TooFastError


def hides(card: CardFacts | None, typed: str, address: str, at: datetime) -> bool:
    """Return whether a card is as if it did not exist, since its ID may be that of a guessed key, as above."""
    is_guess = card is not None and not answers_to(typed, is_imported=card.is_imported)
    return is_guess and journal.has_too_many_refusals(address, at)
