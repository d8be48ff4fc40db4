"""The text of the cron file, and the options that are read back from it."""

import pytest
from cron_table import Schedule, read, render

DOCKER = "/usr/bin/docker"
PLAIN = Schedule("03:17", "04:47", "sun")


def test_the_file_has_a_job_for_backups_and_one_for_their_verification() -> None:
    assert render("/opt/kadun", DOCKER, PLAIN) == (
        "# Kadun 卡盾: scripts/install-cron.sh\n"
        "# /opt/kadun\n"
        "SHELL=/bin/sh\n"
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"
        "17 3 * * * root /opt/kadun/scripts/backup.sh --quiet --once\n"
        "47 4 * * sun root /opt/kadun/scripts/verify-backup.sh --quiet --once\n"
    )


@pytest.mark.parametrize(
    "schedule",
    [
        PLAIN,
        Schedule("00:00", "23:59", "daily", "me@kadun.test", "/root/a vendor's 100% key"),
        Schedule("09:05", "00:00", "never"),
        Schedule("09:05", "00:00", "never", "me@kadun.test"),
    ],
)
@pytest.mark.parametrize("root", ["/opt/kadun", "/srv/a vendor's 100% stack"])
def test_what_was_written_is_read_back(root: str, schedule: Schedule) -> None:
    text = render(root, DOCKER, schedule)
    assert read(text) == schedule
    jobs = [line for line in text.splitlines() if not line.startswith("#")]
    assert all("%" not in line.replace("\\%", "") for line in jobs), "cron would end the command there"


def test_a_folder_of_docker_that_cron_does_not_search_is_added() -> None:
    assert "/sbin:/bin:/snap/bin\n" in render("/opt/kadun", "/snap/bin/docker", PLAIN)


@pytest.mark.parametrize(
    "text", ["", "17 3 * * * root true", "#17 3 * * * root /opt/kadun/scripts/backup.sh", "17 3 * * * root '/backup.sh"]
)
def test_a_file_without_a_backup_has_no_schedule(text: str) -> None:
    assert read(text) is None
