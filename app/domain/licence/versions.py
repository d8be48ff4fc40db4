"""Versions of the vendor's program: dotted numbers."""

import re

MAX_VERSION = 32
"""Characters of the longest version."""
PATTERN = r"^[0-9]+(\.[0-9]+)*\Z"
_VERSION = re.compile(PATTERN)


def is_version(text: str) -> bool:
    """Tell whether a text is a version: dotted numbers, at most `MAX_VERSION` characters."""
    return len(text) <= MAX_VERSION and _VERSION.match(text) is not None


def is_older(version: str, other: str) -> bool:
    """Tell whether a version is older than another: `1.9` is older than `1.10`, which equals `1.10.0`."""
    return _numbers(version) < _numbers(other)


def _numbers(version: str) -> list[int]:
    numbers = [int(part) for part in version.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return numbers
