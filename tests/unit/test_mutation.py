"""The list of mutants that no test can kill, and its comparison with those that survived."""

from pathlib import Path

import pytest

from tests.mutation.mutants import EQUIVALENT, Mutant, change_of, faults, function_of, read_equivalent

DIFF = """--- app/domain/x.py
+++ app/domain/x.py
@@ -1,3 +1,3 @@
 def f(a: int) -> bool:
     # why
-    return a > 1
+    return a >= 1"""
MUTANT = Mutant("app.domain.x.f", "- return a > 1\n+ return a >= 1")
OTHER = MUTANT._replace(change="- return a > 1\n+ return a > 2")


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("app.domain.x.x_f__mutmut_12", "app.domain.x.f"),
        ("app.domain.x.x__private__mutmut_1", "app.domain.x._private"),
        ("kadun.keys.xǁTrustedKeysǁ__init____mutmut_3", "kadun.keys.TrustedKeys.__init__"),
    ],
)
def test_a_mutant_is_known_by_its_function(name: str, function: str) -> None:
    assert function_of(name) == function


def test_a_mutant_is_known_by_its_changed_lines() -> None:
    assert change_of(DIFF) == MUTANT.change


def test_an_unlisted_survivor_and_an_obsolete_entry_are_faults() -> None:
    assert faults([MUTANT], [MUTANT]) == []
    assert faults([MUTANT, OTHER], [MUTANT]) == [f"survived: {OTHER}"]
    assert faults([], [MUTANT]) == [f"listed as equivalent, but killed or gone: {MUTANT}"]


def listed(folder: Path, text: str) -> dict[Mutant, str]:
    path = folder / "equivalent.toml"
    path.write_text(text, "utf-8")
    return read_equivalent(path)


ENTRY = (
    f"[[equivalent]]\nfunction = '{MUTANT.function}'\nreason = 'no one asks'\nchanges = ['''\n{MUTANT.change}\n''']\n"
)


def test_the_list_gives_each_mutant_a_reason(tmp_path: Path) -> None:
    assert listed(tmp_path, ENTRY) == {MUTANT: "no one asks"}
    assert all(read_equivalent(EQUIVALENT).values())


@pytest.mark.parametrize("text", [ENTRY * 2, ENTRY.replace("no one asks", " ")])
def test_a_mutant_without_a_reason_or_listed_twice_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="each mutant once, with a reason"):
        listed(tmp_path, text)
