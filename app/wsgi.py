"""The WSGI application: `gunicorn --config python:app.gunicorn_conf app.wsgi:app`."""

import sys
from functools import partial

from app.console.log_in import is_log_in
from app.console.visitor import sender_of, session_cookie
from app.domain.errors import SchemaMismatchError
from app.factory import create_app
from app.http.self_service import customers_of
from app.http.threads import Threads
from app.services.startup import MovedAwayError
from app.settings import Settings, SettingsError
from app.tokens.keyring import KeyRingError
from app.tokens.sealing_key import SealingKeyError

try:
    settings = Settings.from_env()
    sender = partial(sender_of, session_cookie(behind_proxy=settings.behind_proxy))
    app = Threads(create_app(settings), is_log_in, sender, customers_of)
except (SettingsError, MovedAwayError, SchemaMismatchError, KeyRingError, SealingKeyError) as error:
    sys.exit(f"kadun: {error}")
