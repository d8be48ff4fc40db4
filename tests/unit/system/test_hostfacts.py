"""What hostfacts.py gathers of files; tests/containers/test_doctor.py has the engine and the network."""

import os
from pathlib import Path

import hostfacts
import pytest


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for folder in ("secrets", "data/keys", "data/backups", "data/backup-hooks.d", "https_certificates"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "secrets/db_password").write_text("hunter2\n")
    return tmp_path


def test_settings_are_told_by_name_and_only_those_that_a_check_reads_with_their_value(checkout: Path) -> None:
    (checkout / ".env").write_text(
        "# a comment\n\nKADUN_DOMAIN='a.test' # ours\nexport KADUN_BURST=\nNOTE=hunter2\nKADUN_WORKERS 4\n"
        "KADUN_BACKUP_WEBHOOK=https://hooks.test/token\n"
    )
    facts = hostfacts.host_facts(checkout)
    unset = dict.fromkeys(("KADUN_BURST", "NOTE", "KADUN_BACKUP_WEBHOOK"))
    assert (facts["settings"], facts["unreadable_lines"]) == ({"KADUN_DOMAIN": "a.test"} | unset, [6])


def test_the_last_backup_is_looked_for_and_so_are_hooks_that_can_be_run(checkout: Path) -> None:
    def found() -> tuple[bool, bool]:
        facts = hostfacts.host_facts(checkout)
        return facts["has_backup"], facts["has_hooks"]

    backups, hooks = checkout / "data/backups", checkout / "data/backup-hooks.d"
    for name, mode in ((".hidden", 0o755), ("notes", 0o644)):
        (hooks / name).touch(mode)
    assert found() == (False, False)
    (backups / "last-good").write_text("2026-11-27T03:17:09Z kadun-1.tar\n")
    (hooks / "50-away").touch(0o755)
    assert found() == (False, True)
    (backups / "kadun-1.tar").touch()
    assert found() == (True, True)


def test_modes_are_told_of_what_exists(checkout: Path) -> None:
    backup = checkout / "data/backups/kadun-20261127T031700Z.tar.age"
    backup.with_name(f"{backup.name}.sha256").touch(0o644)
    told = {"https_certificates/self-signed-privkey.pem": 0o644, f"data/backups/{backup.name}": 0o600}
    told |= {"secrets": 0o700, "data/keys": 0o700, "secrets/db_password": 0o644}
    for path, mode in told.items():
        if not (checkout / path).exists():
            (checkout / path).touch()
        (checkout / path).chmod(mode)
    assert hostfacts.modes(checkout, checkout / "data/backups") == told
    assert hostfacts.modes(checkout / "nowhere", checkout / "nowhere") == {}


def test_crons_file_is_this_checkouts_and_makes_backups(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hostfacts, "CRON_FOLDER", checkout)
    assert hostfacts.cron(checkout, "shop") == "missing"
    head, job = f"# Kadun\n# {checkout}\n", f"17 3 * * * root '{checkout}/scripts/backup.sh' --quiet\n"
    (checkout / "kadun-shop").write_text(head + job)
    assert hostfacts.cron(checkout, "shop") == "installed"
    for text in (head, f"{head}#{job}", f"# {checkout}-2\n{job}", ""):
        (checkout / "kadun-shop").write_text(text)
        assert hostfacts.cron(checkout, "shop") == "other", text
    monkeypatch.setattr(hostfacts, "text_of", lambda _: None)
    assert hostfacts.cron(checkout, "shop") is None


def test_the_room_is_that_of_folders_that_exist_and_told_once_for_each_disk(checkout: Path) -> None:
    (found,) = hostfacts.disks(checkout, checkout / "data", checkout / "nowhere")
    assert found["size"] > found["free"] > 0
    assert [disk["folder"] for disk in hostfacts.disks(checkout, Path("/proc"))] == [str(checkout), "/proc"]


def test_the_public_name_is_asked_as_customers_do() -> None:
    for domains, balancer, public in (
        ("", "false", []),
        ("203.0.113.9 *.example.com", "false", []),
        ("*.example.com", "false", [("example.com", 8443)]),
        ("card.example.com", "true", [("card.example.com", 443)]),
    ):
        settings = {"KADUN_HTTPS_PORT": "8443", "KADUN_DOMAIN": domains, "KADUN_PROXY_PROTOCOL": balancer}
        assert hostfacts.proxy_targets(settings) == [("127.0.0.1", 8443), ("::1", 8443), *public]


def test_a_mark_that_is_no_file_is_a_move_all_the_same_holds_nothing_up_and_tells_no_secret(checkout: Path) -> None:
    mark = checkout / "data/keys/moved-to"
    assert hostfacts.host_facts(checkout)["moved_to"] is None
    os.mkfifo(mark)
    assert hostfacts.host_facts(checkout)["moved_to"] == "?"
    mark.unlink()
    mark.symlink_to(checkout / "secrets/db_password")
    assert hostfacts.host_facts(checkout)["moved_to"] == "?"
