"""The WSGI application: `gunicorn --config python:app.gunicorn_conf app.wsgi:app`."""

import sys

from app.console.log_in import is_from_new_browser
from app.domain.errors import SchemaMismatchError
from app.factory import create_app
from app.http.threads import Threads
from app.services.startup import MovedAwayError
from app.settings import Settings, SettingsError
from app.tokens.keyring import KeyRingError

try:
    app = Threads(create_app(Settings.from_env()), is_from_new_browser)
except (SettingsError, MovedAwayError, SchemaMismatchError, KeyRingError) as error:
    sys.exit(f"kadun: {error}")
