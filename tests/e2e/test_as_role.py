"""postgres/as-role: the one way to the database for every script."""

import os
import re
from pathlib import Path

import pytest

from tests.support.stack import ROOT, run

AS_ROLE = ROOT / "postgres/as-role"
URLS = {
    "postgresql://u:p@h/d": ["p", "--dbname=postgresql://u@h/d"],
    "postgres://u:p%40%2F%5c%25'@h1:1,[::1]:2/d?sslmode=require&x=y": [
        "p@/\\%'", "--dbname=postgresql://u@h1:1,[::1]:2/d?sslmode=require&x=y",
    ],
    "postgresql://u@%2Frun%2Fpostgresql/d": ["", "--dbname=postgresql://u@%2Frun%2Fpostgresql/d"],
}  # fmt: skip


@pytest.fixture
def tools(tmp_path: Path) -> dict[str, str]:
    """as-role on this machine, with a program that shows what it was given."""
    program = tmp_path / "show"
    program.write_text('#!/bin/bash\nprintf "%s\\n" "$PGPASSWORD" "$@"\n')
    program.chmod(0o755)
    (tmp_path / "setpriv").write_text('#!/bin/bash\nwhile [[ $1 != -- ]]; do shift; done\nshift\nexec "$@"\n')
    (tmp_path / "setpriv").chmod(0o755)
    return {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "KADUN_SECRETS": str(tmp_path),
        "KADUN_POSTGRES": str(AS_ROLE.parent),
    }


@pytest.mark.parametrize("url", URLS)
def test_as_role_takes_the_password_out_of_any_url(tools: dict[str, str], url: str) -> None:
    Path(tools["KADUN_SECRETS"], "owner_url").write_text(url + "\n")
    shown = run(AS_ROLE, "owner", "show", "a b", "", env=tools).stdout
    assert shown.splitlines() == [*URLS[url], "a b", ""]
    other = run(AS_ROLE, "owner", "--database", "x_1", "show", env=tools).stdout
    assert re.sub("/x_1", "/d", other).splitlines() == URLS[url]


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ([], 2), (["nobody", "show"], 2), (["owner"], 2), (["owner", "-c"], 2),
        (["owner", "--database", "a b", "show"], 2),
        (["backup", "show"], 1), (["owner", "show"], 1), (["app", "show"], 1),
    ],
)  # fmt: skip
def test_as_role_refuses_in_one_line(tools: dict[str, str], arguments: list[str], status: int) -> None:
    Path(tools["KADUN_SECRETS"], "owner_url").write_text("host=h user=u password=secret")
    Path(tools["KADUN_SECRETS"], "database_url").write_text("postgresql://u@h/d?password=secret")
    done = run(AS_ROLE, *arguments, env=tools, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (status, "", 1)
    assert "secret@" not in done.stderr
    assert "password=secret" not in done.stderr
