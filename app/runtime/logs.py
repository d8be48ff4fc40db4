"""Structured logs: one JSON object per line on stderr, times in UTC."""

import logging
import re
from typing import Any

_QUERY = re.compile(r"\?[^\s'\"]+")


class WithoutQueries(logging.Filter):
    """Removes query strings from gunicorn's lines, which quote malformed requests and with them links' tokens."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Pass the line without query strings."""
        record.msg, record.args = _QUERY.sub("?…", record.getMessage()), ()
        return True


def configuration(level: str) -> dict[str, Any]:
    """Return a `logging.config` dictionary, also for gunicorn's own lines, for one of `LOG_LEVELS`."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "filters": {"without_queries": {"()": WithoutQueries}},
        "formatters": {
            "json": {
                "()": "pythonjsonlogger.json.JsonFormatter",
                "fmt": "%(levelname)s %(name)s %(message)s",
                "rename_fields": {"levelname": "level", "name": "logger"},
                "timestamp": "at",
                "json_ensure_ascii": False,
            }
        },
        "handlers": {"stderr": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "formatter": "json"}},
        "root": {"level": level.upper(), "handlers": ["stderr"]},
        "loggers": {
            "gunicorn.error": {
                "level": level.upper(),
                "handlers": ["stderr"],
                "filters": ["without_queries"],
                "propagate": False,
            },
            "gunicorn.access": {"level": "CRITICAL", "handlers": [], "propagate": False},
            # At `debug` peewee logs every statement with its values, cards and digests among them.
            "peewee": {"level": "INFO" if level == "debug" else level.upper()},
        },
    }
