"""Why requests were refused, in words for the vendor."""

from app.domain.codes import Code
from app.domain.texts import Text

REASONS: dict[str, Text] = {
    Code.CARD_NOT_FOUND: Text(
        "没有这张卡密：客户输错了，或者它已被删除。", "There is no such card: it was mistyped, or it was deleted."
    ),
    Code.CARD_FROZEN: Text("卡密当时处于冻结状态。", "The card was frozen at that moment."),
    Code.CARD_EXPIRED: Text("卡密当时已到期。", "The card had expired at that moment."),
    Code.CARD_SPENT: Text(
        "这张卡密已用于给另一张卡密续费：客户应使用那一张。",
        "The card was used up to renew another one: the customer should use that one.",
    ),
    Code.CLIENT_BLOCKED: Text("设备或网络在黑名单中。", "The machine or the network is on the block list."),
    Code.CLIENT_MISMATCH: Text(
        "这不是绑定的设备（以“设置”中的换机条款为准）：客户换了电脑或网络，或者卡密被他人使用。",
        "This is not the bound machine, as the term binding defines it: a new computer or network, or somebody else's.",
    ),
    Code.CLIENT_HAS_ANOTHER_CARD: Text(
        "这台设备已绑定另一张有效的卡密：客户应使用那一张。",
        "The machine is bound to another live card: the customer should use that one.",
    ),
    Code.TOO_MANY_CHANGES: Text(
        "当天硬件或网络地址的变化次数已达到“设置”中的上限。",
        "The hardware or address had changed as often that day as the term changes_per_day allows.",
    ),
    Code.UPDATE_REQUIRED: Text(
        "程序版本低于“设置”中的最低版本，或没有发送版本。",
        "The program is older than the term minimum_version, or sends no version.",
    ),
    Code.FUNCTION_NOT_FOUND: Text(
        "服务器上没有程序所调用的功能。", "The server has no function of the name that the program called."
    ),
    Code.FUNCTION_FAILED: Text("功能执行时出错，详情见下。", "The function raised an error; see below."),
    Code.FUNCTION_TIMEOUT: Text("功能没有在时限内完成。", "The function did not end within its time limit."),
}
"""By the code of the verdict."""
