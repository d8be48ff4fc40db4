"""Tests that walk a table."""

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pytest

_Test = Callable[..., None]


def for_each(names: str | Sequence[str], rows: Iterable[Any]) -> Callable[[_Test], _Test]:
    """Call a test once for each row, all in one case of pytest, and report each row that fails.

    It stands for `pytest.mark.parametrize`, whose cases cost some milliseconds each, and again in each process that
    collects them. The rows share the fixtures: it fits tests that leave these as they found them.
    """
    columns = [name.strip() for name in (names.split(",") if isinstance(names, str) else names)]
    table = [dict(zip(columns, row if len(columns) > 1 else (row,), strict=True)) for row in rows]
    assert table, "a test without a row tests nothing"

    def decorate(test: _Test) -> _Test:
        @functools.wraps(test)
        def walk(**fixtures: Any) -> None:
            failures = [failure for row in table if (failure := _failure_of(test, row, fixtures))]
            if len(failures) == 1:
                raise failures[0]
            if failures:
                raise BaseExceptionGroup(f"{len(failures)} of {len(table)} rows", failures)

        signature = inspect.signature(test)
        kept = [parameter for name, parameter in signature.parameters.items() if name not in columns]
        walk.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]  # what pytest reads
        return walk

    return decorate


def _failure_of(test: _Test, row: Mapping[str, Any], fixtures: Mapping[str, Any]) -> BaseException | None:
    try:
        test(**row, **fixtures)
    except (Exception, pytest.fail.Exception) as failure:  # noqa: BLE001  # raised again, with the others
        failure.add_note(f"row: {row!r}"[:1_000])
        return failure
    return None
