"""The documents for people that tests read."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^```[^\n]*\n.*?^```$", re.MULTILINE | re.DOTALL)
_FOLDERS = ("docs", "client", "examples", "https_certificates", "tests/vectors")
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in (*ROOT.glob("*.md"), *(path for folder in _FOLDERS for path in (ROOT / folder).rglob("*.md")))
    if "node_modules" not in path.parts
)


def document(name: str) -> str:
    """Return the text of a document, by its path in the repository."""
    return (ROOT / name).read_text("utf-8")


def prose(name: str) -> str:
    """Return the text of a document without its fenced blocks."""
    return FENCE.sub("", document(name))
