"""Formatting of values for people and JSON: texts from clients escaped, times in the vendor's zone."""

import json
import re
import unicodedata
from datetime import datetime, timedelta, tzinfo
from typing import Any

# Control and format characters (bidirectional ones among them), lone surrogates, breaks.
_DANGEROUS = {"Cc", "Cf", "Cs", "Zl", "Zp"}
_JSON_DANGEROUS = re.compile(
    "[\x7f-\x9f\u00ad\u0600-\u0605\u061c\u06dd\u070f\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0001-\U000e007f]"
)


def escaped(text: str) -> str:
    """Return a text with control and bidirectional characters escaped, which clients may send."""
    return "".join(c if unicodedata.category(c) not in _DANGEROUS else ascii(c)[1:-1] for c in text)


def local(moment: datetime | None, zone: tzinfo) -> str | None:
    """Return a time in ISO 8601 in the vendor's zone, with its offset."""
    return None if moment is None else moment.astimezone(zone).isoformat()


def seconds(validity: timedelta | None) -> int | None:
    """Return a validity in seconds, None for permanent."""
    return None if validity is None else int(validity.total_seconds())


def json_text(value: object) -> str:
    """Return a value as JSON on one line, with control and bidirectional characters escaped."""
    text = json.dumps(value, ensure_ascii=False)
    return _JSON_DANGEROUS.sub(lambda match: json.dumps(match[0])[1:-1], text)


def takes(schema: dict[str, Any] | None) -> str:
    """Return the parameters of a function on one line: names and types, optional ones in brackets."""
    if schema is None:
        return "{…}"
    definitions = schema.get("$defs", {})
    target = definitions.get(schema.get("$ref", "").rpartition("/")[2], schema)
    required = target.get("required", ())
    named = [(name, f"{name}: {_type(kind)}") for name, kind in target.get("properties", {}).items()]
    return ", ".join(text if name in required else f"[{text}]" for name, text in named) or "{…}"


def _type(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        return " | ".join(map(_type, schema["anyOf"]))
    return str(schema.get("type") or schema.get("$ref", "any").rpartition("/")[2])
