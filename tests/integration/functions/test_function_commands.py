"""`cardctl function …` against a running functions service; the app itself need not run."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.runtime.clock import utc_now
from app.storage.database import Database
from app.storage.models import Card, Client, Event, Usage
from tests.support.functions.executing import FUNCTION_SECONDS
from tests.support.licence.bound_cards import CardState, write
from tests.support.services.functions_service import FunctionsService
from tests.support.services.service import Service, wait_for
from tests.support.wheels import write_wheel

SECRETS = ("DATABASE_URL", "KERNAL_DATA_KEY")
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
def functions(tmp_path: Path) -> Iterator[FunctionsService]:
    """A functions service for a test that changes it."""
    with FunctionsService(tmp_path) as running:
        yield running


@pytest.fixture
def offline(functions: FunctionsService, database_url: str) -> Service:
    """An installation of which only `functions` runs."""
    folder = functions.modules
    return Service(folder.parent, database_url, KADUN_FUNCTIONS_DIR=str(folder))


def test_functions_are_listed_with_their_arguments(shop: Service) -> None:
    listed = json.loads(shop.cardctl("function", "list", "--format", "json").stdout)
    by_name = {function["name"]: function for function in listed["functions"]}
    assert by_name["求和"]["module"] == by_name["下单"]["module"] == "shop"
    assert (listed["broken"], listed["loading"]) == ([], False)
    assert listed["folder"] == "data/functions"  # on the host, as with containers
    (line,) = [line for line in shop.cardctl("function", "list").stdout.splitlines() if "下单" in line]
    assert "amount: integer, [to: string], [note: string | null]" in line
    assert "Say that it has begun" in shop.cardctl("function", "list").stdout


def test_a_broken_module_is_listed_with_its_error_and_exit_status_1(
    offline: Service, functions: FunctionsService
) -> None:
    (functions.with_shop().modules / "tax.py").write_text("import no_such_package\n")
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
    source = tmp_path / "arguments.json"
    source.write_text('{"a": "卡", "b": "盾"}', "utf-8")
    for ran in (
        shop.cardctl("function", "run", "求和", "--arguments-file", str(source)),
        shop.cardctl("function", "run", "求和", "--arguments-file", "-", text=source.read_text("utf-8")),
    ):
        assert json.loads(ran.stdout) == {"sum": "卡盾"}


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
        assert (told.returncode, told.stdout) == (1, ""), (name, arguments, said, last)
        assert said in told.stderr
        assert told.stderr.count("half a thing") <= 1, "what was printed before the time-out is shown once"
        assert last in told.stderr.splitlines()[-1]
        assert "\x1b" not in told.stderr, (name, arguments, said, last)
        assert Event.select().where(Event.kind == "rejected").count() == 0, (name, arguments, said, last)


def test_functions_that_are_not_loaded_yet_are_reported_in_one_line(
    offline: Service, functions: FunctionsService
) -> None:
    functions.stop()
    (functions.modules / "slow.py").write_text("import time\ntime.sleep(1000)\n")
    functions.spawn()
    told = wait_for(lambda: _unless_away(offline.cardctl("function", "list", check=False)), 30)
    assert (told.returncode, told.stdout) == (1, "")
    assert told.stderr == f"cardctl: 功能尚在加载 / the functions are not loaded yet ({functions.modules})\n"


def _unless_away(told: subprocess.CompletedProcess[str]) -> subprocess.CompletedProcess[str] | None:
    return None if "no answer" in told.stderr else told


def test_requirements_are_installed_and_loaded_without_any_secret(
    offline: Service, functions: FunctionsService
) -> None:
    (functions.modules / "pay.py").write_text(
        "import tiny\nfrom app.functions import core_function\n\n\n"
        "@core_function('版本')\ndef version(arguments, caller):\n    return tiny.VERSION\n"
    )
    offline.cardctl("function", "reload", check=False)
    write_wheel(functions.modules, "1.0")
    (functions.modules / "requirements.txt").write_text("./tiny-1.0-py3-none-any.whl\n")
    without_secrets = {k: v for k, v in offline.environment.items() if k not in SECRETS}
    offline.environment, settings = without_secrets, offline.environment
    installed = offline.forked_cardctl("function", "install")
    offline.environment = settings
    assert "Installed into" in installed.stderr
    assert "版本" in installed.stdout
    assert json.loads(offline.cardctl("function", "run", "版本").stdout) == "1.0"


def test_a_missing_service_folder_or_requirements_is_reported_in_one_line(
    offline: Service, functions: FunctionsService
) -> None:
    functions.stop()
    for command in (("list",), ("reload",), ("run", "求和")):
        assert "The functions service is unavailable" in offline.refusal("function", *command)
    assert "requirements.txt: nothing to install" in offline.refusal("function", "install")
    del offline.environment["KADUN_FUNCTIONS_DIR"]
    assert offline.refusal("function", "install") == "cardctl: KADUN_FUNCTIONS_DIR is not set\n"
