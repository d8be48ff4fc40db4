"""How a card was used, from what a line of an imported file says."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.cards import MAX_VALIDITY, MIN_VALIDITY
from app.domain.codes import CardStatus
from app.domain.imported_cards import Chosen, ContradictionError, Line, Use, use_of, validity_of
from tests.support.tables import for_each

NOW = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
WHOLE = NOW.replace(microsecond=0)
DAY = timedelta(days=1)
MONTH = 30 * DAY
A, B = WHOLE - 10 * DAY, WHOLE + 25 * DAY
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
UNUSED, ACTIVE, EXPIRED, FROZEN = CardStatus.UNUSED, CardStatus.ACTIVE, CardStatus.EXPIRED, CardStatus.FROZEN


@for_each(
    ("line", "use"),
    [
        *[(Line(validity, status=status), Use()) for status in (None, UNUSED, FROZEN) for validity in (None, MONTH)],
        (Line(MONTH, A), Use(A, A + MONTH)),
        (Line(MONTH, A, B), Use(A, B)),
        (Line(MONTH, A, B, ACTIVE, "h"), Use(A, B)),
        (Line(MONTH, A, A + DAY, EXPIRED), Use(A, A + DAY)),
        (Line(MONTH, A, A + DAY, ACTIVE), Use(A, A + DAY)),
        (Line(MONTH, WHOLE), Use(WHOLE, WHOLE + MONTH)),
        (Line(MONTH, None, B), Use(B - MONTH, B, is_derived=True)),
        (Line(MONTH, None, B + 90 * DAY), Use(WHOLE, B + 90 * DAY, is_derived=True, begins_now=True)),
        (Line(MONTH, None, A, FROZEN), Use(A - MONTH, A, is_derived=True)),
        (Line(MONTH, None, EARLIEST + DAY), Use(EARLIEST, EARLIEST + DAY, is_derived=True)),
        (Line(MONTH, EARLIEST), Use(EARLIEST, EARLIEST + MONTH)),
        (Line(MONTH, None, WHOLE + MONTH), Use(WHOLE, WHOLE + MONTH, is_derived=True)),
        (Line(MONTH, A, WHOLE + MAX_VALIDITY), Use(A, WHOLE + MAX_VALIDITY)),
        (Line(MONTH, A, WHOLE, EXPIRED), Use(A, WHOLE)),
        (Line(None, A), Use(A, None)),
        (Line(None, status=ACTIVE), Use(WHOLE, None, is_derived=True)),
        (Line(None, hardware="h"), Use(WHOLE, None, is_derived=True)),
        (Line(None, A, datetime(2099, 1, 1, tzinfo=UTC)), Use(A, None)),
    ],
)
def test_a_card_is_unused_or_has_the_times_that_its_line_says_or_that_follow(line: Line, use: Use) -> None:
    assert use_of(line, NOW) == use
    assert use_of(Line(MONTH, WHOLE), WHOLE) == Use(WHOLE, WHOLE + MONTH), "at this very moment"


@for_each(
    ("line", "column"),
    [
        (Line(MONTH, A, status=UNUSED), "status"),
        (Line(MONTH, None, B, UNUSED), "status"),
        (Line(MONTH, status=UNUSED, hardware="h"), "status"),
        (Line(MONTH, status=ACTIVE), "activated_at"),
        (Line(MONTH, status=EXPIRED), "activated_at"),
        (Line(MONTH, hardware="h"), "activated_at"),
        (Line(MONTH, WHOLE + DAY), "activated_at"),
        (Line(None, WHOLE + DAY), "activated_at"),
        (Line(MONTH, datetime(1999, 12, 31, tzinfo=UTC)), "activated_at"),
        (Line(MONTH, A, A), "expires_at"),
        (Line(MONTH, A, A - DAY), "expires_at"),
        (Line(MONTH, A, WHOLE + 36_501 * DAY), "expires_at"),
        (Line(MONTH, None, datetime(1, 1, 2, tzinfo=UTC)), "expires_at"),
        (Line(MONTH, None, datetime(9999, 12, 31, tzinfo=UTC)), "expires_at"),
        (Line(MONTH, A, B, EXPIRED), "status"),
        (Line(None, A, B), "expires_at"),
        (Line(None, A, datetime(2098, 12, 31, tzinfo=UTC)), "expires_at"),
        (Line(None, status=EXPIRED), "status"),
    ],
)
def test_a_contradiction_names_its_column(line: Line, column: str) -> None:
    with pytest.raises(ContradictionError) as refused:
        use_of(line, NOW)
    assert refused.value.column == column


moments = st.none() | st.datetimes(timezones=st.just(UTC)).map(lambda at: at.replace(microsecond=0))
lines = st.builds(
    Line,
    st.none() | st.integers(1, 36_500 * 86_400).map(lambda seconds: timedelta(seconds=seconds)),
    moments,
    moments,
    st.none() | st.sampled_from(CardStatus),
    st.none() | st.just("h"),
)


NEVER = datetime(2099, 1, 1, tzinfo=UTC)


@for_each(
    ("line", "validity"),
    [
        (Line(None), MONTH),
        (Line(None, status=FROZEN), MONTH),
        (Line(None, None, NOW + 33 * DAY), 33 * DAY),
        (Line(None, None, NOW + 33 * DAY + timedelta(seconds=1)), 34 * DAY),
        (Line(None, None, A, EXPIRED), DAY),
        (Line(None, A, B), B - A),
        (Line(None, None, NEVER), None),
    ],
)
def test_a_file_without_validities_has_those_of_cards_in_use(line: Line, validity: timedelta | None) -> None:
    assert validity_of(line, Chosen(MONTH), NOW) == validity
    unknown = {"validity": Line(None), "expires_at": Line(None, hardware="h")}
    for column, without in (*unknown.items(), ("expires_at", Line(None, A))):
        with pytest.raises(ContradictionError) as refused:
            validity_of(without, None, NOW)
        assert refused.value.column == column


@given(lines, st.booleans())
def test_every_line_is_a_card_that_the_database_takes_or_a_contradiction(line: Line, has_validity: bool) -> None:  # noqa: FBT001
    try:
        if not has_validity:
            line = line._replace(validity=validity_of(line, Chosen(line.validity), NOW))
            assert line.validity is None or MIN_VALIDITY <= line.validity <= MAX_VALIDITY
        use = use_of(line, NOW)
    except ContradictionError:
        return
    if use.activated_at is None:
        assert use == Use()
        return
    assert use.activated_at <= NOW
    assert (use.expires_at is None) == (line.validity is None)
    assert use.expires_at is None or use.expires_at > use.activated_at
