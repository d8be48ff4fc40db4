"""The service's configuration of gunicorn; what is polled is polled more often."""

import os

from coverage import Coverage

from app.functions.processes import die_with
from app.gunicorn_conf import *  # noqa: F403
from app.services import polled
from tests.support.licence.in_force import REAL_INTERVAL, SECONDS

die_with(os.getppid())
if REAL_INTERVAL not in os.environ:
    polled._SECONDS = SECONDS  # noqa: SLF001  # tests wait for what is in force hundreds of times
if coverage := Coverage.current():
    coverage.set_option("run:concurrency", ["thread", "gevent"])  # for the workers, which are forks
