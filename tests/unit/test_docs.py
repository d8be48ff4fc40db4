"""The documents name every setting, route, code, command, table, check and limit of the code."""

import re
from collections.abc import Iterator

import click
import pytest

from app.cli.main import cardctl
from app.console.card_fields import MAX_SELECTED
from app.console.imports import MAX_BYTES
from app.console.issue import MAX_ISSUED
from app.domain.codes import Code, EventKind
from app.domain.self_service import RenewReason
from app.http.problems import ProblemCode
from app.services.card_lists import MAX_COUNTED
from app.services.doctor.checks import CHECKS
from app.services.imports import MAX_CARDS
from app.services.issuing import MAX_COUNT
from app.storage import models
from app.storage.card_search import MAX_HITS
from tests.support.documents import FENCE, ROOT, document
from tests.support.tables import for_each

READMES = ("README.md", "README.zh-CN.md")
SHOPS = ("docs/shop-api.md", "docs/shop-api.zh-CN.md")
SELF_SERVICE = ("docs/self-service.md", "docs/self-service.zh-CN.md")
CONSOLES = ("docs/console.md", "docs/console.zh-CN.md")
MANUALS = ("docs/operations.md", "docs/operations.zh-CN.md")
SEVERAL_MACHINES = ("docs/several-machines.md", "docs/several-machines.zh-CN.md")
REFERENCES = ("docs/reference.md", "docs/reference.zh-CN.md")
READ_IN = "".join((ROOT / name).read_text() for name in ("app/settings.py", "app/functions/settings.py"))
SETTINGS = sorted(set(re.findall(r'"(KADUN_[A-Z_]+|DATABASE_URL|KERNAL_DATA_KEY)"', READ_IN)))
ROUTES = re.findall(r'add_route\(\s*"([^"]+)"', (ROOT / "app/factory.py").read_text())


def headings(text: str) -> list[str]:
    return re.findall(r"^(#+) ", FENCE.sub("", text), re.MULTILINE)


def test_settings_and_routes_are_found_in_the_code() -> None:
    assert {"DATABASE_URL", "KERNAL_DATA_KEY", "KADUN_KEYS_DIR", "KADUN_FUNCTIONS_DIR"} <= set(SETTINGS)
    assert {"/v1/verify", "/metrics"} <= set(ROUTES)


@for_each("reference", REFERENCES)
@for_each("name", SETTINGS)
def test_every_setting_has_its_row_in_the_reference(name: str, reference: str) -> None:
    assert re.search(rf"^\| `{name}`", document(reference), re.MULTILINE)


@for_each("name", ["DATABASE_URL_FILE", "KERNAL_DATA_KEY_FILE", "KADUN_TOTP_KEY_FILE", "PROMETHEUS_MULTIPROC_DIR"])
def test_other_names_of_settings_are_in_the_reference(name: str) -> None:
    assert [reference for reference in REFERENCES if f"`{name}`" not in document(reference)] == []


@for_each("route", ROUTES)
def test_every_route_is_in_the_protocol(route: str) -> None:
    assert re.search(rf"`[A-Z]+ {re.escape(route)}`", document("docs/protocol.md"))


@pytest.mark.parametrize("code", [*Code, *ProblemCode])
def test_every_code_has_its_row_in_the_protocol(code: str) -> None:
    assert re.search(rf"^\| `{code}` \| [0-9]{{3}} \|", document("docs/protocol.md"), re.MULTILINE)


@for_each("name", [*READMES, *MANUALS, *CONSOLES, *SEVERAL_MACHINES, "docs/architecture.md", "CHANGELOG.md"])
def test_every_script_that_is_named_exists_and_runs(name: str) -> None:
    scripts = set(re.findall(r"scripts/[\w-]+(?:\.sh)?", document(name)))
    assert scripts
    assert [script for script in scripts if not (ROOT / script).stat().st_mode & 0o100] == []


@for_each("pair", [READMES, MANUALS, REFERENCES, SHOPS, CONSOLES, SELF_SERVICE, SEVERAL_MACHINES])
def test_both_languages_have_the_same_headings(pair: tuple[str, str]) -> None:
    english, chinese = (document(name) for name in pair)
    assert headings(english) == headings(chinese)


def test_every_script_for_the_vendor_is_in_the_manuals() -> None:
    scripts = [path.name for path in ROOT.glob("scripts/*.sh") if path.name not in ("run.sh", "test.sh", "bench.sh")]
    assert [(name, script) for name in MANUALS for script in scripts if script not in document(name)] == []


def test_both_manuals_have_the_same_commands() -> None:
    def commands(name: str) -> list[str]:
        lines = (line.partition("#")[0].split() for line in document(name).splitlines() if line.startswith("    "))
        return [words[0] for words in lines if words]

    english, chinese = (commands(name) for name in MANUALS)
    assert len(english) > 50
    # What the programs print is in two languages on one line, Chinese first; all else is the same.
    assert [word for word in chinese if word.isascii()] == [word for word in english if word in chinese]
    assert len(english) == len(chinese)


@for_each("pair", [READMES, SHOPS, CONSOLES])
def test_both_languages_have_the_same_code(pair: tuple[str, str]) -> None:
    english, chinese = (document(name) for name in pair)
    assert FENCE.findall(english) == FENCE.findall(chinese)
    assert FENCE.findall(english)


@pytest.mark.parametrize("pair", [READMES, CONSOLES])
def test_both_languages_have_the_same_pictures(pair: tuple[str, str]) -> None:
    english, chinese = (re.findall(r"!\[[^]]+\]\(([^)]+)\)", document(name)) for name in pair)
    assert [picture.replace(".png", ".zh-CN.png") for picture in english] == chinese
    assert english


@for_each("name", REFERENCES)
def test_every_journal_kind_is_in_the_reference(name: str) -> None:
    text = document(name)
    assert [kind for kind in EventKind if f"`{kind}`" not in text] == []


def test_the_console_guide_names_the_limits_of_the_code() -> None:
    for name in CONSOLES:
        text = document(name).replace(",", "")
        assert all(
            str(limit) in text for limit in (MAX_SELECTED, MAX_ISSUED, MAX_COUNTED, MAX_HITS, MAX_COUNT, MAX_CARDS)
        )
        assert f"{MAX_BYTES // 2**20} MiB" in text


def commands(command: click.Command, words: tuple[str, ...] = ()) -> Iterator[str]:
    """Yield every command below one, such as `card issue`."""
    if not isinstance(command, click.Group):
        yield " ".join(words)
        return
    context = click.Context(command)
    for word in command.list_commands(context):
        below = command.get_command(context, word)
        assert below is not None
        yield from commands(below, (*words, word))


@for_each("name", REFERENCES)
def test_every_command_is_in_the_reference(name: str) -> None:
    text = document(name)
    assert [command for command in commands(cardctl) if f"`{command}`" not in text] == []


@for_each("name", REFERENCES)
def test_every_table_is_in_the_reference(name: str) -> None:
    tables = {"schema_migration", *(model._meta.table_name for model in models._Table.__subclasses__())}  # noqa: SLF001
    assert sorted(table for table in tables if f"`{table}`" not in document(name)) == []


@for_each("name", REFERENCES)
def test_every_setting_of_the_containers_is_in_the_reference(name: str) -> None:
    composed = "".join(path.read_text("utf-8") for path in ROOT.glob("docker-compose*.yml"))
    settings = re.findall(r"(?<=\$\{)[A-Z_]+|(?<=    )KADUN_[A-Z_]+(?=:$)", composed, re.MULTILINE)
    assert sorted({setting for setting in settings if f"`{setting}`" not in document(name)}) == []


@for_each("name", REFERENCES)
def test_every_check_of_doctor_is_in_the_reference(name: str) -> None:
    text = document(name)
    assert [check.__name__ for check in CHECKS if f"`{check.__name__.replace('_', '-')}`" not in text] == []


def test_contributing_quotes_the_present_code() -> None:
    diffs = re.findall(r"^```diff\n--- (\S+)\n(.*?)^```$", document("CONTRIBUTING.md"), re.MULTILINE | re.DOTALL)
    assert len(diffs) >= 12
    for path, diff in diffs:
        before = "".join(f"{line[1:]}\n" for line in diff.splitlines() if not line.startswith("+"))
        assert before.removesuffix("\n") in document(path), f"{path} no longer has:\n{before}"


@for_each("name", MANUALS)
def test_the_scripts_print_the_messages_that_the_manuals_explain(name: str) -> None:
    files = [path for folder in ("scripts", "nginx") for path in ROOT.glob(f"{folder}/**/*.*")]
    sources = "".join(path.read_text("utf-8") for path in files if path.suffix != ".pyc")
    head = r"^\| (?:line says|the log says|提示|日志内容) \|.*\n\|.*\n"
    rows = "".join(re.findall(rf"{head}((?:\|.*\n)+)", document(name), re.MULTILINE)).splitlines()
    messages = [message for row in rows for message in re.findall("`([^`]+)`", row.split("|")[1])]
    assert len(messages) >= 15
    parts = {part.strip(" '\"") for message in messages for part in message.split("…")}
    others = {"", "No space left on device", "invalid network"}  # the system's, and nginx's
    assert sorted(part for part in parts - others if part not in sources) == []


def test_every_reason_of_a_refused_renewal_is_in_the_protocol() -> None:
    text = document("docs/protocol.md")
    assert [reason for reason in RenewReason if f"`{reason}`" not in text] == []
