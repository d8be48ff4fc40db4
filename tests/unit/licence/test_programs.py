"""The vendor's programs: their IDs, their names and the issuer of their verdicts."""

import pytest

from app.domain.programs import MAIN, check_program, issuer_of, named
from app.domain.texts import RefusedError
from tests.support.tables import for_each


def test_every_program_but_main_has_an_issuer_and_a_name_in_the_journal_of_its_own() -> None:
    assert [issuer_of("kadun", program) for program in (MAIN, "b")] == ["kadun", "kadun/b"]
    assert [named(program) for program in (MAIN, "b")] == [{}, {"program": "b"}]


@for_each("program", ["a", "2-go", "a" * 32])
def test_an_id_is_small_letters_digits_and_hyphens(program: str) -> None:
    check_program(program, "名称")


@for_each(
    ("program", "name", "field"),
    [
        *((program, "b", "program's ID") for program in ("", "A", "-a", "a b", "a\n", "a" * 33, "é", "a/b")),
        *(("b", name, "name") for name in ("", "a\nb")),
    ],
)
def test_any_other_id_and_a_name_that_is_no_line_of_text_are_refused(program: str, name: str, field: str) -> None:
    with pytest.raises(RefusedError, match=field):
        check_program(program, name)
