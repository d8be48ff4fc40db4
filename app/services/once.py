"""Forms that take effect once, however often they are sent: whoever lost the answer sends them again."""

from collections.abc import Callable
from datetime import datetime

import peewee

from app.domain.errors import ConflictError
from app.domain.texts import RefusedError
from app.storage import operator_forms
from app.storage.database import Database


class Once:
    """The forms that operators send to one database.

    Args:
        database: Where what they do is written, and that it was done.
        clock: Returns the time now, aware.
    """

    def __init__(self, database: Database, clock: Callable[[], datetime]) -> None:
        self._database = database
        self._clock = clock

    def run(self, operator_id: int, form_sha256: str, act: Callable[[], str]) -> str:
        """Do what a form says, unless it was done before; return where it leads, then as now.

        Args:
            operator_id: Who sent it.
            form_sha256: In hex, of its number and of all that it says.
            act: Does it, within this transaction, and returns where that leads. What it raises undoes all of it: the
                form may then be sent again.

        Raises:
            RefusedError: the operator was removed a moment ago.
            DatabaseUnavailableError: the database is away, or the same form is still under way.
            ConflictError: others were in the way; nothing was done.
        """
        # May be run again after a commit whose answer was lost: the form is found done then.
        return self._database.with_connection(lambda: self._attempt(operator_id, form_sha256, act))

    def _attempt(self, operator_id: int, form_sha256: str, act: Callable[[], str]) -> str:
        with self._database.atomic():
            if self._claim(operator_id, form_sha256):
                led = act()
                operator_forms.keep(form_sha256, led)
                return led
            done = operator_forms.location(form_sha256)
        if done is None:
            raise ConflictError("the form was pruned at this moment")
        return done

    def _claim(self, operator_id: int, form_sha256: str) -> bool:
        try:
            return operator_forms.claim(form_sha256, operator_id, self._clock())
        except peewee.IntegrityError as error:
            raise RefusedError("您的账号已被删除", "your account was removed") from error
