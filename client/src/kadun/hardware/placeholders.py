"""Removes the placeholders that manufacturers leave in place of identifiers.

One that is added in a later release, or another spelling, changes machines' strings: that requires a new prefix.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping

_SHORTEST = 4  # VirtualBox's serial number is 0; one this short does not identify a machine
_SHORTEST_COUNT = 8
_FEWEST_DISTINCT_BYTES = 4  # a random UUID has some 15, Supermicro's zeros and MAC address up to 7

_NOISE = re.compile(r"[^0-9a-z]")
_COUNTED = "0123456789" * 8
_LEADING_LETTERS = re.compile(r"^[a-z]*")
_PHRASE = re.compile(
    r"tobefilled|tobedefined|tobeset|filledbyoem|defaultstring|serialnumb|unspecified|undefined"
    r"|not(specified|applicable|available|defined|provided|present|settable|set)|outofspec|badindex"
)
_WORD = re.compile(r"baseboard|default|empty|fill|invalid|none|noserial|nosn|null|oem|serial|standard|system|unknown")
# Shared by whole batches of boards; UUIDs of repeated or counted bytes are detected without an entry.
_UUIDS = frozenset(
    {
        "03000200040005000006000700080009",  # American Megatrends' sample
        "00020003000400050006000700080009",  # the same in the other byte order, as some tools print it
        "030201000504070608090a0b0c0d0e0f",  # 00, 01, 02 … likewise
        "123456781234567890abcddeefaabbcc",
        "11111111222233334444555555555555",
        "deadbeefdeadbeefdeadbeefdeadbeef",
        "4c4c454400002010802080c04f202020",  # Dell's, which spells the service tag, of a board without one
    }
)


def without_placeholders(found: Mapping[str, str | None]) -> dict[str, str]:
    """Normalize identifiers to lower-case letters and digits, and remove placeholders."""
    spelt = {name: _NOISE.sub("", (value or "").lower()) for name, value in found.items()}
    return {name: value for name, value in spelt.items() if not _is_placeholder(value)}


def _is_placeholder(value: str) -> bool:
    if len(value) < _SHORTEST or len(set(value)) == 1 or _WORD.fullmatch(value) or _PHRASE.search(value):
        return True
    digits = _LEADING_LETTERS.sub("", value)  # MB-1234567890, BSN12345678901234567
    if digits in _COUNTED and (digits == value or len(digits) >= _SHORTEST_COUNT):
        return True
    return _is_placeholder_uuid(value)


def _is_placeholder_uuid(value: str) -> bool:
    try:
        raw = uuid.UUID(hex=value).bytes
    except ValueError:
        return False
    steps = {(following - byte) % 256 for byte, following in zip(raw, raw[1:])}
    return len(steps) == 1 or len(set(raw)) < _FEWEST_DISTINCT_BYTES or value in _UUIDS
