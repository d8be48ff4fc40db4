"""scripts/init.sh: makes everything once, refuses what would lose data, survives being killed anywhere."""
# Owns run-init.

import os
import re
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import pyrage
import pytest

from tests.support.hosts.stack import run
from tests.support.services.http_exchange import quiet_port
from tests.support.services.service import ROOT

ROLES = {"owner_url": "kadun_owner", "backup_url": "kadun_backup", "database_url": "kadun_app"}
SECRETS = ["secrets/db_password", "secrets/kernal_data_key", *(f"secrets/{name}" for name in ROLES)]
CERTIFICATES = ["https_certificates/privkey.pem", "https_certificates/fullchain.pem"]
SEALING_KEY, KEYS_IDENTITY, IDENTITY = LATER = "secrets/sealing_key", "secrets/keys_identity", "secrets/backup_identity"
"""Not among SECRETS: an upgrade makes them beside an existing database."""
LOCK = "data/.setup.lock"
NOTE = "data/.project"
EVERYTHING = [*SECRETS, *LATER, *CERTIFICATES, ".env", LOCK, NOTE]
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
    return run(checkout / "scripts/init.sh", *arguments, check=False, env=os.environ | environment, cwd="/")


def path_with(folder: Path, **programs: str) -> str:
    (folder / "shims").mkdir()
    for name, text in programs.items():
        (folder / "shims" / name).write_text(text)
        (folder / "shims" / name).chmod(0o755)
    return f"{folder / 'shims'}:{os.environ['PATH']}"


def contents(checkout: Path) -> dict[str, tuple[int, int, bytes]]:
    """Everything but the scripts: when last changed, mode, bytes."""
    found = {}
    for path in checkout.rglob("*"):
        name = str(path.relative_to(checkout))
        if not name.startswith("scripts"):
            status = path.stat()
            found[name] = (status.st_ctime_ns, status.st_mode, path.read_bytes() if path.is_file() else b"")
    return found


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def refuses(checkout: Path, words: str, *arguments: str, **environment: str) -> None:
    """Assert that it refuses in one line with these words, and changes nothing."""
    before = contents(checkout)
    done = init(checkout, *arguments, **environment)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert words in done.stderr
    assert contents(checkout) == before


def is_complete(checkout: Path) -> None:
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
    of_key = run("openssl", "pkey", "-pubout", "-in", checkout / CERTIFICATES[0]).stdout
    assert of_key == run("openssl", "x509", "-noout", "-pubkey", "-in", checkout / CERTIFICATES[1]).stdout
    assert re.fullmatch(r"[0-9a-f]{64}\n", (checkout / SEALING_KEY).read_text())
    data = [f"data/{name}" for name in ("acme", "files", "functions", "functions-packages")]
    for mode, names_of_mode in (
        (0o600, [*SECRETS, *LATER, CERTIFICATES[0], LOCK, NOTE]),
        (0o644, [CERTIFICATES[1], ".env"]),
        (0o700, ["secrets", "data/keys", "data/postgres"]),
        (0o755, data),
    ):
        assert {mode_of(checkout / name) for name in names_of_mode} == {mode}, names_of_mode
    of_service = [*SECRETS[1:], SEALING_KEY, KEYS_IDENTITY, "data/keys", "data/files", "data/functions-packages"]
    for name in of_service:
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
    shown = run("openssl", "x509", "-in", checkout / CERTIFICATES[1], "-noout", "-text").stdout
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
    assert contents(checkout) == before
    refuses(checkout, "without other.example.com: move both", "--domain", "other.example.com")
    refuses(checkout, f"says KADUN_HTTPS_PORT={ports[3]}: edit it there", "--https-port", "9")

    dotenv = checkout / ".env"
    whole = dotenv.read_text()
    dotenv.write_text(whole[: whole.index("KADUN_UID=")])
    no_engine = {"DOCKER_HOST": "unix:///none"}  # the containers cannot be asked: the note must do
    assert "copy your own settings back" in init(checkout, *asked, **no_engine).stderr
    assert dotenv.read_text() == whole, "project and ports are those that it noted"
    (aside,) = checkout.glob(".env.cut-off-*")
    assert whole.startswith(aside.read_text())
    dotenv.write_text(whole.replace("KADUN_DOMAIN=", "KADUN_DOMAIN=card.test"))
    init(checkout)  # notes it
    dotenv.unlink()
    assert "copy your own settings back" in init(checkout).stderr
    assert "\nKADUN_DOMAIN=card.test" in dotenv.read_text()


def test_a_lost_env_gets_the_project_and_the_ports_of_this_folders_containers(checkout: Path, tmp_path: Path) -> None:
    inspected = "COMPOSE_PROJECT_NAME=shop\nKADUN_HTTP_PORT=8080\nKADUN_HTTPS_PORT=8443\nPATH=/bin\n"
    engine = (
        f'#!/bin/sh\ncase "$*" in ps*"working_dir={checkout}"*) echo id ;; inspect*) printf "{inspected}" ;; esac\n'
    )
    done = init(checkout, PATH=path_with(tmp_path, docker=engine))
    assert done.returncode == 0, done.stderr
    text = (checkout / ".env").read_text()
    for line in (*inspected.splitlines()[:3], "KADUN_APP_IMAGE=shop-app"):
        assert f"\n{line}\n" in text


def test_the_host_has_a_name_and_the_service_a_user_id_that_no_account_has(
    checkout: Path, ports: list[str], tmp_path: Path
) -> None:
    expected = 10003 if os.geteuid() == 0 else os.geteuid()
    names = "#!/bin/sh\nfor id; do case $id in 10001 | 10002) exit 0 ;; esac; done; exit 2\n"
    path = path_with(tmp_path, uname="#!/bin/sh\necho web-1.example.com\n", getent=names)
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
    (checkout / "data").mkdir(mode=0o755)  # made by hand; the source of core functions is in it
    (checkout / "data").chmod(0o755)
    postgres = checkout / "deploy/postgres"
    shutil.copytree(ROOT / "deploy/postgres", postgres)  # cloned under a strict umask; containers read it
    for path in (postgres, *postgres.rglob("*")):
        path.chmod(path.stat().st_mode & 0o700)
    assert init(checkout, *ports).returncode == 0
    assert mode_of(checkout / "data") == 0o700
    modes = {path.name: mode_of(path) for path in postgres.rglob("*")}
    assert (modes["init"], modes["as-role"], modes["roles.sql"]) == (0o755, 0o755, 0o644)
    assert mode_of(postgres) == 0o755

    folders = [checkout / "data" / name for name in ("files", "functions-packages")]
    for folder in folders:  # the engine made them to mount them
        folder.rmdir()
        folder.mkdir(0o700)
    done = init(checkout)
    assert done.returncode == 0, done.stderr
    assert {(mode_of(folder), folder.stat().st_uid) for folder in folders} == {(0o755, APP_UID)}


def test_killed_after_each_file_it_leaves_nothing_half_made_and_the_next_run_goes_on(
    checkout: Path, tmp_path: Path, ports: list[str]
) -> None:
    path = path_with(tmp_path, mv=KILLER)
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
        refuses(checkout, f"{name} is missing: put it back from a backup")
        (checkout / "aside").rename(checkout / name)


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
    dotenv, files = checkout / ".env", "COMPOSE_FILE=docker-compose.yml:deploy/external-database.yml\n"
    text = dotenv.read_text()
    assert f"\n{files}" in text
    before = contents(checkout)
    for again in ([], ["--database-host", HOSTS]):
        assert "nothing changed" in init(checkout, *again).stdout
    assert contents(checkout) == before
    refuses(checkout, f"says host={HOSTS}: edit it there", "--database-host", "elsewhere")

    dotenv.write_text(text.replace("deploy/", "docker-compose."))
    refuses(checkout, "a file of an older version: run git pull && scripts/upgrade.sh --no-pull")
    dotenv.write_text(text.replace(files, ""))
    assert "COMPOSE_FILE in .env" in init(checkout).stdout
    assert f"\n{files}" in dotenv.read_text()
    owner_url = checkout / "secrets/owner_url"
    owner_url.unlink()
    refuses(checkout, "secrets/owner_url is missing: put it back")

    for folder in ("secrets", "data"):
        shutil.rmtree(checkout / folder)
    dotenv.unlink()
    assert init(checkout, *ports, "--database-host", "127.0.0.1").returncode == 0
    assert owner_url.read_text().endswith("@127.0.0.1/kadun\n"), "on this machine it needs no TLS"


WRONG = [
    ["extra"], ["--domain", ""], ["--domain", "a b"], ["--domain", "a/b"],
    ["--domain", "中文.com"], ["--http-port", "0"], ["--https-port", "http"],
    ["--project", "My Shop"], ["--project", "-x"],
    ["--database-host", "postgresql://u:p@h/d"], ["--database-host", "a,"],
]  # fmt: skip


def test_what_cannot_be_is_refused_with_one_line_before_anything_is_made(
    checkout: Path, ports: list[str], tmp_path: Path
) -> None:
    for arguments in WRONG:
        done = init(checkout, *arguments)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), arguments
    refuses(checkout, "is each --domain a host name or an IP address?", *ports, "--domain", "1.2.3.999")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "env", "dirname", "flock", "stat", "sed", "tail", "rm", "tr"):
        (tools / name).symlink_to(shutil.which(name) or name)
    refuses(checkout, "apt-get install openssl", PATH=str(tools))
    (checkout / CERTIFICATES[1]).write_text(f"my own {CERTIFICATES[1]}")
    refuses(checkout, "without privkey.pem: move both", *ports)
    assert not (checkout / "secrets").exists()

    (checkout / CERTIFICATES[0]).write_text(f"my own {CERTIFICATES[0]}")
    assert init(checkout, *ports).returncode == 0
    assert [(checkout / name).read_text() for name in CERTIFICATES] == [f"my own {name}" for name in CERTIFICATES]
