"""The worked examples of docs/files-and-functions.md, run against a real service."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from kadun import Client, RequestRefused

from tests.conftest import Remembered
from tests.integration.conftest import with_keys
from tests.support.functions_service import FunctionsService
from tests.support.service import ROOT, Service, wait_for

DOCUMENTS = (ROOT / "docs/files-and-functions.md", ROOT / "docs/files-and-functions.zh-CN.md")


@pytest.fixture(scope="module")
def _pair(migrated_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = with_keys(tmp_path_factory.mktemp("examples"))
    with FunctionsService(folder), Service(folder, migrated_url) as service:
        yield service


@pytest.fixture
def service(_pair: Service, database_url: str, remembered: Remembered) -> Service:
    remembered.wait_until_forgotten()
    return _pair


def exported_keys(service: Service, folder: Path) -> Path:
    (folder / "keys.json").write_text(service.cardctl("key", "export").stdout)
    return folder / "keys.json"


def offer(service: Service, folder: Path, title: str) -> None:
    """Seal core data, and add it under the same name."""
    (folder / "core.json").write_text(json.dumps({"title": title}))
    service.cardctl("seal", str(folder / "core.json"), "-o", str(folder / "vendor.age"))
    service.cardctl("file", "add", str(folder / "vendor.age"), "--name", "core.json.age")


def test_a_running_program_loads_new_core_data_until_its_card_is_frozen(service: Service, tmp_path: Path) -> None:
    (card_id,) = service.issue()
    offer(service, tmp_path, "first")
    (tmp_path / "customer").mkdir()
    command = [sys.executable, str(ROOT / "examples/updates/updates.py"), "--interval", "0.2", "--card", card_id]
    command += ["--server", f"http://127.0.0.1:{service.port}", "--keys", str(exported_keys(service, tmp_path))]
    command += ["--core", str(tmp_path / "customer/core.json.age")]
    shown = tmp_path / "shown"
    environment = {"PATH": "/usr/bin", "PYTHONPATH": str(ROOT / "client/src"), "HOME": str(tmp_path), "LANG": "C.UTF-8"}
    with shown.open("wb") as output:
        program = subprocess.Popen(command, stdout=output, stderr=output, env=environment)
    try:
        wait_for(lambda: "core data: first" in shown.read_text())
        offer(service, tmp_path, "second")
        wait_for(lambda: "core data: second" in shown.read_text())
        assert b"second" not in (tmp_path / "customer/core.json.age").read_bytes(), "what lies there is sealed"
        service.cardctl("card", "freeze", card_id)
        assert program.wait(60) == 1
    finally:
        program.kill()
        program.wait()
    assert "卡密已被冻结" in shown.read_text()
    assert shown.read_text().count("core data: ") == 2, "nothing is taken up twice"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_the_documents_examples_give_the_shown_results(service: Service, document: Path) -> None:
    text = document.read_text("utf-8")
    modules = service.folder / "functions"
    written = re.search(r"^```python\n(from app.functions .*?)^```", text, re.MULTILINE | re.DOTALL)
    example = re.search(r"    cp (\S+) data/functions/\n    scripts/cardctl (function reload)\n", text)
    shown = re.findall(r"scripts/cardctl function run (\S+) --arguments '(.*)'\n(?:\n    (\{.*\})\n)?", text)
    assert written
    assert example
    (modules / "written.py").write_text(written[1])
    shutil.copy(ROOT / example[1], modules)
    service.cardctl(*example[2].split())
    results = [json.loads(service.cardctl("function", "run", name, "--arguments", a).stdout) for name, a, _ in shown]
    assert results == [{"price": 113.0}, json.loads(shown[1][2])]


def test_a_program_gets_the_result_and_never_the_rates(service: Service, tmp_path: Path) -> None:
    (card_id,) = service.issue()
    shutil.copy(ROOT / "examples/functions/exchange_rates.py", service.folder / "functions")
    service.cardctl("function", "reload")
    keys = exported_keys(service, tmp_path).read_text()
    url = f"http://127.0.0.1:{service.port}"
    client = Client(url, public_keys=keys, card_id=card_id, hardware="pc", state_dir=None)
    result = client.execute("汇率换算", {"amount": 12.5, "source": "EUR", "target": "HKD"})
    assert (result["amount"], result["currency"]) == ("112.04", "HKD")
    assert result["card_until"].endswith("+00:00")
    assert "no rate for XYZ" in client.execute("汇率换算", {"amount": 1, "source": "XYZ"})["error"]
    with pytest.raises(RequestRefused) as refused:
        client.execute("汇率换算", {"amount": -1})
    assert "arguments.amount" in refused.value.detail
