"""Loaded by schemathesis (SCHEMATHESIS_HOOKS): it fills in forms of the console as that session's own pages do."""

import os
import secrets
from typing import Any

import schemathesis


@schemathesis.hook
def before_call(_context: schemathesis.HookContext, case: schemathesis.Case, _kwargs: dict[str, Any]) -> None:
    """Put the session's token and another number into a form, unless what is tried is a form without them."""
    if case.path.startswith("/admin/") and isinstance(case.body, dict):
        own = {"csrf": os.environ["CONSOLE_CSRF"], "once": secrets.token_urlsafe(16)}
        case.body = {name: own.get(name, value) for name, value in case.body.items()}
