"""`cardctl doctor` knows every setting of .env, and what its values may be."""

import re
from pathlib import Path

import pytest

from app.environment import SettingsError
from app.services.doctor.dotenv import COMPOSE, SETTINGS
from scripts.lib import env_file
from tests.support.doctor_facts import checked, differing
from tests.support.tables import for_each

ROOT = Path(__file__).resolve().parents[2]
INVALID = {
    "COMPOSE_PROJECT_NAME": "Kadun",
    "KADUN_HTTP_PORT": "0",
    "KADUN_HTTPS_PORT": "65536",
    "KADUN_DOMAIN": "https://example.com/",
    "KADUN_DOCTOR_PORTS": "8888/sctp",
    "KADUN_UID": "kadun",
    "KADUN_NGINX_IMAGE": "nginx 1.28",
    "PIP_INDEX_URL": "mirrors.example.com",
    "KADUN_RATE": "10r/s",
    "KADUN_BURST": "0",  # nginx would not start
    "KADUN_ADMIN_ALLOW": "203.0.113.7 example.com",
    "KADUN_HSTS": "63072000",
    "KADUN_REQUIRE_SEALED": "yes",
    "KADUN_TIMEZONE": "Mars",
    "KADUN_WORKERS": "65",
    "KADUN_FUNCTION_CONCURRENCY": "65",
    "KADUN_DB_MEMORY": "1 X",
    "KADUN_DB_SHARED_BUFFERS": "128m",
    "KADUN_BACKUP_KEEP_DAILY": "a week",
    "KADUN_BACKUP_RECIPIENT": "None",
    "KADUN_BACKUP_HOOK_SECONDS": "0",
    "KADUN_FILES_BUCKET_ENDPOINT": "http://oss.example.com",
    "KADUN_FILES_BUCKET_REGION": "China",
    "KADUN_FILES_BUCKET_STYLE": "host",
    "KADUN_RESOLVER": "dns.example.com",
}
MANY_PORTS = "25565 " * 40 + "30000-30100"  # refused at once, not after trying every way to divide the digits


def test_the_settings_are_those_of_the_template_and_of_compose() -> None:
    template = re.findall(r"^#?([A-Z_]+)=", (ROOT / "scripts/lib/env.template").read_text("utf-8"), re.MULTILINE)
    files = (*ROOT.glob("docker-compose*.yml"), *ROOT.glob("deploy/*.yml"))
    composed = "".join(path.read_text("utf-8") for path in files)
    passed_on = re.findall(r"(?<=\$\{)[A-Z_]+|(?<=    )KADUN_[A-Z_]+(?=:$)", composed, re.MULTILINE)
    assert set(SETTINGS) == {*template, *passed_on}
    assert not set(SETTINGS) & COMPOSE


def test_the_settings_that_the_scripts_read_are_among_them() -> None:
    scripts = [path for path in (ROOT / "scripts").rglob("*") if path.is_file() and path.suffix in ("", ".sh")]
    calls = r"\b(?:setting|folder_setting|read_number \w+) ((?:KADUN|COMPOSE)_[A-Z_]+)"
    read = {name for path in scripts for name in re.findall(calls, path.read_text("utf-8"))}
    assert len(read) > 10
    assert read <= {*SETTINGS, *COMPOSE}


def test_the_values_of_the_template_are_valid() -> None:
    text = (ROOT / "scripts/lib/env.template").read_text("utf-8")
    text = re.sub(r"^#(?=[A-Z_]+=)", "", text, flags=re.MULTILINE)
    values = {name: env_file.value(text, name) for name in SETTINGS}
    fixed = {name: value for name, value in values.items() if value and "${" not in value}
    assert len(fixed) > 20
    for name, value in fixed.items():
        SETTINGS[name](name, value)


@for_each("name, value", [*INVALID.items(), ("KADUN_DOCTOR_PORTS", MANY_PORTS)])
def test_an_invalid_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        SETTINGS[name](name, value)


def test_ports_differ_and_the_nearest_name_is_suggested_and_the_line_named() -> None:
    settings = {"settings": {"KADUN_HTTP_PORT": "443", "KADUN_HTTPS_PORT": "443"}, "sockets": ""}
    assert differing(checked(**settings)) == {"env-values": "FAIL"}
    names = {"settings": {"KADUN_ADMIN_ALOW": "::1", "NOTE": "mine"}, "unreadable_lines": [3]}
    message = checked(**names)["env-names"].message_en
    assert message.endswith("in .env: line 3, KADUN_ADMIN_ALOW → KADUN_ADMIN_ALLOW")
