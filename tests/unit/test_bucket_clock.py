"""How far a bucket's clock is ahead, told by when it wrote an object."""

from datetime import UTC, datetime, timedelta

import pytest

from app.storage.bucket_blobs import clock_offset

BEGAN = datetime(2026, 11, 28, 9, 0, 0, 600_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "offset"),
    [
        (BEGAN.replace(microsecond=0), 0.0),  # whole seconds
        (BEGAN + timedelta(seconds=3), 0.0),  # a slow write
        (BEGAN + timedelta(seconds=4), 0.0),
        (BEGAN + timedelta(seconds=34), 30.0),
        (BEGAN - timedelta(seconds=31), -30.0),
    ],
)
def test_a_slow_answer_is_no_wrong_clock(written: datetime, offset: float) -> None:
    assert clock_offset(written, BEGAN, BEGAN + timedelta(seconds=4)) == offset
