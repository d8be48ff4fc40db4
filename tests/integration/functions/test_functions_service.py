"""The vendor's functions: their modules loaded and reloaded, packages installed by pip, and `cardctl function …`."""
# Owns functions-reload.

import fcntl
import json
import os
import subprocess
import sysconfig
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.domain.texts import RefusedError
from app.functions.decorator import Caller
from app.functions.messages import NotFound, Outcome, Returned
from app.functions.modules import packages_dir
from app.runtime.clock import utc_now
from app.services.cards.requirements import install
from app.storage.database import Database
from app.storage.models import Card, Client, Event, Usage
from tests.support.licence.bound_cards import CardState, write
from tests.support.services.functions_service import FUNCTION_SECONDS, WELL, FunctionsService, write_wheel
from tests.support.services.service import Service, wait_for

TWICE = "from app.functions import core_function\n@core_function('twice')\ndef f(a, c): ...\n"
GOOD = """
from app.functions import core_function
import msgspec, typing
def good(arguments, caller): ...
core_function(__name__)(good)
"""


@pytest.fixture
def service(tmp_path: Path) -> FunctionsService:
    return FunctionsService(tmp_path, KADUN_FUNCTION_SECONDS="60").with_module("well", WELL)


def test_broken_modules_are_listed_with_their_errors_and_others_work(service: FunctionsService) -> None:
    said = {
        "raises": "ZeroDivisionError",
        "syntax": "SyntaxError",
        "exits": "its process ended with exit status 3",
        "leaves": "SystemExit: no",
        "crashes": "its process was ended by SIGSEGV",
        "json": "the name of another module already",
        "two words": "cannot name a module",
        "needs": "No module named 'no_such_package'",
        "one": "one and other",  # they have a function of the same name
        "other": "one and other",
    } | dict.fromkeys(("surrogate", "title", "number", "m\\udcff"), "")  # what cannot be listed as JSON
    for name, text in {
        "raises": "import well\nresult = 1 / 0",
        "syntax": "def f(:",
        "exits": "import os; os._exit(3)",
        "leaves": "import sys; sys.exit('no')",
        "crashes": "import ctypes; ctypes.string_at(0)",
        "json": "",
        "two words": "",
        "needs": "import no_such_package",
        "one": TWICE,
        "other": TWICE + "@core_function('once')\ndef g(a, c): return 1\n",
        "surrogate": GOOD + "core_function('c\\ud800')(good)",
        "title": GOOD + "schema = typing.Annotated[dict, msgspec.Meta(title='\\ud800')]\n"
        "core_function('x', schema=schema)(good)",
        "number": GOOD + "good.__module__ = 5",
        os.fsdecode(b"m\xff"): "",
        "described": GOOD + "good.__doc__ = 'about \\ud800'",
    }.items():
        (service.modules / f"{name}.py").write_text(text)
    service.with_module("_helper", "VALUE = 42")
    (service.modules / "package").mkdir()
    (service.modules / "package" / "__init__.py").write_text(
        "from _helper import VALUE\nfrom app.functions import core_function\n"
        "@core_function('packaged')\ndef f(arguments, caller): return VALUE\n"
    )
    with service:
        listing = service.client.list()
        errors = {broken.module: broken.error for broken in listing.broken}
        assert errors.keys() == said.keys()
        assert not [(name, errors[name]) for name in said if said[name] not in errors[name]]
        assert all(f"{name}.py" in errors[name] for name in ("raises", "crashes"))
        assert errors["other"] == errors["one"]
        assert [function.name for function in listing.functions] == ["described", "once", "packaged", "well"]
        assert service.call("twice") == NotFound()
        assert service.call("packaged") == Returned(42)
        assert service.call("well") == Returned({})
        wait_for(service.is_idle)


def test_a_missing_folder_is_reported_and_what_appears_and_changes_in_it_is_loaded(service: FunctionsService) -> None:
    (service.modules / "well.py").unlink()
    service.modules.rmdir()
    with service:
        (broken,) = service.client.list().broken
        assert "cannot be read" in broken.error
        service.modules.mkdir()
        service.with_module("well", WELL)
        wait_for(lambda: service.call("well") == Returned({}))
        service.with_module("well", WELL.replace("return arguments", "return 'changed'"))
        wait_for(lambda: service.call("well") == Returned("changed"))
        wait_for(service.is_idle)


def test_reloading_drops_no_call(service: FunctionsService) -> None:
    slow = f"import time\n{WELL}".replace('"well"', '"slow"').replace("return", "time.sleep(0.3)\n    return")
    service.with_module("slow", slow)
    stop = threading.Event()
    outcomes: list[Outcome] = []

    def keep_calling(card: str, function: str) -> None:
        while not stop.is_set():
            outcomes.append(service.client.call(function, {}, Caller(card, "client", None)).outcome)

    with service, ThreadPoolExecutor(3) as pool:
        callers = [pool.submit(keep_calling, *what) for what in (("1", "slow"), ("2", "slow"), ("3", "well"))]
        before = service.client.list().generation
        generations = [service.client.reload().generation for _ in range(5)]
        stop.set()
        for caller in callers:
            caller.result()
        assert generations == list(range(before + 1, before + 6))
        assert len(outcomes) > 5
        assert {str(outcome) for outcome in outcomes} == {str(Returned({}))}
        wait_for(service.is_idle)


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    folder = tmp_path / "functions"
    folder.mkdir()
    return folder


def require(functions: Path, text: str) -> None:
    (functions / "requirements.txt").write_text(text)


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("*.py")}


def test_the_installed_packages_are_those_of_the_file_and_a_failure_leaves_the_old_ones(functions: Path) -> None:
    (functions / "json.py").write_text("raise SystemExit('the vendor has a json.py, and pip its own')")
    write_wheel(functions, "1.0")
    write_wheel(functions, "2.0", name="other")
    require(functions, "./tiny-1.0-py3-none-any.whl\n")
    target = install(functions)
    assert target == functions.parent / "functions-packages" / sysconfig.get_config_var("SOABI")
    assert (target / "tiny.py").read_text() == 'VERSION = "1.0"\n'
    assert (target / "tiny.py").stat().st_mode & 0o444 == 0o444
    require(functions, "./other-2.0-py3-none-any.whl\n./missing-1.0-py3-none-any.whl\n")
    with pytest.raises(RefusedError, match="nothing was changed"):
        install(functions)
    assert names(target) == {"tiny.py"}
    require(functions, "./other-2.0-py3-none-any.whl\n")
    assert install(functions) == target
    assert names(target) == {"other.py"}
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    require(functions, "# nothing any more\n")
    assert list(install(functions).iterdir()) == []


def test_source_distributions_which_run_their_code_are_refused(
    functions: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    setup = functions / "setup.py"
    setup.write_text("raise SystemExit('this ran')")
    with tarfile.open(functions / "evil-1.0.tar.gz", "w:gz") as archive:
        archive.add(setup, "evil-1.0/setup.py")
    require(functions, "--no-index\n--find-links .\nevil\n")
    with pytest.raises(RefusedError, match="pip failed"):
        install(functions)
    assert "No matching distribution found for evil" in capfd.readouterr().err


def test_pip_is_given_no_setting_and_none_of_our_modules(functions: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, str] = {}

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[bytes]:
        given.update(options["env"])
        return subprocess.CompletedProcess(command, 0)

    for name in ("KERNAL_DATA_KEY", "DATABASE_URL", "KADUN_SEALING_KEY", "KADUN_FILES_BUCKET_SECRET", "PYTHONPATH"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setattr(subprocess, "run", run)
    require(functions, "")
    install(functions)
    assert ("PATH" in given, "secret" in given.values()) == (True, False)


def test_two_installations_cannot_run_at_once(functions: Path) -> None:
    require(functions, "")
    folder = packages_dir(functions).parent
    folder.mkdir()
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with pytest.raises(RefusedError, match="another installation"):
            install(functions)
    finally:
        os.close(handle)


SETTINGS = {"KADUN_FUNCTION_SECONDS": str(FUNCTION_SECONDS)}


@pytest.fixture(scope="module")
def _shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FunctionsService]:
    with FunctionsService(tmp_path_factory.mktemp("shop"), **SETTINGS).with_shop() as running:
        yield running


@pytest.fixture
def shop(_shop: FunctionsService, database_url: str) -> Service:
    """An installation of which only the functions service runs."""
    return Service(_shop.modules.parent, database_url, **SETTINGS)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[FunctionsService]:
    """A functions service for a test that changes it."""
    with FunctionsService(tmp_path) as running:
        yield running


@pytest.fixture
def offline(running: FunctionsService, database_url: str) -> Service:
    """An installation of which only the functions service runs."""
    return Service(running.modules.parent, database_url, KADUN_FUNCTIONS_DIR=str(running.modules))


def test_functions_are_listed_with_their_arguments(shop: Service) -> None:
    listed = json.loads(shop.cardctl("function", "list", "--format", "json").stdout)
    by_name = {function["name"]: function for function in listed["functions"]}
    assert by_name["求和"]["module"] == by_name["下单"]["module"] == "shop"
    assert (listed["broken"], listed["loading"]) == ([], False)
    assert listed["folder"] == "data/functions"  # on the host, as with containers
    (line,) = [line for line in shop.cardctl("function", "list").stdout.splitlines() if "下单" in line]
    assert "amount: integer, [to: string], [note: string | null]" in line
    assert "Say that it has begun" in shop.cardctl("function", "list").stdout


def test_a_broken_module_is_listed_with_its_error(offline: Service, running: FunctionsService) -> None:
    (running.with_shop().modules / "tax.py").write_text("import no_such_package\n")
    told = offline.cardctl("function", "reload", check=False)
    assert told.returncode == 1
    assert "\n无法加载 / broken: tax: ModuleNotFoundError: No module named 'no_such_package'\n" in told.stdout
    assert "求和" in told.stdout
    assert told.stderr.strip().endswith(": tax")
    assert told.stderr.count("\n") == 1
    in_full = offline.cardctl("function", "list", "--format", "json", check=False)
    assert in_full.returncode == 1
    (broken,) = json.loads(in_full.stdout)["broken"]
    assert "Traceback" in broken["error"]


def test_the_result_of_a_function_is_printed(shop: Service, tmp_path: Path) -> None:
    ran = shop.cardctl("function", "run", "求和", "--arguments", '{"a": 1, "b": 2}')
    assert (json.loads(ran.stdout), ran.stderr) == ({"sum": 3}, "")
    text, source = '{"a": "卡", "b": "盾"}', tmp_path / "arguments.json"
    source.write_text(text, "utf-8")
    for name in (str(source), "-"):
        ran = shop.cardctl("function", "run", "求和", "--arguments-file", name, text=text)
        assert json.loads(ran.stdout) == {"sum": "卡盾"}, name


def test_invalid_arguments_and_unknown_cards_are_refused(shop: Service) -> None:
    for arguments in ["", "x", "[]", "null", '{"a": NaN}', '{"a": "\\ud800"}', "[" * 100_000]:
        told = shop.cardctl("function", "run", "求和", "--arguments", arguments, check=False)
        assert (told.returncode, told.stdout) == (2, ""), arguments
    twice = ["--arguments", "{}", "--arguments-file", "-"]
    assert shop.cardctl("function", "run", "求和", *twice, check=False).returncode == 2
    assert "there is no card" in shop.refusal("function", "run", "来者", "--card", "Z" * 32)


def test_a_function_can_be_run_as_a_given_card(shop: Service, database: Database) -> None:
    (card_id,) = write([CardState(hardware="machine-1")], utc_now())
    ran = json.loads(shop.cardctl("function", "run", "来者", "--card", card_id.lower()).stdout)
    assert ran == [card_id, Client.get().id, Card.get().expires_at.isoformat()]
    assert Usage.select().count() == 0  # not counted as usage
    nobody = json.loads(shop.cardctl("function", "run", "来者").stdout)
    assert nobody == ["0" * 32, "0" * 32, None]


def test_a_failure_is_explained_and_its_reason_is_the_last_line(shop: Service, database: Database) -> None:
    for name, arguments, said, last in [
        ("没有的", "{}", "", "There is no function 没有的"),
        ("唠叨", '{"for ever": true}', "half a thing", f"longer than {FUNCTION_SECONDS} s"),
        ("下单", '{"amount": "many"}', "", "arguments.amount: "),
        ("怪话", "{}", "\\x1b[31mred", "The function failed"),
    ]:
        told = shop.cardctl("function", "run", name, "--arguments", arguments, check=False)
        assert (told.returncode, told.stdout) == (1, ""), name
        assert said in told.stderr, name
        assert told.stderr.count("half a thing") <= 1, "what was printed before the time-out is shown once"
        assert last in told.stderr.splitlines()[-1], name
        assert "\x1b" not in told.stderr, name
    assert Event.select().where(Event.kind == "rejected").count() == 0


def test_functions_that_are_not_loaded_yet_are_reported_in_one_line(
    offline: Service, running: FunctionsService
) -> None:
    running.stop()
    (running.modules / "slow.py").write_text("import time\ntime.sleep(1000)\n")
    running.spawn()
    expected = f"cardctl: 功能尚在加载 / the functions are not loaded yet ({running.modules})\n"
    wait_for(lambda: "no answer" not in offline.cardctl("function", "list", check=False).stderr, 30)
    told = offline.cardctl("function", "list", check=False)
    assert (told.returncode, told.stdout, told.stderr) == (1, "", expected)


def test_requirements_are_installed_and_loaded_without_secrets(offline: Service, running: FunctionsService) -> None:
    running.with_module("pay", f"import tiny\n{WELL}".replace("return arguments", "return tiny.VERSION"))
    offline.cardctl("function", "reload", check=False)
    write_wheel(running.modules, "1.0")
    require(running.modules, "./tiny-1.0-py3-none-any.whl\n")
    settings, secret = offline.environment, {"DATABASE_URL", "KERNAL_DATA_KEY"}
    offline.environment = {name: value for name, value in settings.items() if name not in secret}
    installed = offline.run_cardctl("function", "install")
    offline.environment = settings
    assert ("Installed into" in installed.stderr, "well" in installed.stdout) == (True, True)
    assert json.loads(offline.cardctl("function", "run", "well").stdout) == "1.0"


def test_a_missing_service_folder_or_requirements_is_one_line(offline: Service, running: FunctionsService) -> None:
    running.stop()
    for command in (("list",), ("reload",), ("run", "求和")):
        assert "The functions service is unavailable" in offline.refusal("function", *command)
    assert "requirements.txt: nothing to install" in offline.refusal("function", "install")
    del offline.environment["KADUN_FUNCTIONS_DIR"]
    assert offline.refusal("function", "install") == "cardctl: KADUN_FUNCTIONS_DIR is not set\n"
