"""Mutants and the list of those that no test can kill."""

import re
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

EQUIVALENT = Path(__file__).with_name("equivalent.toml")
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')


class Mutant(NamedTuple):
    """A change of one function. mutmut's own names end in numbers, which shift when the function changes.

    `function` is the dotted name of the function or method; `change` is its changed lines, as `change_of` writes them.
    """

    function: str
    change: str

    def __str__(self) -> str:
        return f"{self.function}\n{self.change}"


def function_of(name: str) -> str:
    """Return the dotted name of the function in a mutmut name such as `app.x.xǁClassǁmethod__mutmut_3`."""
    module, _, function = name.rpartition("__mutmut_")[0].rpartition(".")
    _x, class_name, method = function.split("ǁ") if "ǁ" in function else ("", "", function.removeprefix("x_"))
    return ".".join(filter(None, (module, class_name, method)))


def change_of(diff: str) -> str:
    """Return the changed lines of a unified diff, without their indentation: `- before` and `+ after`."""
    lines = (line for line in diff.splitlines() if line.startswith(("-", "+")))
    return "\n".join(f"{line[0]} {line[1:].strip()}" for line in lines if not line.startswith(("---", "+++")))


def is_wording(mutant: Mutant) -> bool:
    """Return whether only a text that people read is changed: tests hold no message to its words.

    Those texts have white space or characters beyond ASCII; mutmut puts XX around a text, or changes its case.
    """
    lines = mutant.change.splitlines()
    if len(lines) != 2 or _TEXT.sub('""', lines[0])[1:] != _TEXT.sub('""', lines[1])[1:]:  # before, after
        return False
    pairs = zip(_TEXT.findall(lines[0]), _TEXT.findall(lines[1]), strict=True)
    return all(" " in before or not before.isascii() for before, after in pairs if before != after)


def read_equivalent(path: Path) -> dict[Mutant, str]:
    entries = [
        (Mutant(entry["function"], change.strip()), entry["reason"])
        for entry in tomllib.loads(path.read_text("utf-8"))["equivalent"]
        for change in entry["changes"]
    ]
    doubled = [mutant for mutant, times in Counter(mutant for mutant, _ in entries).items() if times > 1]
    if doubled or not all(reason.strip() for _, reason in entries):
        raise ValueError(f"{path}: each mutant once, with a reason; listed twice: {doubled}")
    return dict(entries)


def faults(survivors: Iterable[Mutant], equivalent: Iterable[Mutant]) -> list[str]:
    """Compare the mutants that survived with the list; return a line for each difference. Wording does not count."""
    survived, listed = {mutant for mutant in survivors if not is_wording(mutant)}, set(equivalent)
    return [f"survived: {mutant}" for mutant in sorted(survived - listed)] + [
        f"listed as equivalent, but killed or gone: {mutant}" for mutant in sorted(listed - survived)
    ]
