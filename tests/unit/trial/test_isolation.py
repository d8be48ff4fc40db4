import os
from pathlib import Path

import pytest

from app.functions.places import IDS
from trial import isolation
from trial.environment import Trial
from trial.isolation import FUNCTION_UIDS, first_function_uid, isolate


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    made = Trial(tmp_path, 8123)
    made.functions.mkdir(mode=0o700)
    return made


def test_functions_have_user_ids_that_follow_from_the_folder_and_that_no_account_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert FUNCTION_UIDS == IDS
    first = first_function_uid(Path("/srv/trial"))
    assert first_function_uid(Path("/srv/trial")) == first
    assert abs(first_function_uid(Path("/srv/other")) - first) >= IDS
    taken = first + IDS - 1
    monkeypatch.setattr(isolation, "_has_account", lambda uid: uid == taken)
    assert first_function_uid(Path("/srv/trial")) > taken


def test_roots_calls_have_user_ids_and_may_read_the_functions(
    trial: Trial, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    owners: list[tuple[Path, int, int]] = []
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, user, group: owners.append((path, user, group)))
    monkeypatch.setattr(isolation, "first_barred", lambda _path, _account: None)
    first = first_function_uid(trial.data_dir)
    assert isolate(trial) == first
    assert owners == [(trial.functions, -1, first)]
    assert trial.functions.stat().st_mode & 0o7777 == 0o2750
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("user", "barred", "said"),
    [
        (1000, None, "not isolated from one another: that takes root."),
        (
            0,
            "/root",
            "not isolated from one another: other users cannot enter /root, where Python is; to isolate them,",
        ),
    ],
)
def test_where_calls_cannot_have_user_ids_the_person_is_told_why(
    trial: Trial,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    user: int,
    barred: str | None,
    said: str,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(isolation, "first_barred", lambda _path, _account: barred)
    assert isolate(trial) is None
    assert said in capsys.readouterr().out
    assert trial.functions.stat().st_mode & 0o7777 == 0o700
