"""The WSGI application: `gunicorn --config python:app.functions.gunicorn_conf app.functions.wsgi:app`."""

from app.functions.api import create_app
from app.functions.library import Library
from app.functions.settings import FunctionSettings
from app.functions.supervisor import Limits

settings = FunctionSettings.from_env()
limits = Limits(settings.seconds, settings.memory_mb * 1024 * 1024, settings.result_kb * 1024)
library = Library(settings.folder, limits)
library.start()
app = create_app(library, settings.concurrency)
