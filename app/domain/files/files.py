"""Licensed files: their content, and their names, which must be valid on every system that a customer may have."""

import re
import unicodedata
from typing import NamedTuple

from app.domain.texts import RefusedError

MAX_NAME = 100
PUNCTUATION = " ._-+()[]@,=~"

# Invisible letters and marks: with them, two files could have names that look alike.
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]")
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9]) *(\..*)?", re.IGNORECASE)


class Blob(NamedTuple):
    """The digest (`sha256`, lower-case hex) and size (bytes) of a file's content."""

    sha256: str
    size: int


def check_name(name: str) -> None:
    """Refuse a name that is unsafe on some system."""
    if not 1 <= len(name) <= MAX_NAME:
        raise _refused(name, f"必须是 1 到 {MAX_NAME} 个字符", f"must be 1 to {MAX_NAME} characters")
    for character in name:
        if not _is_allowed(character):
            shown = f"U+{ord(character):04X}"
            raise _refused(
                name,
                f"不能含有字符 {shown}：只能用文字、数字、空格和 {PUNCTUATION.strip()}",
                f"must not hold {shown}: letters, digits, spaces and {PUNCTUATION.strip()} are allowed",
            )
    if unicodedata.normalize("NFKC", name) != name:
        right = unicodedata.normalize("NFKC", name)
        raise _refused(
            name, f"含有易混淆的字符，可改为 {right}", f"holds look-alike characters: {right} would be right"
        )
    if name[0] in ".-~ " or unicodedata.category(name[0])[0] == "M":
        raise _refused(name, "必须以文字或数字等开头", "must not begin with a dot, a dash, a tilde, a space or a mark")
    if name[-1] in ". ":
        raise _refused(name, "不能以点或空格结尾", "must not end with a dot or a space")
    if _DEVICE.fullmatch(name):
        raise _refused(name, "是 Windows 的设备名", "is the name of a device on Windows")


def _is_allowed(character: str) -> bool:
    is_text = unicodedata.category(character)[0] in "LMN" and not _INVISIBLE.match(character)
    return is_text or character in PUNCTUATION


def _refused(name: str, zh: str, en: str) -> RefusedError:
    shown = name if name.isprintable() else ascii(name)[1:-1]
    return RefusedError(f"文件名 {shown} {zh}", f"the file name {shown} {en}")
