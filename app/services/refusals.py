"""Why requests were refused, in words for the vendor."""

from app.domain.codes import Code
from app.domain.texts import Text

REASONS: dict[str, Text] = {
    Code.CARD_NOT_FOUND: Text(
        "没有这张卡密：客户输错了，或者它已被删除。", "There is no such card: it was mistyped, or it was deleted."
    ),
    Code.CARD_FROZEN: Text("卡密当时处于冻结状态。", "The card was frozen at that moment."),
    Code.CARD_EXPIRED: Text("卡密当时已到期。", "The card had expired at that moment."),
    Code.CLIENT_MISMATCH: Text(
        "硬件和网络地址都与绑定的设备不同：客户换了电脑，或者卡密被他人使用。",
        "Both the hardware and the address differ from the bound machine: a new computer, or somebody else's.",
    ),
    Code.CLIENT_HAS_ANOTHER_CARD: Text(
        "这台设备已绑定另一张有效的卡密：客户应使用那一张。",
        "The machine is bound to another live card: the customer should use that one.",
    ),
    Code.FUNCTION_NOT_FOUND: Text(
        "服务器上没有程序所调用的功能。", "The server has no function of the name that the program called."
    ),
    Code.FUNCTION_FAILED: Text("功能执行时出错，详情见下。", "The function raised an error; see below."),
    Code.FUNCTION_TIMEOUT: Text("功能没有在时限内完成。", "The function did not end within its time limit."),
}
"""By the code of the verdict."""
