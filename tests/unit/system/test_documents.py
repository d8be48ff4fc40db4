"""What a reader of the documents would miss: links that lead nowhere, and names of the code that are not explained."""

import inspect
import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import click
import kadun

from app.cli.main import cardctl
from app.domain.codes import Code
from app.domain.self_service import RenewReason
from app.http.problems import ProblemCode
from app.runtime.environment import TABLE, By, names
from app.runtime.version import read_version
from tests.mutation.planted import read_defects
from tests.support.tables import for_each

ROOT = Path(__file__).resolve().parents[3]
FENCE = re.compile(r"^```[^\n]*\n.*?^```$", re.MULTILINE | re.DOTALL)
_FOLDERS = ("docs", "client", "examples", "https_certificates", "tests/vectors")
DOCUMENTS = sorted(
    str(path.relative_to(ROOT))
    for path in (*ROOT.glob("*.md"), *(path for folder in _FOLDERS for path in (ROOT / folder).rglob("*.md")))
    if "node_modules" not in path.parts
)


def document(name: str) -> str:
    """Return the text of a document, by its path in the repository."""
    return (ROOT / name).read_text("utf-8")


def prose(name: str) -> str:
    """Return the text of a document without its fenced blocks."""
    return FENCE.sub("", document(name))


READMES, MANUALS, CONSOLES, REFERENCES, CLIENTS, AUTHORS, SHOPS, *_ = PAIRS = [
    (f"{name}.md", f"{name}.zh-CN.md")
    for name in (
        *("README", "docs/operations", "docs/console", "docs/reference", "docs/client", "docs/client-authors"),
        *("docs/selling", "docs/several-machines", "docs/installation", "docs/backups"),
    )
]
ROUTES = re.findall(r'add_route\(\s*"([^"]+)"', document("app/factory.py"))
FOLDERS = "app|client|scripts|tests|trial|docs|examples|nginx|deploy/postgres"
MADE_BY_READERS = {"app/cli/commands/today.py", "app/console/templates/version.html"}  # of the worked examples


def sections(name: str) -> list[tuple[str, str]]:
    """The sections of a document: their levels (`##`), and their names in links on GitHub."""
    titles = re.findall(r"^(#+) (.+)$", prose(name), re.MULTILINE)
    return [(level, re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")) for level, title in titles]


def anchors(name: str) -> set[str]:
    """The sections of a document, as GitHub names them in links."""
    return {anchor for _, anchor in sections(name)}


@for_each("name", DOCUMENTS)
def test_every_link_and_path_leads_somewhere_and_every_script_runs(name: str) -> None:
    links = re.findall(r"\]\(([^)#:]*)(?:#([^)]+))?\)", prose(name))
    targets = [((ROOT / name).parent / path if path else ROOT / name, anchor) for path, anchor in links]
    assert [path for path, _ in targets if not path.exists()] == []
    linked = [(str(path.resolve().relative_to(ROOT)), anchor) for path, anchor in targets if anchor]
    assert [(path, anchor) for path, anchor in linked if anchor not in anchors(path)] == []
    named = set(re.findall(rf"`((?:{FOLDERS})/[^`\s…<{{*]*)`", prose(name))) - MADE_BY_READERS
    assert sorted(path for path in named if not (ROOT / path).exists()) == []
    scripts = set(re.findall(r"(?<![\w/])scripts/[\w-]+(?:\.sh)?(?![\w/.-])", document(name)))
    assert [script for script in scripts if not (ROOT / script).stat().st_mode & 0o100] == []


def composed_settings() -> list[str]:
    """The settings that Compose passes on."""
    files = (*ROOT.glob("docker-compose*.yml"), *ROOT.glob("deploy/*.yml"))
    composed = "".join(path.read_text("utf-8") for path in files)
    return re.findall(r"(?<=\$\{)[A-Z_]+|(?<=    )KADUN_[A-Z_]+(?=:$)", composed, re.MULTILINE)


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


@for_each("reference, required", zip(REFERENCES, ("required", "必填"), strict=True))
def test_the_reference_has_every_setting_with_its_default_and_every_command(reference: str, required: str) -> None:
    service, functions, containers = document(reference).split("\n## ")[1:4]
    for section, by in ((service.partition("\n### ")[0], By.SERVICE), (functions, By.FUNCTIONS)):
        rows = {name: rest for name, *rest in re.findall(r"^\| `([A-Z_]+)`(.*?) \| (.*?) \|", section, re.MULTILINE)}
        if reference == REFERENCES[0]:  # the Chinese page sends to it for processes without containers
            assert rows.keys() == names(by)
        for setting in (TABLE[name] for name in rows):
            secret, default = rows[setting.name]
            said = default.strip("`") if default.startswith("`") else None if default == required else ""
            assert (secret != "", said, by in setting.by) == (setting.is_secret, setting.default, True), setting.name
    named = set(re.findall(r"`([A-Z_]{4,})`", containers))
    named |= {f"KADUN_FILES_BUCKET{end}" for end in re.findall(r"`…(_[A-Z]+)`", containers)}
    assert names(By.DOTENV) - names(By.FUNCTIONS) <= named
    assert names(By.DOTENV) <= {*re.findall(r"`([A-Z_]{4,})`", document(reference))}
    assert set(re.findall(r"^\| `([A-Z_]+)`", containers, re.MULTILINE)) <= names(By.DOTENV) | {"COMPOSE_FILE"}
    text = document(reference)
    assert sorted(name for name in composed_settings() if f"`{name}`" not in text) == []
    named: set[str] = set()
    for row in re.findall(r"^\| (`[a-z].*?) \|", text.split("\n## ")[4], re.MULTILINE):
        group = ""
        for words in re.findall(r"`([a-z -]+)`", row):  # `terms show`, `set` stand for `terms show` and `terms set`
            group = words.split()[0] if " " in words else group
            named |= {words, f"{group} {words}"}
    assert sorted(set(commands(cardctl)) - named) == []


def test_the_protocol_has_every_route_code_and_reason() -> None:
    assert {"/v1/verify", "/metrics"} <= set(ROUTES)
    text = document("docs/protocol.md")
    assert [route for route in ROUTES if not re.search(rf"`[A-Z]+ {re.escape(route)}`", text)] == []
    codes = (*Code, *ProblemCode)
    assert [code for code in codes if not re.search(rf"^\| `{code}` \| [0-9]{{3}} \|", text, re.MULTILINE)] == []
    assert [reason for reason in RenewReason if f"`{reason}`" not in text] == []


@for_each("pair", PAIRS)
def test_both_languages_have_the_same_headings_and_code(pair: tuple[str, str]) -> None:
    english, chinese = (sections(name) for name in pair)
    referred = re.findall(rf"\({Path(pair[0]).name}#([^)]+)\)", prose(pair[1]))  # rarely needed: in English only
    fewer = [level for level, anchor in english if anchor not in referred]
    assert [level for level, _ in chinese] in ([level for level, _ in english], fewer)
    if pair in {READMES, CONSOLES, CLIENTS, AUTHORS, SHOPS}:  # in others, blocks show what the programs print
        english, chinese = (FENCE.findall(document(name)) for name in pair)
        assert english == chinese != []


@for_each("name", MANUALS)
def test_the_manuals_have_every_script_for_the_vendor_and_explain_messages_that_they_print(name: str) -> None:
    scripts = [path.name for path in ROOT.glob("scripts/*.sh") if path.name not in ("run.sh", "test.sh", "bench.sh")]
    assert [script for script in scripts if script not in document(name)] == []
    manuals = "".join(document(name.replace("operations", page)) for page in ("operations", "installation", "backups"))
    sources = "".join(path.read_text("utf-8") for path in ROOT.glob("scripts/**/*.sh"))
    said = ("nginx -t fails", "does not serve the new certificate", "The dump failed", "The database does not start")
    assert [words for words in said if words not in sources or words not in manuals] == []


def test_contributing_quotes_the_present_code() -> None:
    diffs = re.findall(r"^```diff\n--- (\S+)\n(.*?)^```$", document("docs/CONTRIBUTING.md"), re.MULTILINE | re.DOTALL)
    assert len(diffs) >= 12
    for path, diff in diffs:
        before = "".join(f"{line[1:]}\n" for line in diff.splitlines() if not line.startswith("+"))
        assert before.removesuffix("\n") in document(path), f"{path} no longer has:\n{before}"


@for_each("name", CLIENTS)
def test_the_clients_guide_has_every_name_of_the_sdk(name: str) -> None:
    text = prose(name)
    items = "\n".join(re.findall(r"^- ([^:：\n]+)[:：]", text, re.MULTILINE))
    described = [word for made in (kadun.Client, kadun.Heartbeat) for word in inspect.signature(made).parameters]
    described += [field.name for field in fields(kadun.Verdict)]
    optional = [word for word in described if word not in ("base_url", "public_keys", "card_id")]
    assert [word for word in optional if not re.search(rf"`{word}[`(]", items)] == []
    named = {*described, *kadun.__all__} - {"KadunError", "Verdict", "Heartbeat"}
    assert sorted(word for word in named if not re.search(rf"`{word}[`(]", text)) == []


def test_every_part_of_a_release_says_the_same_version() -> None:
    assert read_version() == kadun.__version__
    for name in ("pyproject.toml", "client/pyproject.toml", "client/conformance/pyproject.toml"):
        project = tomllib.loads(document(name))["project"]
        assert (project.get("version"), project["dynamic"]) == (None, ["version"])
    labels = re.findall(r'org\.opencontainers\.image\.version="([^"]+)"', document("Dockerfile"))
    assert labels == [kadun.__version__]
    dated = re.findall(r"^## \[([0-9.]+)\] - [0-9]{4}-[0-9]{2}-[0-9]{2}$", document("CHANGELOG.md"), re.MULTILINE)
    assert dated[0] == kadun.__version__


def test_doctor_knows_the_settings_of_the_template_of_compose_and_of_the_scripts() -> None:
    template = re.findall(r"^([A-Z_]+)=", document("scripts/lib/env.template"), re.MULTILINE)
    scripts = [path for path in (ROOT / "scripts").rglob("*") if path.is_file() and path.suffix in ("", ".sh")]
    calls = r"\b(?:setting|folder_setting) ((?:KADUN|COMPOSE)_[A-Z_]+)"
    read = {name for path in scripts for name in re.findall(calls, path.read_text("utf-8"))}
    assert len(read) > 10
    assert {*template, *composed_settings(), *read} - {"COMPOSE_FILE"} == names(By.DOTENV)


def test_each_rule_of_the_contract_has_one_owner_among_the_tests() -> None:
    rules = [rule for area in tomllib.loads(document("tests/owners.toml")).values() for rule in area]
    texts = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    claims = [rule for line in re.findall(r"^# Owns (.+)\.$", texts, re.MULTILINE) for rule in line.split(", ")]
    assert sorted(claims) == sorted(rules), "each rule stands at the top of one file, and in the table"


def test_each_planted_defect_has_its_place_in_the_code_and_its_tests() -> None:
    for defect in read_defects([]):
        assert defect.planted_in(document(defect.file)), defect.name
        assert all((ROOT / test.split("::")[0]).exists() for test in defect.tests if test.startswith("tests/")), (
            defect.name
        )
