"""What codes, kinds and states are called in the console; a test holds this to the enumerations."""

from datetime import timedelta

from app.domain.cards import format_validity
from app.domain.codes import CardStatus, Code, EventKind
from app.domain.operators import Role, Scope
from app.domain.texts import Text
from app.tokens.keyring import KeyState

_WORDS: dict[str, Text] = {
    CardStatus.UNUSED: Text("未激活", "unused"),
    CardStatus.ACTIVE: Text("使用中", "active"),
    CardStatus.EXPIRED: Text("已过期", "expired"),
    CardStatus.FROZEN: Text("已冻结", "frozen"),
    Code.OK: Text("通过", "accepted"),
    Code.CARD_NOT_FOUND: Text("卡密不存在", "no such card"),
    Code.CARD_FROZEN: Text("卡密已冻结", "card frozen"),
    Code.CARD_EXPIRED: Text("卡密已过期", "card expired"),
    Code.CLIENT_MISMATCH: Text("设备不符", "another machine"),
    Code.CLIENT_HAS_ANOTHER_CARD: Text("设备已有其他卡密", "machine has another card"),
    Code.FUNCTION_NOT_FOUND: Text("功能不存在", "no such function"),
    Code.FUNCTION_FAILED: Text("功能执行失败", "function failed"),
    Code.FUNCTION_TIMEOUT: Text("功能执行超时", "function took too long"),
    EventKind.ISSUED: Text("发卡", "issued"),
    EventKind.IMPORTED: Text("导入", "imported"),
    EventKind.ACTIVATED: Text("激活", "activated"),
    EventKind.BOUND: Text("绑定", "bound"),
    EventKind.RELEASED: Text("释放绑定", "binding released"),
    EventKind.ENVIRONMENT_CHANGED: Text("环境变化", "environment changed"),
    EventKind.REJECTED: Text("拒绝", "rejected"),
    EventKind.UNFROZEN: Text("解冻", "unfrozen"),
    EventKind.UNBOUND: Text("解绑", "unbound"),
    EventKind.EXTENDED: Text("延期", "extended"),
    EventKind.DELETED: Text("删除", "deleted"),
    EventKind.KEY_ROTATED: Text("轮换密钥", "key rotated"),
    EventKind.FILE_ADDED: Text("添加文件", "file added"),
    EventKind.FILE_REMOVED: Text("删除文件", "file removed"),
    EventKind.FILE_DOWNLOADED: Text("下载文件", "file downloaded"),
    EventKind.OPERATOR_ADDED: Text("添加管理员", "operator added"),
    EventKind.OPERATOR_CHANGED: Text("修改管理员", "operator changed"),
    EventKind.OPERATOR_REMOVED: Text("删除管理员", "operator removed"),
    EventKind.LOGGED_IN: Text("登录", "logged in"),
    EventKind.LOGGED_OUT: Text("退出登录", "logged out"),
    EventKind.LOGIN_REFUSED: Text("登录被拒", "log-in refused"),
    EventKind.TOKEN_ADDED: Text("添加令牌", "token added"),
    EventKind.TOKEN_REVOKED: Text("吊销令牌", "token revoked"),
    EventKind.EXPORTED: Text("导出", "exported"),
    Role.OWNER: Text("所有者", "owner"),
    Role.SELLER: Text("销售", "seller"),
    Scope.CARDS_ISSUE: Text("发卡", "issue cards"),
    Scope.CARDS_READ: Text("查询卡密", "look cards up"),
    Scope.CARDS_FREEZE: Text("冻结与解冻", "freeze and unfreeze"),
    Scope.CARDS_EXTEND: Text("延期", "extend"),
    KeyState.NEXT: Text("下一个", "next"),
    KeyState.CURRENT: Text("当前", "current"),
    KeyState.RETIRED: Text("已停用", "retired"),
}


def word(value: str) -> Text:
    """Return what a code, kind, state or role is called; what has no name here is called by itself."""
    return _WORDS.get(value, Text(value, value))


_UNITS = {
    "d": ("天", "day"),
    "h": ("小时", "hour"),
    "m": ("分钟", "minute"),
    "s": ("秒", "second"),
}


def validity(value: timedelta | None) -> Text:
    """Return how long that is, for people; None is permanent."""
    if value is None:
        return Text("永久", "permanent")
    written = format_validity(value)
    number, (zh, en) = written[:-1], _UNITS[written[-1]]
    return Text(f"{number} {zh}", f"{number} {en}{'' if number == '1' else 's'}")
