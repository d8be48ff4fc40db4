"""Logs: one JSON object per line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from app import logs

ROOT = Path(__file__).resolve().parents[2]

# In a process of its own, since the configuration is the whole process's.
PROGRAM = """
import logging, logging.config, sys
from app import logs

logging.config.dictConfig(logs.configuration(sys.argv[1]))
logger = logging.getLogger("app.test")
logger.debug("a debug line")
logger.info("two\\nlines, %s", "打开程序", extra={"request_id": "R1", "count": 3})
logger.warning("escapes \\x1b[31m \\u2028")
try:
    raise ValueError("broken\\nin two")
except ValueError:
    logger.exception("it failed")
logging.getLogger("gunicorn.error").error("from gunicorn")
logging.getLogger("gunicorn.access").error("from its access log")
"""


def logged(level: str) -> list[dict[str, Any]]:
    """Return what a process that logs at this level writes to stderr, a JSON document a line."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, level], cwd=ROOT, capture_output=True, check=True, timeout=60)
    assert done.stdout == b""
    return [json.loads(line) for line in done.stderr.decode().removesuffix("\n").split("\n")]


def test_each_line_is_one_json_object_with_level_logger_message_and_time() -> None:
    lines = logged("info")
    assert [line["message"] for line in lines] == [
        "two\nlines, 打开程序",
        "escapes \x1b[31m \u2028",
        "it failed",
        "from gunicorn",
    ]
    assert [line["level"] for line in lines] == ["INFO", "WARNING", "ERROR", "ERROR"]
    assert [line["logger"] for line in lines] == ["app.test"] * 3 + ["gunicorn.error"]
    assert all(line["at"].endswith("+00:00") for line in lines)


def test_extra_fields_keep_their_names_and_types() -> None:
    line = logged("info")[0]
    assert (line["request_id"], line["count"]) == ("R1", 3)


def test_a_traceback_is_a_field_of_the_same_line() -> None:
    line = logged("info")[2]
    assert "ValueError: broken\nin two" in line["exc_info"]


@pytest.mark.parametrize(("level", "count"), [("debug", 5), ("info", 4), ("warning", 3), ("error", 2)])
def test_the_level_says_what_is_logged(level: str, count: int) -> None:
    assert len(logged(level)) == count


def test_gunicorns_access_log_is_off() -> None:
    assert all(line["logger"] != "gunicorn.access" for line in logged("debug"))
    assert logs.configuration("info")["loggers"]["gunicorn.access"]["handlers"] == []
