"""What is new about a log-in, browsers in words, and how recovery codes are read."""

from app.domain.cards import CROCKFORD
from app.domain.log_ins import (
    RECOVERY_LENGTH,
    browser_in_words,
    read_recovery_code,
    what_is_new,
    written_recovery_code,
)
from tests.support.tables import for_each

CODE = (CROCKFORD * 2)[:RECOVERY_LENGTH]


@for_each(
    ("address", "known_browser", "new"),
    [
        ("198.51.100.200", True, []),
        ("198.51.101.1", True, ["network"]),
        ("198.51.100.200", False, ["browser"]),
        ("2001:db8:1:ffff::1", True, []),
        ("2001:db8:2::1", True, ["network"]),
        ("203.0.113.1", False, ["browser", "network"]),
    ],
)
def test_a_log_in_is_new_by_its_browser_or_its_network(address: str, new: list[str], *, known_browser: bool) -> None:
    earlier = ["198.51.100.1", "2001:db8:1:2::3"]
    assert what_is_new(address, known_browser=known_browser, earlier=earlier) == new
    assert what_is_new(address, known_browser=False, earlier=[]) == [], "the first"


WINDOWS, ANDROID = "Mozilla/5.0 (Windows NT 10.0; Win64; x64)", "Mozilla/5.0 (Linux; Android 14; K)"
IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X)"
CHROME = "AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0"


@for_each(
    ("user_agent", "words"),
    [
        (f"{WINDOWS} Gecko/20100101 Firefox/132.0", "Firefox, Windows"),
        (f"{WINDOWS} {CHROME} Safari/537.36 Edg/130.0.0.0", "Edge, Windows"),
        (f"{ANDROID} {CHROME} Mobile Safari/537.36", "Chrome, Android"),
        (f"{ANDROID} {CHROME} Mobile Safari/537.36 MicroMessenger/8.0.50", "WeChat, Android"),
        (f"{IPHONE} AppleWebKit/605.1.15 Version/18.0 Mobile/15E148 Safari/604.1", "Safari, iPhone"),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 Safari/605.1.15", "Safari, macOS"),
        ("curl/8.0", "?, ?"),
        ("", "?, ?"),
        (" " * 1024 + "Firefox/1 Windows", "?, ?"),
        (" " * 1007 + "Firefox/1 Windows", "Firefox, Windows"),
    ],
)
def test_browsers_are_named_in_words(user_agent: str, words: str) -> None:
    assert browser_in_words(user_agent) == words


def test_a_recovery_code_is_read_as_people_type_it() -> None:
    written = written_recovery_code(CODE)
    assert written == "01234-56789-ABCDE-FGHJK"
    wide = "".join(chr(ord(c) + 0xFEE0) for c in written)
    alike = (written.replace("0", "O"), written.replace("1", "l"))
    for typed in (CODE, written, written.lower(), f" {written.replace('-', ' ')} ", wide, *alike):
        assert read_recovery_code(typed) == CODE, typed


@for_each("typed", ["", "123456", CODE[:-1], CODE + "0", CODE[:-1] + "U", CODE + " " * 64, "\0", "\ud800"])
def test_anything_else_is_no_recovery_code_nor_what_is_longer_than_64_characters(typed: str) -> None:
    assert read_recovery_code(typed) is None
    assert read_recovery_code(CODE + " " * (64 - len(CODE))) == CODE
    assert read_recovery_code(CODE + " " * (65 - len(CODE))) is None
