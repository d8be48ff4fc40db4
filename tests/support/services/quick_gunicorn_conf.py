"""The service's configuration of gunicorn; what is polled is polled more often, since tests wait for it."""

import os

from app.functions.processes import die_with
from app.gunicorn_conf import *  # noqa: F403
from app.services import polled
from tests.support.licence.in_force import REAL_INTERVAL, SECONDS

die_with(os.getppid())
if REAL_INTERVAL not in os.environ:
    polled._SECONDS = SECONDS  # noqa: SLF001
