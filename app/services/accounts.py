"""An operator's account, and why one cannot be changed."""

from datetime import datetime
from typing import NamedTuple

from app.domain.ceilings import Ceilings
from app.domain.operators import Role
from app.domain.texts import RefusedError
from app.services.formatting import escaped


class Account(NamedTuple):
    """An operator's account.

    `last_seen_at` is the last use of a session that has not ended: None after a log-out, or 12 hours without a request.
    """

    id: int
    name: str
    role: Role
    has_totp: bool
    recovery_codes: int
    """How many are left."""
    created_at: datetime
    password_changed_at: datetime
    last_seen_at: datetime | None
    ceilings: Ceilings


class OperatorNotFoundError(RefusedError):
    """There is no operator of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"没有名为 {escaped(name)} 的管理员", f"there is no operator {escaped(name)}")


class LoggedOutError(RefusedError):
    """The session in which operators change their own account has ended meanwhile."""

    def __init__(self) -> None:
        super().__init__("您已被退出登录，未作改动：请重新登录", "you were logged out meanwhile: log in again")


class NameTakenError(RefusedError):
    """The name is taken."""

    def __init__(self, name: str) -> None:
        super().__init__(f"已有名为 {name} 的管理员", f"the name {name} is taken")


class LastOwnerError(RefusedError):
    """The last owner can be neither removed nor made a seller."""

    def __init__(self) -> None:
        super().__init__("这是最后一位 owner，不能移除或降级", "this is the last owner: add another one first")
