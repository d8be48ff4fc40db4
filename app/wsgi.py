"""The WSGI application: `gunicorn --config python:app.gunicorn_conf app.wsgi:app`."""

import sys

from app.domain.errors import SchemaMismatchError
from app.factory import create_app
from app.runtime.settings import Settings, SettingsError
from app.services.system.startup import MovedAwayError
from app.tokens.keyring import KeyRingError
from app.tokens.sealing_key import SealingKeyError

try:
    settings = Settings.from_env()
    app = create_app(settings)
except (SettingsError, MovedAwayError, SchemaMismatchError, KeyRingError, SealingKeyError) as error:
    sys.exit(f"kadun: {error}")
