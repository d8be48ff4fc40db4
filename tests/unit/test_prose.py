"""The documents are written plainly, in short lines, and their links and paths lead somewhere."""

import re
import unicodedata

from tests.support.documents import DOCUMENTS, ROOT, document, prose
from tests.support.tables import for_each

MAX_COLUMNS, MAX_TABLE_COLUMNS = 120, 180
FOLDERS = "app|client|conformance|scripts|tests|trial|bench|docs|examples|nginx|postgres"
TO_BE_MADE = {  # by readers of the worked examples
    "app/cli/today.py",
    "app/console/templates/version.html",
}


def width(line: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in line)


def anchors(name: str) -> set[str]:
    """The sections of a document, as GitHub names them in links."""
    titles = re.findall(r"^#+ (.+)$", prose(name), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@for_each("name", DOCUMENTS)
def test_lines_are_short(name: str) -> None:
    lines = [line for line in prose(name).splitlines() if not line.startswith(("    ", "!["))]
    limits = {line: MAX_TABLE_COLUMNS if line.startswith("|") else MAX_COLUMNS for line in lines}
    assert [line for line, limit in limits.items() if width(line) > limit] == []


@for_each("name", DOCUMENTS)
def test_the_words_are_plain(name: str) -> None:
    text = " ".join(prose(name).split())
    assert re.findall(r"\b(?:is none|are none|is no card|whoever|whatever it)\b", text, re.IGNORECASE) == []
    assert re.findall("谎言|说谎|绝不会卖出", text) == []


@for_each("name", DOCUMENTS)
def test_chinese_readers_are_addressed_politely(name: str) -> None:
    assert "你" not in document(name)


@for_each("name", DOCUMENTS)
def test_every_link_inside_leads_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)#]+)", prose(name))
    assert [link for link in links if "://" not in link and not (ROOT / name).parent.joinpath(link).exists()] == []


@for_each("name", DOCUMENTS)
def test_every_link_to_a_section_finds_it(name: str) -> None:
    links = re.findall(r"\]\(([^)#:]*)#([^)]+)\)", prose(name))
    targets = [(((ROOT / name).parent / path).resolve() if path else ROOT / name, anchor) for path, anchor in links]
    assert [(path, anchor) for path, anchor in targets if anchor not in anchors(str(path.relative_to(ROOT)))] == []


@for_each("name", DOCUMENTS)
def test_every_path_of_the_repository_that_is_named_exists(name: str) -> None:
    named = set(re.findall(rf"`((?:{FOLDERS})/[^`\s]*)`", prose(name))) - TO_BE_MADE
    plain = {path for path in named if not re.search(r"[…<{*]", path)}
    assert sorted(path for path in plain if not (ROOT / path).exists()) == []
