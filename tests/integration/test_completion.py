"""The completion script, in a real bash."""

import subprocess
import sys
from pathlib import Path

import pytest

from app.cli.completion import bash_script
from app.cli.main import COMMANDS, cardctl

COMPLETE = """
source "$1"
COMP_WORDS=("${@:2}") COMP_CWORD=$(($# - 2))
_cardctl
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("completion") / "cardctl.bash"
    file.write_text(bash_script(cardctl))
    return file


def completed(script: Path, *words: str) -> list[str]:
    command = ["bash", "-euc", COMPLETE, "bash", str(script), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["cardctl", "stat"], ["stats"]),
        (["scripts/cardctl", "card", "im"], ["import"]),
        (["cardctl", "card", "list", "--st"], ["--status"]),
        (["cardctl", "card", "list", "--status", "f"], ["frozen"]),
        (["cardctl", "card", "list", "--batch", "x", "--status", "un"], ["unused"]),
        (["cardctl", "events", "--kind", "CARD_F"], ["CARD_FROZEN"]),
        (["cardctl", "card", "import", "--dry-run", "--format", "j"], ["json"]),
        (["cardctl", "completion", ""], ["bash"]),
        (["cardctl", "card", "issue", "--note", ""], []),
        (["cardctl", "card", "import", "ca"], []),
        (["cardctl", "card", "nonsense", "fr"], ["freeze"]),
    ],
)
def test_words_are_completed(script: Path, words: list[str], expected: list[str]) -> None:
    assert completed(script, *words) == expected


def test_the_script_has_every_command_and_option(script: Path) -> None:
    assert set(completed(script, "cardctl", "")) == set(COMMANDS)
    assert {"--follow", "--since", "--help"} <= set(completed(script, "cardctl", "events", "-"))
    assert "--until-input-ends" not in script.read_text()


def test_bash_uses_the_script_for_cardctl_in_any_folder(script: Path) -> None:
    command = f'source "{script}"; complete -p cardctl'
    said = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True).stdout
    assert said == "complete -o default -F _cardctl cardctl\n"


def test_the_script_avoids_what_zsh_does_not_understand(script: Path) -> None:
    """Tried by hand in zsh 5.9 after bashcompinit: this machine need not have zsh."""
    text = script.read_text()
    assert "mapfile" not in text, "a builtin of bash"
    assert ":COMP_" not in text, "a length that begins with a letter is a modifier"


def test_shellcheck_accepts_the_script(script: Path) -> None:
    subprocess.run([Path(sys.executable).with_name("shellcheck"), "--shell=bash", script], check=True)
