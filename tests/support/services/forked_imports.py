"""What the fork server of `forked_python` imports before it forks, and what tests change of it for every program."""

import atexit
import gc
import os
import shutil
import tempfile
from importlib import import_module

from coverage import Coverage

# prometheus_client looks for one when it is imported; services have their own.
metrics = os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp()
atexit.register(shutil.rmtree, metrics)

from app.cli.main import COMMANDS  # noqa: E402
from app.services.operators import passwords  # noqa: E402
from tests.support.console.passwords import CHEAP  # noqa: E402

# Before others import it: a real hash takes as long as a test.
passwords.PASSWORDS = passwords.Passwords(CHEAP)
for module in ("app.functions.api", "app.cli.failures"):
    import_module(module)
for command in COMMANDS:
    import_module(f"app.cli.commands.{command}")
if coverage := Coverage.current():
    coverage.save()  # what the imports ran; each fork has its own to save
gc.freeze()  # a collection in a fork would copy every page
