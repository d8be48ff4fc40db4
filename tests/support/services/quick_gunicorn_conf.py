"""The service's configuration of gunicorn; what is polled is polled more often, and passwords are cheap."""

import os

from coverage import Coverage

from app.functions.processes import die_with
from app.gunicorn_conf import *  # noqa: F403
from app.services import polled
from app.services.operators import passwords
from tests.support.console.passwords import CHEAP
from tests.support.licence.in_force import REAL_INTERVAL, SECONDS

die_with(os.getppid())
passwords.PASSWORDS = passwords.Passwords(CHEAP)  # before the app is imported: a real hash takes as long as a test
if REAL_INTERVAL not in os.environ:
    polled._SECONDS = SECONDS  # noqa: SLF001  # tests wait for what is in force hundreds of times
if coverage := Coverage.current():
    coverage.set_option("run:concurrency", ["thread", "gevent"])  # for the workers, which are forks
