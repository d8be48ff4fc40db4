"""Options that take a duration, and those that set ceilings."""

from datetime import timedelta
from typing import Any

import click

from app.cli.context import together
from app.domain.operators.ceilings import MAX_CARDS_PER_DAY, Ceilings, format_longest, longest_of
from app.domain.texts import RefusedError
from app.services.imports.import_times import read_validity

PERMANENT, NEVER = "permanent", "never"
LENGTHS = "30s 45m 12h 30d 1w, 30天 1年, 天卡 … 年卡, day … year"
"""How a duration is written, for help."""


class Duration(click.ParamType[Any]):
    """A duration; or, where that is allowed, a word and what it stands for: click takes None for "not given"."""

    name = "duration"

    def __init__(self, word: str | None = None, meaning: timedelta | str | None = None) -> None:
        self._word = word
        self._meaning = meaning or word

    def convert(self, value: Any, param: Any, ctx: Any) -> timedelta | str | None:  # noqa: ANN401  # click's signature
        """Return the duration, or what the word stands for."""
        if value == self._word:
            return self._meaning
        try:
            duration = read_validity(value)
        except RefusedError as error:
            self.fail(str(error), param, ctx)
        if duration is None and self._word != PERMANENT:
            self.fail(f"“{value}”不是有限的时长 / '{value}' is not a limited duration", param, ctx)
        return duration or self._meaning


ceiling_options = together(
    click.option(
        "--cards-per-day", type=click.IntRange(1, MAX_CARDS_PER_DAY), help="每天发卡上限 / At most so many a day."
    ),
    click.option(
        "--longest-validity",
        type=Duration(PERMANENT, longest_of(None)),
        help="卡密有效期上限 / No card may last longer: 30d, year …, or permanent for no limit.",
    ),
)
"""Set `cards_per_day` and `longest_validity` of `Ceilings`."""


def in_words(ceilings: Ceilings) -> str:
    """Return ceilings that are set, as the help says them."""
    return f"{ceilings.cards_per_day} cards a day, {format_longest(ceilings.longest_validity)}"
