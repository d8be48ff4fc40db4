"""Errors that mean "try again later", raised below the services and handled above them."""

from app.domain.texts import Text


class UnavailableError(Exception):
    """Something that the request needs is away or busy. The caller may try again later."""


class DatabaseUnavailableError(UnavailableError):
    """The database is away, or too busy to answer in time."""


class SchemaMismatchError(DatabaseUnavailableError):
    """The database's schema is not the one that this version of the program needs."""


class ConflictError(UnavailableError):
    """Another transaction was in the way: read again and decide again."""


class BucketUnavailableError(UnavailableError):
    """The bucket of licensed files cannot be used now. `text` says why, for the operator."""

    def __init__(self, text: Text) -> None:
        super().__init__(text.en)
        self.text = text
