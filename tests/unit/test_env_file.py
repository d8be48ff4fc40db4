"""Change and merge .env files: scripts/lib/env_file.py. tests/e2e/test_env_file.py compares reading with Compose."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.lib import env_file

TEMPLATE = Path(env_file.__file__).with_name("env.template")
TEXT = "# made by init.sh\nA=1\n#B=2\nC=3\nA=4\n"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("A", "# made by init.sh\nA=new\n#B=2\nC=3\n"),
        ("B", "# made by init.sh\nA=1\nB=new\nC=3\nA=4\n"),
        ("D", "# made by init.sh\nA=1\n#B=2\nC=3\nA=4\nD=new\n"),
    ],
    ids=["replaces every line that sets it", "replaces the line where it is commented out", "is appended"],
)
def test_a_changed_setting(name: str, expected: str) -> None:
    assert env_file.with_setting(TEXT, name, "new") == expected


def test_other_lines_keep_their_windows_line_ends() -> None:
    assert env_file.with_setting("A=1\r\nB=2\r\n", "B", "3") == "A=1\r\nB=3\n"


def test_writing_keeps_the_mode_and_leaves_no_other_file(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_bytes(b"A=\xff\n")
    file.chmod(0o640)
    env_file.write(file, env_file.with_setting(env_file.read(file), "B", "1"))
    assert file.read_bytes() == b"A=\xff\nB=1\n"
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [file]


def test_settings_of_another_server_keep_their_quotes_and_come_over_once() -> None:
    theirs = "KADUN_HSTS='max-age=1; x #y' # note\r\nKADUN_RATE=\"7\"\nKADUN_BURST=\n#KADUN_WORKERS=9\n"
    text, changed = env_file.merged(theirs, "KADUN_BURST=40\n", fresh=True)
    assert changed == ["KADUN_BURST", "KADUN_HSTS", "KADUN_RATE"]
    assert text == "KADUN_BURST=\nKADUN_HSTS='max-age=1; x #y' # note\nKADUN_RATE=\"7\"\n"
    assert env_file.merged(theirs, text, fresh=True) == (text, [])


def test_only_settings_of_kaduns_are_taken_over_and_no_folder_of_programs() -> None:
    theirs = "DOCKER_HOST=tcp://evil\nCOMPOSE_PROFILES=all\nKADUN_BACKUP_HOOKS=/tmp/x\nLD_PRELOAD=x\nKADUN_RATE=7\n"
    assert env_file.merged(theirs, "", fresh=True) == ("\nKADUN_RATE=7\n", ["KADUN_RATE"])


def test_what_belongs_to_the_machine_stays() -> None:
    theirs = "COMPOSE_PROJECT_NAME=old\nKADUN_HTTPS_PORT=1\nKADUN_BACKUP_DIR=/old\n"
    ours = "COMPOSE_PROJECT_NAME=new\n"
    assert env_file.merged(theirs, ours, fresh=False) == (ours, [])
    assert env_file.merged(theirs, ours, fresh=True) == (ours + "KADUN_BACKUP_DIR=/old\n", ["KADUN_BACKUP_DIR"])


@pytest.mark.parametrize("theirs", ["", "KADUN_ISSUER=\n", "#KADUN_ISSUER=x\n"])
def test_the_other_servers_default_issuer_replaces_ours_because_clients_check_it(theirs: str) -> None:
    assert env_file.merged(theirs, "KADUN_ISSUER=mine\n", fresh=False) == ("KADUN_ISSUER=kadun\n", ["KADUN_ISSUER"])


@pytest.mark.parametrize(
    ("text", "expected"), [("", "80"), ("A=\n", "80"), ('A="" # none\n', "80"), ("A=443\n", "443")]
)
def test_the_default_stands_in_for_an_unset_or_empty_setting(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / ".env").write_text(text)
    assert run("get", str(tmp_path / ".env"), "A", "80") == expected
    assert run("get", str(tmp_path / "missing"), "A", "80") == "80"


def test_the_template_is_filled_in() -> None:
    values = (
        "project=shop",
        "compose_file=",
        "http_port=80",
        "https_port=443",
        "domains=a b",
        "uid=1",
        "function_first_uid=20001",
        "pip_index_url=",
    )
    text = run("render", str(TEMPLATE), *values)
    assert "\nCOMPOSE_PROJECT_NAME=shop\nKADUN_HTTP_PORT=80\n" in text
    assert "\nKADUN_APP_IMAGE=shop-app\n" in text
    assert "$" not in text


def run(*arguments: str) -> str:
    """Run the command line as the shell scripts do."""
    command = (sys.executable, "-B", "-E", "-s", env_file.__file__, *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=True, env=os.environ, cwd="/").stdout
