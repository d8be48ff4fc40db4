"""`cardctl doctor` knows every setting of .env."""

import re
from pathlib import Path

from app.environment import By, names
from app.services.doctor.dotenv import COMPOSE

ROOT = Path(__file__).resolve().parents[2]


def test_the_settings_are_those_of_the_template_and_of_compose() -> None:
    template = re.findall(r"^#?([A-Z_]+)=", (ROOT / "scripts/lib/env.template").read_text("utf-8"), re.MULTILINE)
    files = (*ROOT.glob("docker-compose*.yml"), *ROOT.glob("deploy/*.yml"))
    composed = "".join(path.read_text("utf-8") for path in files)
    passed_on = re.findall(r"(?<=\$\{)[A-Z_]+|(?<=    )KADUN_[A-Z_]+(?=:$)", composed, re.MULTILINE)
    assert {*template, *passed_on} == names(By.DOTENV)
    assert not names(By.DOTENV) & COMPOSE


def test_the_settings_that_the_scripts_read_are_among_them() -> None:
    scripts = [path for path in (ROOT / "scripts").rglob("*") if path.is_file() and path.suffix in ("", ".sh")]
    calls = r"\b(?:setting|folder_setting|read_number \w+) ((?:KADUN|COMPOSE)_[A-Z_]+)"
    read = {name for path in scripts for name in re.findall(calls, path.read_text("utf-8"))}
    assert len(read) > 10
    assert read <= names(By.DOTENV) | COMPOSE
