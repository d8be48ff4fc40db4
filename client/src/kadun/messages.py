"""The messages for customers, in Chinese and English.

The SDK never shows the server's own text, which is not signed. The server (`app/customer_messages.py`) and its console
read the messages and names in this file, and `tests/support/javascript_messages.py` writes them for the JavaScript
client. It therefore imports nothing but the standard library.
"""

from __future__ import annotations

LANGUAGES = ("zh", "en")

NAMES: dict[str, tuple[str, str]] = {
    "OK": ("通过", "accepted"),
    "CARD_NOT_FOUND": ("卡密不存在", "no such card"),
    "CARD_FROZEN": ("卡密已被冻结", "card frozen"),
    "CARD_EXPIRED": ("卡密已过期", "card expired"),
    "CARD_SPENT": ("卡密已用于续费", "card used for a renewal"),
    "CLIENT_BLOCKED": ("已拉黑", "blocked"),
    "CLIENT_MISMATCH": ("设备不符", "another machine"),
    "CLIENT_HAS_ANOTHER_CARD": ("设备已有其他卡密", "machine has another card"),
    "TOO_MANY_CHANGES": ("换机过于频繁", "changed too often"),
    "UPDATE_REQUIRED": ("须更新程序", "update required"),
    "FUNCTION_NOT_FOUND": ("功能不存在", "no such function"),
    "FUNCTION_FAILED": ("功能执行失败", "function failed"),
    "FUNCTION_TIMEOUT": ("功能执行超时", "function took too long"),
}
"""What the vendor's console calls the codes of verdicts."""

TEXTS: dict[str, tuple[str, str]] = {
    # Verdicts: the codes of PROTOCOL sections 2 and 3.
    "OK": ("验证通过", "Accepted"),
    "CARD_NOT_FOUND": (
        "卡密不存在，请检查是否输入正确",
        "There is no such card. Please check that it was typed correctly",
    ),
    "CARD_FROZEN": ("卡密已被冻结，请联系卖家", "This card has been frozen. Please contact the seller"),
    "CARD_EXPIRED": ("卡密已过期，请续费", "This card has expired. Please renew it"),
    "CARD_SPENT": (
        "此卡密已用于给另一张卡密续费，请使用那一张",
        "This card was used to renew another card. Please use that one",
    ),
    "CLIENT_BLOCKED": (
        "本设备或网络已被停止服务，请联系卖家",
        "This device or network is blocked. Please contact the seller",
    ),
    "CLIENT_MISMATCH": (
        "卡密已绑定其他设备，如已更换设备请联系卖家解绑",
        "This card is bound to another device. If you changed devices, ask the seller to unbind it",
    ),
    "CLIENT_HAS_ANOTHER_CARD": (
        "本设备已绑定另一张有效卡密，请使用那一张",
        "This device already has another valid card. Please use that one",
    ),
    "TOO_MANY_CHANGES": (
        "今天更换设备或网络的次数过多，请明天再试或联系卖家",
        "The device or network changed too often today. Please try again tomorrow or contact the seller",
    ),
    "UPDATE_REQUIRED": ("程序版本过旧，请更新后再使用", "This version of the program is too old. Please update it"),
    "rejected": ("卡密校验未通过", "The card was not accepted"),
    # Verdicts of /v1/execute: the card is valid, the function returned no result.
    "FUNCTION_NOT_FOUND": (
        "服务器上没有此功能，请更新程序或联系卖家",
        "The server does not have this function. Please update the program or contact the seller",
    ),
    "FUNCTION_FAILED": (
        "服务器执行此功能时出错，请稍后再试或联系卖家",
        "The server failed to carry out this function. Please try again later or contact the seller",
    ),
    "FUNCTION_TIMEOUT": (
        "服务器执行此功能超时，请稍后再试或联系卖家",
        "This function took the server too long. Please try again later or contact the seller",
    ),
    # Failures without a verdict.
    "error": ("出现错误", "Something went wrong"),
    "unreachable": (
        "无法连接验证服务器，请检查网络后重试",
        "The licence server cannot be reached. Please check the network and try again",
    ),
    "busy": ("验证服务器繁忙，请稍后再试", "The licence server is busy. Please try again later"),
    "untrusted": (
        "收到的响应不是来自正版验证服务器，请检查网络（例如是否需要先登录上网）后重试",
        "The answer is not from the genuine server. Please check the network (a sign-in page?) and retry",
    ),
    "offline_over": (
        "无法联网验证，离线使用期限也已到期，请检查网络（例如是否需要先登录上网）后重试",
        "The server cannot be reached, and the time for offline use is over. Please check the network",
    ),
    "refused": (
        "服务器不接受此请求，请检查卡密是否输入完整，或更新程序",
        "The server does not accept this request. Please check the card, or update the program",
    ),
    # Self-service: refusals to renew, by their reason, and to unbind; {time} is a time with its offset.
    "self_service_off": (
        "卖家未开放自助服务，请联系卖家",
        "The seller does not offer self-service. Please contact the seller",
    ),
    "renew_not_possible": (
        "无法用这张卡密续费，请联系卖家",
        "The card cannot be renewed with this one. Please contact the seller",
    ),
    "renew_not_allowed": (
        "卖家未开放自助续费，请联系卖家",
        "The seller does not let customers renew cards by themselves. Please contact the seller",
    ),
    "renew_same_card": (
        "卡密不能给自己续费，请输入另一张未使用的卡密",
        "A card cannot renew itself. Please enter another card, one that was never used",
    ),
    "renew_second_card_not_found": (
        "用来续费的卡密不存在，请检查是否输入正确",
        "There is no such card to renew with. Please check that it was typed correctly",
    ),
    "renew_second_card_not_unused": (
        "用来续费的卡密不是未使用的卡密，请换一张",
        "The card to renew with is not an unused one. Please enter another",
    ),
    "renew_second_card_spent": (
        "用来续费的卡密已用于续费，请换一张",
        "The card to renew with was already used up for a renewal. Please enter another",
    ),
    "renew_second_card_permanent": (
        "永久卡不能用来续费，请换一张",
        "A permanent card cannot be used to renew another. Please enter another",
    ),
    "renew_second_card_other_batch": (
        "这张卡密与您的卡密不是同一种，不能用来续费，请换一张或联系卖家",
        "The card to renew with is of another kind. Please enter another, or contact the seller",
    ),
    "renew_card_permanent": ("永久卡无需续费", "This card is permanent. It needs no renewal"),
    "renew_card_spent": (
        "这张卡密已用于给其他卡密续费，不能再续费",
        "This card was used up to renew another one, and cannot be renewed",
    ),
    "renew_card_frozen": (
        "卡密已被冻结，不能续费，请联系卖家",
        "This card has been frozen and cannot be renewed. Please contact the seller",
    ),
    "renew_too_long": (
        "续费后有效期会超过上限，请联系卖家",
        "With this renewal the card would last longer than possible. Please contact the seller",
    ),
    "unbind_not_possible": (
        "现在不能自助解绑，请联系卖家",
        "The card cannot be unbound now. Please contact the seller",
    ),
    "unbind_later": (
        "自助解绑次数已用完，{time} 起可再次解绑，或联系卖家",
        "No unbinding is left. The next one is possible from {time}, or contact the seller",
    ),
    # Downloads; {name} is the name of the file.
    "download_missing": (
        "服务器上没有文件 {name}，请更新程序或联系卖家",
        "The server has no file {name}. Please update the program or contact the seller",
    ),
    "download_refused": (
        "服务器拒绝下载文件 {name}，请稍后再试或联系卖家",
        "The server refused the download of {name}. Please try again later or contact the seller",
    ),
    "download_damaged": (
        "文件 {name} 下载后校验不符，已丢弃，请重试",
        "The file {name} arrived damaged and was discarded. Please try again",
    ),
    "download_disk_full": (
        "磁盘空间不足，无法保存文件 {name}，请清理磁盘后重试",
        "The disk is too full for the file {name}. Please free some space and try again",
    ),
    "download_not_saved": (
        "无法保存文件 {name}，请检查文件夹权限，以及文件是否正在使用",
        "The file {name} cannot be saved. Please check the folder's permissions, and whether the file is in use",
    ),
    "download_under_way": (
        "文件 {name} 正由另一个程序下载，请等它完成",
        "Another program is downloading the file {name}. Please wait for it to finish",
    ),
    "unseal": (
        "核心数据无法解密，请更新程序或联系卖家",
        "The core data cannot be decrypted. Please update the program or contact the seller",
    ),
    "hardware": (
        "无法识别本机硬件，请联系卖家",
        "This machine cannot be identified. Please contact the seller",
    ),
}
"""By code of a verdict, or kind of failure: what customers read."""


def text(key: str, language: str) -> str:
    """Return the text for `key` (the code of a verdict, or a kind of failure) in `language`, `zh` or `en`."""
    chinese, english = TEXTS[key]
    return english if language == "en" else chinese


def rejection(code: str, reference: str, language: str) -> str:
    """Return the message for a signed rejection: the reason, and the reference for the vendor's journal."""
    known = code in TEXTS and code.isupper()
    why = text(code if known else "rejected", language)
    if not known:  # a code that is newer than this release
        why += f" ({code})" if language == "en" else f"（{code}）"
    return with_reference(why, reference, language)


def with_reference(message: str, reference: str, language: str) -> str:
    """Append the reference of a signed answer, if there is one."""
    if not reference:
        return message
    return f"{message} (reference {reference})" if language == "en" else f"{message}（参考号 {reference}）"
