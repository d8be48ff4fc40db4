"""scripts/init.sh: makes everything once, refuses what would lose data, survives being killed anywhere."""

import os
import re
import shutil
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
# Stands in for a program and kills the script at its Nth call, before (or after) doing the work.
echo >>"$KILLER_COUNT"
if (($(wc -l <"$KILLER_COUNT") == KILLER_AT)); then
    [[ $KILLER_AFTER == 0 ]] || "/usr/bin/${0##*/}" "$@"
    kill -9 $PPID
    exit
fi
exec "/usr/bin/${0##*/}" "$@"
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


def test_a_cut_off_env_file_is_not_called_complete(checkout: Path, ports: list[str]) -> None:
    assert init(checkout, *ports, "--project", "shop").returncode == 0
    dotenv = checkout / ".env"
    whole = dotenv.read_text()
    dotenv.write_text(whole[: whole.index("KADUN_UID=")])
    before = contents(checkout)
    refuses(init(checkout), ".env is incomplete (KADUN_APP_IMAGE is missing): move it away")
    assert contents(checkout) == before
    dotenv.unlink()
    assert init(checkout, *ports, "--project", "shop").returncode == 0
    assert dotenv.read_text() == whole


def test_everything_is_made_once_and_a_second_run_changes_nothing(checkout: Path, ports: list[str]) -> None:
    first = init(checkout, *ports, "--project", "shop")
    assert first.returncode == 0, first.stderr
    assert first.stdout.splitlines()[-1].endswith("docker compose up -d --wait")
    is_complete(checkout)
    before = contents(checkout)
    second = init(checkout)
    assert (second.returncode, second.stderr) == (0, "")
    assert "未作改动" in second.stdout
    assert "nothing changed" in second.stdout
    assert contents(checkout) == before


def test_the_host_has_a_name_and_settings_of_an_older_version_or_another_host_get_it(
    checkout: Path, ports: list[str], tmp_path: Path
) -> None:
    shim = tmp_path / "shim/uname"
    shim.parent.mkdir()
    shim.write_text("#!/bin/sh\necho '-web 1.example.com.'\n")
    shim.chmod(0o755)
    path = f"{shim.parent}:{os.environ['PATH']}"
    assert init(checkout, *ports, PATH=path).returncode == 0
    whole = (checkout / ".env").read_text()
    assert "\nKADUN_HOST=web-1.example.com\n" in whole
    (checkout / ".env").write_text(whole.replace("KADUN_HOST=web-1.example.com\n", ""))
    done = init(checkout, PATH=path)
    assert (done.returncode, "KADUN_HOST in .env" in done.stdout) == (0, True), done.stderr
    assert "\nKADUN_HOST=web-1.example.com\n" in (checkout / ".env").read_text()
    assert "nothing changed" in init(checkout).stdout


def test_the_service_gets_a_user_id_that_no_account_has(checkout: Path, ports: list[str], tmp_path: Path) -> None:
    expected = 10003 if os.geteuid() == 0 else os.geteuid()
    shim = tmp_path / "shim/getent"
    shim.parent.mkdir()
    shim.write_text("#!/bin/sh\nfor id; do case $id in 10001 | 10002) echo taken ;; esac; done\n")
    shim.chmod(0o755)
    assert init(checkout, *ports, PATH=f"{shim.parent}:{os.environ['PATH']}").returncode == 0
    assert f"\nKADUN_UID={expected}\n" in (checkout / ".env").read_text()
    assert (checkout / "data/keys").stat().st_uid == expected
    (checkout / ".env").unlink()
    assert init(checkout, *ports).returncode == 0
    assert f"\nKADUN_UID={expected}\n" in (checkout / ".env").read_text(), "it has to read the keys that are there"


def test_the_folder_that_provision_made_is_closed_to_other_users(checkout: Path, ports: list[str]) -> None:
    """The source of core functions is in it."""
    (checkout / "data").mkdir(mode=0o755)
    (checkout / "data").chmod(0o755)
    (checkout / "data/pip-index-url").write_text("https://mirror.test/simple\n")
    assert init(checkout, *ports).returncode == 0
    assert stat.S_IMODE((checkout / "data").stat().st_mode) == 0o700
    assert "PIP_INDEX_URL=https://mirror.test/simple\n" in (checkout / ".env").read_text()


def test_folders_that_the_engine_made_to_mount_them_become_the_services(checkout: Path, ports: list[str]) -> None:
    assert init(checkout, *ports).returncode == 0
    folders = [checkout / "data" / name for name in ("files", "functions-packages")]
    for folder in folders:
        folder.rmdir()
        folder.mkdir(0o700)
    done = init(checkout)
    assert done.returncode == 0, done.stderr
    if os.geteuid() == 0:
        is_complete(checkout)
    else:  # the engine's folders are root's, and only root can hand them over; one's own stay as they are
        assert {stat.S_IMODE(folder.stat().st_mode) for folder in folders} == {0o700}


def test_no_secret_is_printed(checkout: Path, ports: list[str]) -> None:
    done = init(checkout, *ports)
    for name in [*SECRETS, *LATER]:
        assert (checkout / name).read_text().strip() not in done.stdout + done.stderr


def test_the_certificate_names_what_was_asked_for(checkout: Path, ports: list[str]) -> None:
    names = ["card.example.com", "*.example.org", "192.0.2.7", "2001:db8::7"]
    asked = [word for name in names for word in ("--domain", name)]
    assert init(checkout, *ports, *asked).returncode == 0
    shown = subprocess.run(
        ["openssl", "x509", "-in", checkout / CERTIFICATES[1], "-noout", "-text"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in ("DNS:localhost", "DNS:card.example.com", "DNS:*.example.org", "IP Address:192.0.2.7"):
        assert name in shown
    assert "IP Address:2001:DB8:0:0:0:0:0:7" in shown
    assert "CA:FALSE" in shown
    assert init(checkout, *asked).returncode == 0
    refuses(init(checkout, "--domain", "other.example.com"), "does not name other.example.com")


@pytest.mark.parametrize("program", ["mv", "openssl"])
@pytest.mark.parametrize("after", ["0", "1"])
def test_killed_anywhere_it_leaves_nothing_half_made_and_the_next_run_completes_it(
    checkout: Path, tmp_path: Path, ports: list[str], program: str, after: str
) -> None:
    shim = tmp_path / "shim" / program
    shim.parent.mkdir()
    shim.write_text(KILLER)
    shim.chmod(0o755)
    path = f"{shim.parent}:{os.environ['PATH']}"
    for at in range(1, 30):
        count = tmp_path / f"count-{at}"
        done = init(checkout, *ports, PATH=path, KILLER_COUNT=str(count), KILLER_AT=str(at), KILLER_AFTER=after)
        if count.read_text().count("\n") < at:  # it came to its end before
            break
        kept = {name: (checkout / name).read_bytes() for name in EVERYTHING if (checkout / name).exists()}
        assert [name for name, content in kept.items() if not content] in ([], [LOCK])
        again = init(checkout, *ports)
        assert again.returncode == 0, again.stderr
        is_complete(checkout)
        assert {name: (checkout / name).read_bytes() for name in kept} == kept
        for name in (".env", "secrets", "data", *CERTIFICATES):
            path_made = checkout / name
            shutil.rmtree(path_made) if path_made.is_dir() else path_made.unlink()
    assert done.returncode == 0
    assert at > 2, "it was killed at least twice"


@pytest.mark.parametrize("name", SECRETS)
def test_no_secret_is_made_anew_over_existing_data(checkout: Path, ports: list[str], name: str) -> None:
    assert init(checkout, *ports).returncode == 0
    (checkout / "data/postgres/PG_VERSION").write_text("17\n")
    (checkout / name).unlink()
    before = contents(checkout)
    refuses(init(checkout), f"{name} is missing: put it back from a backup")
    assert contents(checkout) == before


def test_an_older_checkouts_data_are_left_alone_and_the_way_on_is_named(checkout: Path, ports: list[str]) -> None:
    assert init(checkout, *ports).returncode == 0
    (checkout / "data/postgres/PG_VERSION").write_text("17\n")
    (checkout / "secrets/database_url").write_text("postgresql://kadun:0@database:5432/kadun\n")
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
    files = "docker-compose.yml:docker-compose.external-database.yml"
    assert f"\nCOMPOSE_FILE={files}\n" in (checkout / ".env").read_text()
    before = contents(checkout)
    for again in ([], ["--database-host", HOSTS]):
        assert "nothing changed" in init(checkout, *again).stdout
    refuses(init(checkout, "--database-host", "elsewhere"), f"says that the database is at {HOSTS}: edit")
    assert contents(checkout) == before


def test_what_containers_read_is_readable_though_it_was_cloned_under_a_strict_umask(
    checkout: Path, ports: list[str]
) -> None:
    shutil.copytree(ROOT / "postgres", checkout / "postgres")
    for path in (checkout / "postgres").rglob("*"):
        path.chmod(path.stat().st_mode & 0o700)
    (checkout / "postgres").chmod(0o700)
    assert init(checkout, *ports).returncode == 0
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (checkout / "postgres").rglob("*")}
    assert (modes["init"], modes["as-role"], modes["roles.sql"]) == (0o755, 0o755, 0o644)
    assert stat.S_IMODE((checkout / "postgres").stat().st_mode) == 0o755


def test_a_database_on_this_machine_needs_no_tls(checkout: Path, ports: list[str]) -> None:
    assert init(checkout, *ports, "--database-host", "127.0.0.1").returncode == 0
    assert (checkout / "secrets/owner_url").read_text().endswith("@127.0.0.1/kadun\n")


def test_secrets_and_env_that_disagree_about_the_database_are_not_guessed_at(checkout: Path, ports: list[str]) -> None:
    assert init(checkout, *ports, "--database-host", "127.0.0.1").returncode == 0
    dotenv = checkout / ".env"
    text = dotenv.read_text()
    dotenv.write_text(re.sub("^COMPOSE_FILE=.*\n", "", text, flags=re.MULTILINE))
    refuses(init(checkout), "add this to .env: COMPOSE_FILE=docker-compose.yml:docker-compose.external-database.yml")
    dotenv.write_text(text)
    url = checkout / "secrets/owner_url"
    url.write_text(url.read_text().replace("127.0.0.1", "database:5432"))
    refuses(init(checkout), "remove COMPOSE_FILE from .env")
    url.unlink()
    refuses(init(checkout), "secrets/owner_url is missing: put it back")


def test_a_certificate_without_its_key_is_left_alone(checkout: Path, ports: list[str]) -> None:
    (checkout / CERTIFICATES[1]).write_text("someone's certificate")
    refuses(init(checkout, *ports), "fullchain.pem without privkey.pem")
    assert not (checkout / "secrets").exists()


def test_a_certificate_of_ones_own_is_kept(checkout: Path, ports: list[str]) -> None:
    for name in CERTIFICATES:
        (checkout / name).write_text(f"my own {name}")
    assert init(checkout, *ports).returncode == 0
    assert [(checkout / name).read_text() for name in CERTIFICATES] == [f"my own {name}" for name in CERTIFICATES]


def test_a_taken_port_is_refused_before_anything_is_made(checkout: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        refuses(init(checkout, "--https-port", port, "--http-port", str(quiet_port())), f"Port {port} is taken")
    assert not (checkout / "secrets").exists()


def test_what_env_says_already_is_not_overruled(checkout: Path, ports: list[str]) -> None:
    assert init(checkout, *ports).returncode == 0
    refuses(init(checkout, "--https-port", "9"), f"says KADUN_HTTPS_PORT={ports[3]}: edit it there")
    assert init(checkout, *ports).returncode == 0


def test_without_openssl_it_says_how_to_bring_it(checkout: Path, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "env", "dirname", "flock", "stat", "sed", "tail", "rm"):
        (tools / name).symlink_to(shutil.which(name) or name)
    refuses(init(checkout, PATH=str(tools)), "apt-get install openssl")
    assert not (checkout / "secrets").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["--nonsense"], ["extra"], ["--domain"], ["--domain", ""], ["--domain", "a b"], ["--domain", "a/b"],
        ["--domain", "中文.com"], ["--http-port", "0"], ["--http-port", "65536"], ["--https-port", "http"],
        ["--http-port", "8443", "--https-port", "8443"], ["--https-port", "80"],
        ["--project", "My Shop"], ["--project", "-x"],
        ["--database-host", "postgresql://u:p@h/d"], ["--database-host", "a,"], ["--database-host", "database"],
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused_with_one_line(checkout: Path, arguments: list[str]) -> None:
    done = init(checkout, *arguments)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert not (checkout / "secrets").exists()


def test_a_name_that_is_none_is_refused_before_anything_is_made(checkout: Path, ports: list[str]) -> None:
    refuses(init(checkout, *ports, "--domain", "1.2.3.999"), "is each --domain a host name or an IP address?")
    assert not (checkout / "secrets").exists()
