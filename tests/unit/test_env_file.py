"""Read, change and merge .env files: scripts/lib/env_file.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.lib import env_file


def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line as the shell scripts do."""
    command = (sys.executable, "-B", "-E", "-s", "-S", env_file.__file__, *arguments)
    return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ, cwd="/")


def test_a_setting_is_changed_in_its_place_and_the_file_keeps_its_mode_and_leaves_no_other(tmp_path: Path) -> None:
    text = "# made by init.sh\nA=1\n#B=2\nC=3\nA=4\n"
    for before, name, after in (
        (text, "A", "# made by init.sh\nA=new\n#B=2\nC=3\n"),
        (text, "B", "# made by init.sh\nA=1\nB=new\nC=3\nA=4\n"),
        ("A=1\r\nB=2\r\n", "B", "A=1\r\nB=new\n"),
    ):
        assert env_file.with_setting(before, name, "new") == after
    file = tmp_path / ".env"
    file.write_bytes(b"A=\xff\n")
    file.chmod(0o640)
    env_file.write(file, env_file.with_setting(env_file.read(file), "B", "1"))
    assert (file.read_bytes(), file.stat().st_mode & 0o777) == (b"A=\xff\nB=1\n", 0o640)
    assert list(tmp_path.iterdir()) == [file]


def test_settings_of_another_server_keep_their_quotes_and_come_over_once() -> None:
    theirs = "KADUN_HSTS='max-age=1; x #y' # note\r\nKADUN_RATE=\"7\"\nKADUN_BURST=\n#KADUN_WORKERS=9\n"
    text, changed = env_file.merged(theirs, "KADUN_BURST=40\n", fresh=True)
    assert changed == ["KADUN_BURST", "KADUN_HSTS", "KADUN_RATE"]
    assert text == "KADUN_BURST=\nKADUN_HSTS='max-age=1; x #y' # note\nKADUN_RATE=\"7\"\n"
    assert env_file.merged(theirs, text, fresh=True) == (text, [])
    # Only those of Kadun's are taken over, and no folder of programs.
    theirs = "DOCKER_HOST=tcp://evil\nCOMPOSE_PROFILES=all\nKADUN_BACKUP_HOOKS=/tmp/x\nLD_PRELOAD=x\nKADUN_RATE=7\n"
    assert env_file.merged(theirs, "", fresh=True) == ("\nKADUN_RATE=7\n", ["KADUN_RATE"])
    for raw in ("a b", "迁移&co \\1", "'a;b' # c", '"a\'b"', "https://x/?a=1&b=%20#c", "卡盾", "age1xyz\r"):
        taken = (f"\nKADUN_DOMAIN={raw.rstrip()}\n", ["KADUN_DOMAIN"])
        assert env_file.merged(f"KADUN_DOMAIN={raw}\n", "", fresh=True) == taken


EVIL = "COMPOSE_FILE=data/functions/evil.yml"


def test_a_setting_that_could_be_more_than_one_value_is_refused(tmp_path: Path) -> None:
    for theirs in (
        *(f"KADUN_AAA={quote}x\nKADUN_AAB=y{quote} {EVIL}\n" for quote in "\"'"),
        f'KADUN_AAA="x" {EVIL}\n',
        f'KADUN_AAA=\u00a0"x\nKADUN_AAB=y" {EVIL}\n',
        f'KADUN_AAA="x\\"\nKADUN_AAB=y" {EVIL}\n',
        f"KADUN_AAA=x\r{EVIL}\n",
        "KADUN_AAA=$HOME\n",
        "KADUN_RATE=10r/s; } server { listen 9; location / { proxy_pass http://127.0.0.1:2375; } } #\n",
        "KADUN_BURST=40 nodelay; include /tmp/x\n",
    ):
        (tmp_path / "theirs").write_text(theirs, newline="")
        (tmp_path / "ours").write_text("KADUN_UID=1\n")
        for arguments in (("check",), ("merge", str(tmp_path / "ours"), "--fresh")):
            done = ran(arguments[0], str(tmp_path / "theirs"), *arguments[1:])
            assert (done.returncode, done.stdout, done.stderr.count("KADUN_")) == (1, "", 2), theirs
        assert (tmp_path / "ours").read_text() == "KADUN_UID=1\n", theirs


def test_a_bundle_says_neither_which_programs_containers_run_nor_what_they_reach(tmp_path: Path) -> None:
    theirs = "KADUN_NGINX_IMAGE=evil/nginx\nKADUN_FUNCTIONS_NETWORK=host\nKADUN_PYTHON_IMAGE=a\nKADUN_RATE=7\n"
    ours = "KADUN_NGINX_IMAGE=nginx\nKADUN_PYTHON_IMAGE=a\n"
    merged = env_file.merged(theirs, ours, fresh=True, bundled=True)
    assert merged == (f"{ours}KADUN_RATE=7\n", ["KADUN_RATE"])
    (tmp_path / "theirs").write_text(theirs)
    (tmp_path / "ours").write_text(ours)
    left = ran("left", str(tmp_path / "theirs"), str(tmp_path / "ours"))
    assert left.stdout == "KADUN_NGINX_IMAGE=evil/nginx, KADUN_FUNCTIONS_NETWORK=host"
    for path in ("/var/run/docker.sock", "../secrets/backup_identity", "'/etc'"):
        with pytest.raises(env_file.SettingError, match=r"CA must be \./https_certificates/bucket-ca\.pem"):
            env_file.merged(f"KADUN_FILES_BUCKET_CA={path}\n", "", fresh=True, bundled=True)
    for own in ("", "./https_certificates/bucket-ca.pem"):
        assert env_file.taken_over(f"KADUN_FILES_BUCKET_CA={own}\n") == {"KADUN_FILES_BUCKET_CA"}


def test_what_belongs_to_the_machine_stays_but_not_the_issuer_which_clients_check() -> None:
    for theirs in ("", "KADUN_ISSUER=\n", "#KADUN_ISSUER=x\n"):
        merged = env_file.merged(theirs, "KADUN_ISSUER=mine\n", fresh=False)
        assert merged == ("KADUN_ISSUER=kadun\n", ["KADUN_ISSUER"])
    machines = "COMPOSE_PROJECT_NAME=old\nKADUN_HTTPS_PORT=1\nKADUN_BACKUP_DIR=/old\n"
    ours = "COMPOSE_PROJECT_NAME=new\n"
    assert env_file.merged(machines, ours, fresh=False) == (ours, [])
    assert env_file.merged(machines, ours, fresh=True) == (ours + "KADUN_BACKUP_DIR=/old\n", ["KADUN_BACKUP_DIR"])


def test_every_form_is_read_as_docker_compose_reads_it(tmp_path: Path) -> None:
    for expected, lines in (
        ("/disk", ["A=/disk", 'A="/disk"', "A=  /disk", "A = /disk", "export A=/disk", "  A=/disk"]),
        ("/disk", ["A=/other\nA=/disk", "A=/disk\r", 'A="/disk"\r', "A=/disk # it\r"]),
        ("/disk", ["A=/disk # it", 'A="/disk" # it']),
        ("/disk\t# it", ["A=/disk\t# it"]),
        ("/disk#2", ["A=/disk#2"]),
        ("/a disk # 2", ['A="/a disk # 2"', "A='/a disk # 2'"]),
        ("", ["A=", 'A=""']),
        ("a b", ["A=a b  "]),
        ("it's", ["A=it's", 'A="it\'s"']),
        ('a "b" c', ['A=a "b" c']),
        ("https://a.example/x?y=1&z=2#part", ["A=https://a.example/x?y=1&z=2#part"]),
    ):
        for line in lines:
            (tmp_path / ".env").write_text(f"# a comment\n{line}\n", newline="")
            assert env_file.value(env_file.read(tmp_path / ".env"), "A") == expected, line


def test_the_default_stands_in_for_an_unset_or_empty_setting(tmp_path: Path) -> None:
    assert ran("get", str(tmp_path / "missing"), "A", "80").stdout == "80"
    for text, expected in (("", "80"), ('A="" # none\n', "80"), ("A=443\n", "443")):
        (tmp_path / ".env").write_text(text)
        assert ran("get", str(tmp_path / ".env"), "A", "80").stdout == expected
