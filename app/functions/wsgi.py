"""The WSGI application, which `app.functions.launcher` runs with gunicorn."""

import os
import socket

from app.functions.api import create_app
from app.functions.launcher import DESCRIPTOR
from app.functions.library import Library
from app.functions.monitor import Limits
from app.functions.settings import FunctionSettings

settings = FunctionSettings.from_env()
limits = Limits(settings.seconds, settings.memory_mb * 1024 * 1024, settings.result_kb * 1024)
launcher = socket.socket(fileno=os.dup(int(os.environ[DESCRIPTOR])))
library = Library(settings.folder, limits, launcher)
library.start()
app = create_app(library, settings.calls)
