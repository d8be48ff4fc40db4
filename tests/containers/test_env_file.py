"""scripts/lib/env_file.py reads .env as Docker Compose does: every common way of writing a setting, read by both."""

import json
import os
from pathlib import Path

from scripts.lib import env_file
from tests.support.stack import run

FORMS = {
    "PLAIN": "=/mnt/disk",
    "DOUBLE": '="/mnt/disk"',
    "SINGLE": "='/mnt/a disk'",
    "WINDOWS": "=/mnt/disk\r",
    "QUOTED_WINDOWS": '="/mnt/disk"\r',
    "COMMENT": "=/mnt/disk # the second one",
    "TAB_COMMENT": "=/mnt/disk\t# the second one",
    "QUOTED_COMMENT": '="/mnt/disk" # the second one',
    "COMMENT_WINDOWS": "=/mnt/disk # the second one\r",
    "HASH": "=/mnt/disk#2",
    "QUOTED_HASH": '="/mnt/disk # 2"',
    "EMPTY": "=",
    "QUOTED_EMPTY": '=""',
    "SPACES": "=a b  ",
    "SPACE_BEFORE": "=  /mnt/disk",
    "SPACED": " = /mnt/disk",
    "INNER": "=it's",
    "INNER_PAIR": '=a "b" c',
    "OTHER_QUOTE": '="it\'s"',
    "URL": "=https://a.example/x?y=1&z=2#part",
    "TWICE": "=first\nTWICE=second",
}
PREFIXES = {"EXPORTED": "export EXPORTED=/mnt/disk", "INDENTED": "  INDENTED=/mnt/disk"}


def test_every_form_is_read_as_compose_reads_it(tmp_path: Path) -> None:
    names = [*FORMS, *PREFIXES]
    lines = [f"{name}{text}" for name, text in FORMS.items()] + list(PREFIXES.values())
    (tmp_path / ".env").write_text("# a comment\n" + "\n".join(lines) + "\n", newline="")
    environment = {name: f"${{{name}-unset}}" for name in names}
    services = {"services": {"one": {"image": "none", "environment": environment}}}
    (tmp_path / "compose.yaml").write_text(json.dumps(services))
    bare = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
    config = run("docker", "compose", "config", "--format", "json", cwd=tmp_path, env=bare).stdout
    theirs = json.loads(config)["services"]["one"]["environment"]
    text = env_file.read(tmp_path / ".env")
    assert {name: env_file.value(text, name) for name in names} == theirs
    assert theirs["QUOTED_COMMENT"] == "/mnt/disk", "it was read at all"
