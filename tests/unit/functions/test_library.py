"""The decorator of a core function, and when the library loads the vendor's modules."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import msgspec
import pytest

from app.domain.texts import RefusedError
from app.functions import Caller, core_function
from app.functions import library as module
from app.functions.decorator import CoreFunction, registered
from app.functions.library import Library, NotLoadedError
from app.functions.messages import Limits
from tests.support.tables import for_each

if TYPE_CHECKING:
    from nowhere import Unknown


class Loads:
    """Takes the place of `load`."""

    def __init__(self) -> None:
        self.times = 0
        self.fails = False

    def __call__(self, *_: object) -> SimpleNamespace:
        self.times += 1
        if self.fails:
            raise ValueError("no way")
        self.made = SimpleNamespace(functions={}, broken=[], has_ended=False, close=lambda: None)
        return self.made


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Loads:
    made = Loads()
    monkeypatch.setattr(module, "load", made)
    return made


@pytest.fixture
def library(tmp_path: Path) -> Library:
    return Library(tmp_path, Limits(5, 1, 1), None)  # type: ignore[arg-type]


def test_a_folder_is_loaded_when_it_has_changed_and_stays_so_until_the_next_look(
    library: Library, loads: Loads, tmp_path: Path
) -> None:
    with pytest.raises(NotLoadedError, match="not loaded yet"):
        library.listing()
    for _ in range(3):
        library.look()
    assert loads.times == library.listing().generation == 1
    (tmp_path / "shop.py").write_text("PRICE = 1")
    assert library.listing().loading
    library.look()
    (tmp_path / "shop.py").write_text("PRICE = 1.5")
    library.look()
    assert loads.times == 1, "it is being changed"
    library.look()
    assert (loads.times, library.listing().loading) == (2, False)


def test_a_failure_is_told_to_the_caller_of_reload_and_tried_again_after_a_pause(
    library: Library, loads: Loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.look()
    loads.fails = True
    for times in (2, 3):
        with pytest.raises(NotLoadedError, match="cannot be loaded: ValueError: no way"):
            library.reload()
        library.look()
        assert loads.times == times
    assert library.listing().generation == 1, "what was loaded before is served"
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0)
    loads.fails = False
    library.look()
    assert library.listing().generation == 2


class Amount(msgspec.Struct):
    amount: Annotated[int, msgspec.Meta(ge=1)]


class AmountDict(TypedDict):
    amount: int


@dataclasses.dataclass
class AmountData:
    amount: int


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    registered.clear()
    yield
    registered.clear()


def offered(function: Callable[..., object], **how: Any) -> CoreFunction:
    assert core_function("name", **how)(function) is function
    return registered[-1]


@for_each("kind", [Amount, AmountDict, AmountData, dict[str, int]])
def test_the_annotation_of_the_first_parameter_is_the_type_of_the_arguments(kind: type) -> None:
    def function(arguments: kind, caller: Caller) -> None: ...  # type: ignore[valid-type]

    assert offered(function).schema == kind
    assert offered(function).json_schema()


@for_each("kind", [dict, Any, object, None, dict[str, Any]])
def test_an_annotation_for_any_object_and_none_mean_no_check(kind: object) -> None:
    def function(arguments: kind, caller: Caller) -> None: ...  # type: ignore[valid-type]

    assert offered(function).json_schema() is None
    assert offered(lambda _arguments, _caller: None).schema is None


def test_a_schema_takes_precedence_annotations_may_be_strings_and_a_function_knows_its_module() -> None:
    def annotated(arguments: dict[str, int], caller: Caller) -> None: ...

    def in_strings(arguments: "Amount", caller: "Unknown") -> "Unknown": ...

    annotated.__module__ = "package.inner"
    explicit = offered(annotated, schema=Amount)
    assert (explicit.schema, explicit.module) == (Amount, "package")
    assert offered(in_strings).schema is Amount, "those of other parameters may be undefined"


@for_each(
    "names, reason",
    [
        (["", "x" * 65, None, "mm\ud800", "a\0", "\x1b[31m"], "1 to 64 characters, without control"),
        (["打开程序"], "opens the program"),
    ],
)
def test_an_invalid_name_is_refused(names: list[Any], reason: str) -> None:
    for name in names:
        with pytest.raises(RefusedError, match=reason) as refusal:
            core_function(name)
        str(refusal.value).encode()
    core_function("功" * 64)(lambda _arguments, _caller: None)  # as long as requests allow
    assert registered.pop()


async def _coroutine(arguments: object, caller: Caller) -> None: ...


@for_each(
    "what, schema, reason",
    [
        *(
            (function, None, r"must take \(arguments, caller\)")
            for function in (lambda: None, lambda _a: None, lambda _a, _b, _c: None, lambda _a, *, _caller: None)
        ),
        *((what, None, "plain function") for what in (_coroutine, Amount, "text")),
        (lambda _arguments, _caller: None, Callable[[], None], "cannot be checked"),
    ],
)
def test_what_is_no_function_of_arguments_and_caller_is_refused(what: Any, schema: Any, reason: str) -> None:
    with pytest.raises(RefusedError, match=reason):
        core_function("name", schema=schema)(what)
    assert registered == []
