"""The messages for customers as a module of the JavaScript client: `python -m tests.support.javascript_messages`."""

import json
from pathlib import Path

from kadun import messages

TARGET = Path(__file__).resolve().parents[2] / "examples" / "javascript" / "kadun" / "messages.mjs"
_HEAD = """// What customers read, in Chinese and English, by code of a verdict or kind of failure. Made from
// client/src/kadun/messages.py by `python -m tests.support.javascript_messages`: change it there.

export const TEXTS = """


def source() -> str:
    """Return the module's text."""
    return f"{_HEAD}{json.dumps(messages.TEXTS, ensure_ascii=False, indent=2)};\n"


if __name__ == "__main__":
    TARGET.write_text(source(), encoding="utf-8")
