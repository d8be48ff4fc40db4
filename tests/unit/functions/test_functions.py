"""The vendor's functions: calls, the decorator, the library of modules with their digest, a call's folder, settings."""

import dataclasses
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.texts import RefusedError
from app.functions import core_function, modules
from app.functions import library as module
from app.functions.call import MAX_DEPTH, MAX_DETAIL, ResultError, encode, failed, invalid, run_function
from app.functions.decorator import Caller, CoreFunction, registered
from app.functions.library import Library, NotLoadedError
from app.functions.messages import CallRequest, Failed, Invalid, Limits, Outcome, Returned
from app.functions.modules import digest, packages_dir, signature
from app.functions.places import remove
from app.functions.processes import MAX_TASKS
from app.functions.settings import FunctionSettings
from app.runtime.environment import SettingsError
from tests.support.services.service import ROOT


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    count: int


class Order(msgspec.Struct):
    amount: Annotated[int, msgspec.Meta(ge=1)]
    items: list[Inner] = []
    prices: dict[str, float] = {}


class Checked(msgspec.Struct):
    code: str

    def __post_init__(self) -> None:
        if self.code == "context":
            try:
                {}["hunter2"]
            except KeyError:
                raise msgspec.ValidationError("hunter2")  # noqa: B904  # that it has a context is the point
        raise ValueError("not hunter2 - at `$.hunter2`")


class Holder(msgspec.Struct):
    inner: Checked


def run(function: Any, arguments: Any = None, schema: Any = None, caller: Caller | None = None) -> Outcome:
    request = CallRequest("name", arguments or {}, caller or Caller("card", "client", None))
    outcome = run_function(CoreFunction("name", function, schema), request, 1000, lambda: None)
    return msgspec.json.decode(outcome, type=Outcome)  # type: ignore[arg-type]


def test_a_json_value_is_encoded_unchanged_and_any_other_or_one_beyond_a_limit_refused() -> None:
    value = {"金额": [1.5, None, True, -(2**70), {"": []}], "\n": "\U0001f600"}
    assert json.loads(encode(value, 1000)) == value
    cycle: list[Any] = []
    cycle.append(cycle)
    for value, most, reason in (
        *(
            (value, 1000, r"结果不是 JSON.* / the result is not JSON")
            for value in (cycle, math.nan, math.inf, {1}, b"", object(), {"a": [{None: 1}]}, {"\ud800": 1})
        ),
        (10**5000, 10_000, "Exceeds the limit"),  # which Python refuses to write
        *((nested(depth), 10**6, "nested deeper than 64 levels") for depth in (MAX_DEPTH + 1, 10_000)),
        ("卡" * 10, 31, "the result has 32 bytes as JSON: at most 31 are allowed"),
    ):
        with pytest.raises(ResultError, match=reason):
            encode(value, most)
    assert encode(nested(MAX_DEPTH - 1), 1000)
    assert encode("卡" * 10, 32) == ('"' + "卡" * 10 + '"').encode()
    assert encode((1, 2), 100) == b"[1,2]", "a tuple is a list"


def test_arguments_are_converted_or_reported_with_their_field_and_the_callers_expiry_is_in_utc(
    capsys: pytest.CaptureFixture[str],
) -> None:
    ordered = {"amount": 1, "items": [{"count": 7}]}
    assert run(lambda arguments, _caller: arguments.items[0].count, ordered, Order) == Returned(7)
    assert run(lambda arguments, _caller: arguments, {"amount": "x"}) == Returned({"amount": "x"})
    for arguments, field, message in (
        ({}, "amount", "Object missing required field `amount`"),
        ({"amount": "1"}, "amount", "Expected `int`, got `str`"),
        ({"amount": 0}, "amount", "Expected `int` >= 1"),
        ({"amount": 1, "items": [{"count": 1, "x": 2}]}, "items[0].x", "Object contains unknown field `x`"),
        ({"amount": 1, "prices": {"a": "b"}}, "prices[...]", "Expected `float`, got `str`"),
    ):
        assert run(lambda _arguments, _caller: None, arguments, Order) == Invalid(f"arguments.{field}", message)
    for schema, wrong, field in (  # the client gets no message of the vendor's own check
        (Checked, {"code": "cause"}, "arguments"),
        (Checked, {"code": "context"}, "arguments"),
        (Holder, {"inner": {"code": "cause"}}, "arguments.inner"),
    ):
        assert run(lambda _arguments, _caller: None, wrong, schema) == Invalid(field, "")
        printed = capsys.readouterr().err
        assert ("in __post_init__\n" in printed, "hunter2" in printed) == (True, True), wrong
    of_all = "Expected `array`, got `object`"
    assert invalid(of_all) == Invalid("arguments", of_all)
    until = datetime(2027, 1, 1, 8, tzinfo=timezone(timedelta(hours=8)))
    seen: list[datetime | None] = []
    run(lambda _arguments, caller: seen.append(caller.expires_at), caller=Caller("card", "client", until))
    assert [(at, at and at.tzinfo) for at in seen] == [(datetime(2027, 1, 1, tzinfo=UTC), UTC)]


class OddError(Exception):
    """Cannot be formatted."""

    @property
    def __cause__(self) -> None:
        raise RuntimeError


def raising(error: BaseException) -> Callable[[object, object], None]:
    def raises(arguments: object, caller: object) -> None:
        raise error

    return raises


def failure(function: Any) -> str:
    outcome = run(function)
    assert isinstance(outcome, Failed)
    return outcome.detail


def test_any_exception_is_a_failure_whose_traceback_begins_in_the_function() -> None:
    detail = failure(raising(ValueError("hunter2")))
    assert (detail.startswith("Traceback"), detail.endswith("ValueError: hunter2\n")) == (True, True)
    assert ("app/functions/call.py" in detail, "in raises" in detail) == (False, True)
    for error in (SystemExit(3), KeyboardInterrupt(), GeneratorExit(), MemoryError(), RecursionError()):
        assert type(error).__name__ in failure(raising(error))
    assert failure(raising(OddError())) == "OddError, which cannot be shown"
    assert "RecursionError" in failure(endless), "cut to its end"
    assert failure(lambda _arguments, _caller: {1, 2}).startswith("结果不是 JSON"), "without a traceback"


@given(st.text(alphabet=st.characters(codec=None, exclude_categories=())))
def test_a_detail_is_valid_unicode_without_nul_and_cut_to_its_end(text: str) -> None:
    detail = failed(text).detail
    assert "\0" not in detail
    assert detail.encode().decode() == detail
    detail = failed("a" * 5_000 + "end").detail
    assert (len(detail), detail[:2], detail[-4:]) == (MAX_DETAIL, "…a", "aend")
    assert failed("a" * MAX_DETAIL).detail == "a" * MAX_DETAIL


if TYPE_CHECKING:
    from nowhere import Unknown


def test_a_folder_is_loaded_when_it_has_changed_and_a_failure_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library, loaded, failures = Library(tmp_path, Limits(5, 1, 1), None), [], []

    def load(*_: object) -> SimpleNamespace:
        loaded.append(1)
        if failures:
            raise ValueError("no way")
        return SimpleNamespace(functions={}, broken=[], has_ended=False, close=lambda: None)

    monkeypatch.setattr(module, "load", load)
    with pytest.raises(NotLoadedError, match="not loaded yet"):
        library.listing()
    for _ in range(3):
        library.look()
    assert len(loaded) == library.listing().generation == 1
    (tmp_path / "shop.py").write_text("PRICE = 1")
    library.look()
    (tmp_path / "shop.py").write_text("PRICE = 1.5")
    library.look()
    assert len(loaded) == 1, "it is being changed"
    library.look()
    assert len(loaded) == 2
    failures.append(1)
    for times in (3, 4):
        with pytest.raises(NotLoadedError, match="cannot be loaded: ValueError: no way"):
            library.reload()
        library.look()
        assert len(loaded) == times, "it is tried again after a pause"
    assert library.listing().generation == 2, "what was loaded before is served"
    monkeypatch.setattr(module, "_RETRY_SECONDS", 0)
    failures.clear()
    library.look()
    assert library.listing().generation == 3


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


def test_the_annotation_of_the_first_parameter_also_as_a_string_is_the_type_of_the_arguments() -> None:
    def annotated(kind: object) -> CoreFunction:
        def function(arguments: kind, caller: Caller) -> None: ...  # type: ignore[valid-type]

        return offered(function)

    for kind in (Order, AmountDict, AmountData, dict[str, int]):
        assert annotated(kind).schema == kind
        assert annotated(kind).json_schema()
    for kind in (dict, Any, object, None, dict[str, Any]):
        assert annotated(kind).json_schema() is None, "no check"
    assert offered(lambda _arguments, _caller: None).schema is None

    def with_schema(arguments: dict[str, int], caller: Caller) -> None: ...

    def in_strings(arguments: "Order", caller: "Unknown") -> "Unknown": ...

    with_schema.__module__ = "package.inner"
    explicit = offered(with_schema, schema=Order)
    assert (explicit.schema, explicit.module) == (Order, "package"), "a schema takes precedence"
    assert offered(in_strings).schema is Order, "those of other parameters may be undefined"


def test_an_invalid_name_and_what_is_no_function_of_arguments_and_caller_are_refused() -> None:
    length = "1 to 64 characters, without control"
    for name in ("", "x" * 65, None, "mm\ud800", "a\0", "\x1b[31m", "打开程序"):
        with pytest.raises(RefusedError, match="opens the program" if name == "打开程序" else length) as refusal:
            core_function(name)  # type: ignore[arg-type]
        str(refusal.value).encode()
    core_function("功" * 64)(lambda _arguments, _caller: None)  # as long as requests allow
    assert registered.pop()
    for what, schema, reason in (
        *(
            (function, None, r"must take \(arguments, caller\)")
            for function in (lambda: None, lambda _a: None, lambda _a, _b, _c: None, lambda _a, *, _caller: None)
        ),
        *((what, None, "plain function") for what in (_coroutine, Order, "text")),
        (lambda _arguments, _caller: None, Callable[[], None], "cannot be checked"),
    ):
        with pytest.raises(RefusedError, match=reason):
            core_function("name", schema=schema)(what)
        assert registered == []


def test_a_calls_folder_is_removed_with_its_contents_but_not_what_links_point_to(tmp_path: Path) -> None:
    own = Path(tempfile.mkdtemp(prefix="kadun-call-"))
    (tmp_path / "kept").touch()
    tmp_path.chmod(0o750)
    (own / "link").symlink_to(tmp_path)
    (own / "locked").mkdir()
    (own / "locked" / "file").touch()
    at = os.open(own, os.O_RDONLY)
    for _ in range(2_000):  # deeper than Python calls functions
        os.mkdir("x", dir_fd=at)
        deeper = os.open("x", os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = deeper
    os.close(at)
    (own / "locked").chmod(0)
    own.chmod(0o500)
    remove(own)
    assert not own.exists()
    assert (tmp_path / "kept").exists()
    assert tmp_path.stat().st_mode & 0o777 == 0o750


def test_an_import_that_hangs_and_blocks_signals_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "IMPORT_SECONDS", 1)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "kadun_hangs.py").write_text(
        "import signal, time\nsignal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())\ntime.sleep(600)\n"
    )
    error = modules.functions_or_error("kadun_hangs", tmp_path)
    assert isinstance(error, str)
    assert error.startswith("Timeout (0:00:01)!")
    assert 'kadun_hangs.py", line 3' in error


def test_a_change_below_the_folder_changes_its_signature_or_digest(tmp_path: Path) -> None:
    filled = tmp_path / "functions"
    (filled / "tables").mkdir(parents=True)
    (filled / "shop.py").write_text("PRICE = 1\n")
    (filled / "tables/rates.csv").write_text("EUR,7.8\n")
    other = shutil.copytree(filled, tmp_path / "other")
    changes: list[tuple[Callable[[], object], bool, bool]] = [
        (lambda: os.utime(filled / "shop.py", (0, 0)), True, False),
        (lambda: (filled / "shop.py").write_text("PRICE = 2"), True, True),
        (lambda: (filled / "shop.py").chmod(0o600), True, False),
        (lambda: (filled / "shop.py").rename(filled / "store.py"), True, True),
        ((filled / "empty.py").touch, True, True),
        (lambda: (filled / "tables/rates.csv").write_text("EUR,7.9"), True, True),
        (lambda: (filled / "tables/link").symlink_to("nowhere"), True, True),
        (lambda: packages_dir(filled).mkdir(parents=True), True, False),
        (lambda: (filled.parent / "exported.py").hardlink_to(filled / "store.py"), False, False),  # as a backup may
        (lambda: (filled / "again").symlink_to(filled), False, False),
        ((filled / "__pycache__").mkdir, False, False),
        *(((filled / name).touch, False, False) for name in (".shop.py.swp", "shop.py~", "#shop.py#")),
    ]
    for number, (change, is_seen, is_other) in enumerate(changes):
        before = (signature(filled), digest(filled))
        change()
        assert (signature(filled) != before[0], digest(filled) != before[1]) == (is_seen, is_other), number
        assert signature(filled) == signature(filled), number
        if number == 0:
            assert digest(filled) == digest(other), "the same modules have the same digest"
    os.mkfifo(filled / "pipe.py")  # which is not waited for
    assert digest(filled) != before[1]


LEAST = {"KADUN_FUNCTIONS_DIR": "/data/functions", "KADUN_FUNCTIONS_SOCKET": "/run/functions.sock"}


def test_a_value_out_of_bounds_and_the_services_own_user_id_for_calls_are_refused() -> None:
    for name, *values in (
        ("KADUN_FUNCTION_SECONDS", "0", "301"),
        ("KADUN_FUNCTION_MEMORY_MB", "8"),
        ("KADUN_FUNCTION_CONCURRENCY", "65"),
        ("KADUN_FUNCTION_RESULT_KB", "513"),
        ("KADUN_FUNCTION_CALLS_PER_CARD", "0"),
        ("KADUN_FUNCTION_CALLS_PER_ADDRESS", "65"),
        ("KADUN_FUNCTION_FIRST_UID", "999"),
        ("KADUN_FUNCTIONS_USER", "kadun", "10001"),
        ("KADUN_LOG_LEVEL", "loud"),
    ):
        for value in values:
            with pytest.raises(SettingsError, match=name):
                FunctionSettings.from_env({**LEAST, name: value})
    env = {**LEAST, "KADUN_FUNCTION_FIRST_UID": "20001", "KADUN_FUNCTIONS_USER": "10001:101"}
    settings = FunctionSettings.from_env(env)
    assert (settings.first_uid, settings.user) == (20_001, (10_001, 101))
    for user in ("20001:101", "10001:20129"):
        with pytest.raises(SettingsError, match="must not be among the 129 IDs from KADUN_FUNCTION_FIRST_UID, 20001"):
            FunctionSettings.from_env({**env, "KADUN_FUNCTIONS_USER": user})
    with pytest.raises(SettingsError, match="KADUN_FUNCTIONS_USER is set without KADUN_FUNCTION_FIRST_UID"):
        FunctionSettings.from_env({**LEAST, "KADUN_FUNCTIONS_USER": "10001:101"})
    # The container allows as many processes as calls may start, and has the default user IDs.
    compose = (ROOT / "docker-compose.yml").read_text().partition("\n  functions:\n")[2]
    limit = re.search(r"pids_limit: (\d+)", compose)
    assert limit
    calls = FunctionSettings.from_env(LEAST).calls.places * (1 + MAX_TASKS)  # and their supervisors
    assert calls + 64 <= int(limit[1])  # the service itself, and its threads
    assert "${KADUN_FUNCTION_FIRST_UID:-20001}" in (ROOT / "docker-compose.yml").read_text()


def nested(depth: int) -> list[Any]:
    made: list[Any] = []
    for _ in range(depth - 1):
        made = [made]
    return made


def endless(arguments: object, caller: object) -> object:
    return endless(arguments, caller)


async def _coroutine(arguments: object, caller: Caller) -> None: ...
