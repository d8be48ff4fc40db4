"""Messages for errors. Not in `main`: it imports the modules of all errors, which most runs do not need."""

import click

from app.domain.errors import BucketUnavailableError, ConflictError, DatabaseUnavailableError, SchemaMismatchError
from app.domain.texts import RefusedError
from app.functions.client import FunctionsBusyError, FunctionsUnavailableError
from app.runtime.settings import SettingsError
from app.services.system.connection import DatabaseRefusedError
from app.services.system.startup import MovedAwayError
from app.tokens.keyring import KeyRingError


def explanation(error: BaseException) -> str:  # noqa: PLR0911  # one case per error
    match error:
        case click.Abort() | KeyboardInterrupt():
            return "已取消，未做任何更改 / Cancelled: nothing was changed"
        case RefusedError() | SettingsError() | KeyRingError() | FunctionsBusyError():
            return str(error)
        case SchemaMismatchError() | MovedAwayError():
            return str(error)
        case DatabaseUnavailableError():
            return f"数据库不可用 / The database is unavailable: {error}"
        case BucketUnavailableError():
            return f"存储桶不可用 / The bucket is unavailable: {error.text}"
        case FunctionsUnavailableError():
            return f"核心功能服务不可用 / The functions service is unavailable: {error}"
        case ConflictError():
            return "与另一操作冲突，未做更改，请重试 / Another operation was in the way: nothing was changed, try again"
        case DatabaseRefusedError():
            return f"数据库拒绝了操作，未做任何更改 / The database refused, nothing was changed: {error}"
        case OSError():
            return f"{error.filename or ''}: {error.strerror or error}"
        case _:
            return f"内部错误 / An internal error: {type(error).__name__}: {error}"
