"""scripts/init.sh: makes everything once, refuses what would lose data, survives being killed anywhere."""

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pyrage
import pytest

from tests.support.http_exchange import quiet_port

ROOT = Path(__file__).resolve().parents[2]
ROLES = {"owner_url": "kadun_owner", "backup_url": "kadun_backup", "database_url": "kadun_app"}
SECRETS = ["secrets/db_password", "secrets/kernal_data_key", *(f"secrets/{name}" for name in ROLES)]
CERTIFICATES = ["https_certificates/privkey.pem", "https_certificates/fullchain.pem"]
TOTP_KEY, KEYS_IDENTITY, IDENTITY = LATER = ("secrets/totp_key", "secrets/keys_identity", "secrets/backup_identity")
"""Not among SECRETS: an upgrade makes them beside an existing database."""
LOCK = "data/.setup.lock"
EVERYTHING = [*SECRETS, *LATER, *CERTIFICATES, ".env", LOCK]
APP_UID = 10001 if os.geteuid() == 0 else os.geteuid()
KILLER = """#!/bin/bash
# Stands in for a program, and kills the script that has called it once.
"/usr/bin/${0##*/}" "$@" && kill -9 $PPID
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "a checkout"
    (folder / "https_certificates").mkdir(parents=True)
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    return folder


@pytest.fixture
def ports() -> list[str]:
    return ["--http-port", str(quiet_port()), "--https-port", str(quiet_port())]


def init(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [checkout / "scripts/init.sh", *arguments]
    return subprocess.run(command, cwd="/", env=os.environ | environment, capture_output=True, text=True, check=False)


def contents(checkout: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything but the scripts: when last changed, mode, bytes."""
    found = {}
    for path in checkout.rglob("*"):
        name = str(path.relative_to(checkout))
        if not name.startswith("scripts"):
            status = path.stat()
            found[name] = (status.st_ctime_ns, status.st_mode, path.read_bytes() if path.is_file() else b"")
    return found


def refuses(done: subprocess.CompletedProcess[str], words: str) -> None:
    assert (done.returncode, done.stdout) == (1, "")
    assert words in done.stderr
    assert done.stderr.count("\n") == 1


def is_complete(checkout: Path) -> None:
    """All is there, fits together, and has the right modes."""
    names = {str(path.relative_to(checkout)) for path in checkout.rglob("*") if path.is_file()}
    assert {name for name in names if not name.startswith("scripts")} == set(EVERYTHING)
    passwords = [(checkout / "secrets/db_password").read_text()]
    for name, role in ROLES.items():
        url = (checkout / "secrets" / name).read_text()
        passwords.append(url.removeprefix(f"postgresql://{role}:").removesuffix("@database:5432/kadun\n") + "\n")
    assert [password for password in passwords if not re.fullmatch(r"[0-9a-f]{48}\n", password)] == []
    assert len(set(passwords)) == 4, "each role has a password of its own"
    for name in ("secrets/kernal_data_key", KEYS_IDENTITY, IDENTITY):
        pyrage.x25519.Identity.from_str((checkout / name).read_text().strip())
    public = [
        subprocess.run(["openssl", *command, "-in", checkout / name], check=True, capture_output=True).stdout
        for command, name in zip([["pkey", "-pubout"], ["x509", "-noout", "-pubkey"]], CERTIFICATES, strict=True)
    ]
    assert public[0] == public[1]
    assert re.fullmatch(r"[0-9a-f]{64}\n", (checkout / TOTP_KEY).read_text())
    for name in [*SECRETS, *LATER, CERTIFICATES[0], LOCK]:
        assert stat.S_IMODE((checkout / name).stat().st_mode) == 0o600, name
    for name in (CERTIFICATES[1], ".env"):
        assert stat.S_IMODE((checkout / name).stat().st_mode) == 0o644, name
    for name in ("secrets", "data/keys", "data/postgres"):
        assert stat.S_IMODE((checkout / name).stat().st_mode) == 0o700, name
    for name in ("acme", "files", "functions", "functions-packages"):
        assert stat.S_IMODE((checkout / "data" / name).stat().st_mode) == 0o755, name
    written = ("data/keys", "data/files", "data/functions-packages")
    for name in (*(f"secrets/{name}" for name in ROLES), "secrets/kernal_data_key", TOTP_KEY, KEYS_IDENTITY, *written):
        assert (checkout / name).stat().st_uid == APP_UID
    assert (checkout / IDENTITY).stat().st_uid == os.geteuid(), "the scripts read it, not the service"
    assert f"\nKADUN_UID={APP_UID}\n" in (checkout / ".env").read_text()


def test_everything_is_made_once_and_a_second_run_changes_nothing(checkout: Path, ports: list[str]) -> None:
    names = ["card.example.com", "*.example.org", "192.0.2.7", "2001:db8::7"]
    asked = [word for name in names for word in ("--domain", name)]
    first = init(checkout, *ports, "--project", "shop", *asked)
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[-1].endswith("docker compose up -d --wait")
    is_complete(checkout)
    for name in [*SECRETS, *LATER]:
        assert (checkout / name).read_text().strip() not in first.stdout + first.stderr
    shown = subprocess.run(
        ["openssl", "x509", "-in", checkout / CERTIFICATES[1], "-noout", "-text"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in ("DNS:localhost", "DNS:card.example.com", "DNS:*.example.org", "IP Address:192.0.2.7"):
        assert name in shown
    assert "IP Address:2001:DB8:0:0:0:0:0:7" in shown
    assert "CA:FALSE" in shown

    before = contents(checkout)
    for again in ([], asked):
        second = init(checkout, *again)
        assert (second.returncode, second.stderr) == (0, "")
        assert "未作改动" in second.stdout
        assert "nothing changed" in second.stdout
    refuses(init(checkout, "--domain", "other.example.com"), "does not name other.example.com")
    refuses(init(checkout, "--https-port", "9"), f"says KADUN_HTTPS_PORT={ports[3]}: edit it there")
    assert contents(checkout) == before

    dotenv = checkout / ".env"
    whole = dotenv.read_text()
    dotenv.write_text(whole[: whole.index("KADUN_UID=")])
    refuses(init(checkout), ".env is incomplete (KADUN_APP_IMAGE is missing): move it away")
    dotenv.unlink()
    assert init(checkout, *ports, "--project", "shop", *asked).returncode == 0
    assert dotenv.read_text() == whole


def test_the_host_has_a_name_and_the_service_a_user_id_that_no_account_has(
    checkout: Path, ports: list[str], tmp_path: Path
) -> None:
    expected = 10003 if os.geteuid() == 0 else os.geteuid()
    shims = {
        "uname": "echo '-web 1.example.com.'",
        "getent": "for id; do case $id in 10001 | 10002) echo taken ;; esac; done",
    }
    (tmp_path / "shim").mkdir()
    for name, text in shims.items():
        (tmp_path / "shim" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "shim" / name).chmod(0o755)
    path = f"{tmp_path / 'shim'}:{os.environ['PATH']}"
    assert init(checkout, *ports, PATH=path).returncode == 0
    whole = (checkout / ".env").read_text()
    assert "\nKADUN_HOST=web-1.example.com\n" in whole
    assert f"\nKADUN_UID={expected}\n" in whole
    assert (checkout / "data/keys").stat().st_uid == expected
    (checkout / ".env").write_text(whole.replace("KADUN_HOST=web-1.example.com\n", ""))  # of an older version
    done = init(checkout, PATH=path)
    assert (done.returncode, "KADUN_HOST in .env" in done.stdout) == (0, True), done.stderr
    assert "\nKADUN_HOST=web-1.example.com\n" in (checkout / ".env").read_text()
    (checkout / ".env").unlink()
    assert init(checkout, *ports).returncode == 0
    assert f"\nKADUN_UID={expected}\n" in (checkout / ".env").read_text(), "it has to read the keys that are there"


def test_folders_of_others_get_the_right_modes(checkout: Path, ports: list[str]) -> None:
    (checkout / "data").mkdir(mode=0o755)  # by provision.sh; the source of core functions is in it
    (checkout / "data").chmod(0o755)
    (checkout / "data/pip-index-url").write_text("https://mirror.test/simple\n")
    shutil.copytree(ROOT / "postgres", checkout / "postgres")  # cloned under a strict umask; containers read it
    for path in (checkout / "postgres", *(checkout / "postgres").rglob("*")):
        path.chmod(path.stat().st_mode & 0o700)
    assert init(checkout, *ports).returncode == 0
    assert stat.S_IMODE((checkout / "data").stat().st_mode) == 0o700
    assert "PIP_INDEX_URL=https://mirror.test/simple\n" in (checkout / ".env").read_text()
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (checkout / "postgres").rglob("*")}
    assert (modes["init"], modes["as-role"], modes["roles.sql"]) == (0o755, 0o755, 0o644)
    assert stat.S_IMODE((checkout / "postgres").stat().st_mode) == 0o755

    folders = [checkout / "data" / name for name in ("files", "functions-packages")]
    for folder in folders:  # the engine made them to mount them
        folder.rmdir()
        folder.mkdir(0o700)
    done = init(checkout)
    assert done.returncode == 0, done.stderr
    # The engine's folders are root's, and only root can hand them over; one's own stay as they are.
    mode, owner = (0o755, APP_UID) if os.geteuid() == 0 else (0o700, os.geteuid())
    assert {(stat.S_IMODE(folder.stat().st_mode), folder.stat().st_uid) for folder in folders} == {(mode, owner)}


def test_killed_after_each_file_it_leaves_nothing_half_made_and_the_next_run_goes_on(
    checkout: Path, tmp_path: Path, ports: list[str]
) -> None:
    shim = tmp_path / "shim/mv"
    shim.parent.mkdir()
    shim.write_text(KILLER)
    shim.chmod(0o755)
    path = f"{shim.parent}:{os.environ['PATH']}"
    kept: dict[str, bytes] = {}
    kills = 0
    while kills < 30:
        done = init(checkout, *ports, PATH=path)
        now = {name: (checkout / name).read_bytes() for name in EVERYTHING if (checkout / name).exists()}
        assert [name for name, content in now.items() if not content] in ([], [LOCK])
        assert kept.items() <= now.items()
        kept = now
        if done.returncode != -signal.SIGKILL:
            break
        kills += 1
    assert (done.returncode, kills > 2) == (0, True), done.stderr
    is_complete(checkout)


def test_no_secret_is_made_anew_over_existing_data(checkout: Path, ports: list[str]) -> None:
    assert init(checkout, *ports).returncode == 0
    (checkout / "data/postgres/PG_VERSION").write_text("17\n")
    for name in SECRETS:
        (checkout / name).rename(checkout / "aside")
        before = contents(checkout)
        refuses(init(checkout), f"{name} is missing: put it back from a backup")
        assert contents(checkout) == before
        (checkout / "aside").rename(checkout / name)
    (checkout / "secrets/database_url").write_text("postgresql://kadun:0@database:5432/kadun\n")  # an older checkout's
    for name in ("owner_url", "backup_url"):
        (checkout / "secrets" / name).unlink()
    before = contents(checkout)
    refuses(init(checkout), "without separate roles: docs/operations.md")
    assert contents(checkout) == before


HOSTS = "[2001:db8::1]:5433,db.example.com"


def test_a_database_elsewhere_is_written_into_the_urls_and_chosen_by_compose(checkout: Path, ports: list[str]) -> None:
    done = init(checkout, *ports, "--database-host", HOSTS)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2].endswith("/scripts/database-roles.sh | sudo -u postgres psql")
    for name, role in ROLES.items():
        url = (checkout / "secrets" / name).read_text()
        wanted = f"@{re.escape(HOSTS)}/kadun\\?sslmode=require&channel_binding=require&target_session_attrs=read-write"
        assert re.fullmatch(rf"postgresql://{role}:[0-9a-f]{{48}}{wanted}\n", url)
    assert not (checkout / "secrets/db_password").exists(), "it would be the container's"
    assert not (checkout / "data/postgres").exists()
    dotenv, files = checkout / ".env", "COMPOSE_FILE=docker-compose.yml:docker-compose.external-database.yml\n"
    text = dotenv.read_text()
    assert f"\n{files}" in text
    before = contents(checkout)
    for again in ([], ["--database-host", HOSTS]):
        assert "nothing changed" in init(checkout, *again).stdout
    refuses(init(checkout, "--database-host", "elsewhere"), f"says that the database is at {HOSTS}: edit")
    assert contents(checkout) == before

    dotenv.write_text(text.replace(files, ""))
    refuses(init(checkout), f"add this to .env: {files.strip()}")
    dotenv.write_text(text)
    owner_url = checkout / "secrets/owner_url"
    owner_url.write_text(owner_url.read_text().replace(HOSTS, "database:5432"))
    refuses(init(checkout), "remove COMPOSE_FILE from .env")
    owner_url.unlink()
    refuses(init(checkout), "secrets/owner_url is missing: put it back")

    for folder in ("secrets", "data"):
        shutil.rmtree(checkout / folder)
    dotenv.unlink()
    assert init(checkout, *ports, "--database-host", "127.0.0.1").returncode == 0
    assert owner_url.read_text().endswith("@127.0.0.1/kadun\n"), "on this machine it needs no TLS"


WRONG = [
    ["--nonsense"], ["extra"], ["--domain"], ["--domain", ""], ["--domain", "a b"], ["--domain", "a/b"],
    ["--domain", "中文.com"], ["--http-port", "0"], ["--http-port", "65536"], ["--https-port", "http"],
    ["--http-port", "8443", "--https-port", "8443"], ["--https-port", "80"],
    ["--project", "My Shop"], ["--project", "-x"],
    ["--database-host", "postgresql://u:p@h/d"], ["--database-host", "a,"], ["--database-host", "database"],
]  # fmt: skip


def test_what_cannot_be_is_refused_with_one_line_before_anything_is_made(
    checkout: Path, ports: list[str], tmp_path: Path
) -> None:
    for arguments in WRONG:
        done = init(checkout, *arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), arguments
    refuses(init(checkout, *ports, "--domain", "1.2.3.999"), "is each --domain a host name or an IP address?")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refuses(init(checkout, "--https-port", port, "--http-port", str(quiet_port())), f"Port {port} is taken")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "env", "dirname", "flock", "stat", "sed", "tail", "rm"):
        (tools / name).symlink_to(shutil.which(name) or name)
    refuses(init(checkout, PATH=str(tools)), "apt-get install openssl")
    (checkout / CERTIFICATES[1]).write_text(f"my own {CERTIFICATES[1]}")
    refuses(init(checkout, *ports), "fullchain.pem without privkey.pem")
    assert not (checkout / "secrets").exists()

    (checkout / CERTIFICATES[0]).write_text(f"my own {CERTIFICATES[0]}")
    assert init(checkout, *ports).returncode == 0
    assert [(checkout / name).read_text() for name in CERTIFICATES] == [f"my own {name}" for name in CERTIFICATES]
