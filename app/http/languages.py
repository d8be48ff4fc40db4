"""Chinese or English: which one a request prefers, and what verdicts say in either."""

from functools import lru_cache

import falcon

from app.domain.codes import Code
from app.domain.texts import Text


def in_language_of(request: falcon.Request, text: Text) -> str:
    """Return the Chinese text, or the English where the request's Accept-Language prefers it."""
    return text.en if prefers_english(request.get_header("ACCEPT-LANGUAGE") or "") else text.zh


@lru_cache(maxsize=256)
def prefers_english(accept_language: str) -> bool:
    """Tell whether an Accept-Language header (RFC 9110, section 12.5.4) ranks English over Chinese."""
    best = {"en": 0.0, "zh": 0.0}
    order: list[str] = []
    for item in accept_language.split(","):
        tag, _, parameters = item.strip().partition(";")
        language = tag.strip().lower().split("-")[0]
        if language not in best:
            continue
        quality = _quality(parameters)
        best[language] = max(best[language], quality)
        order.append(language)
    if best["en"] == best["zh"]:
        return best["en"] > 0 and order[0] == "en"
    return best["en"] > best["zh"]


def _quality(parameters: str) -> float:
    name, _, value = parameters.strip().partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        quality = float(value)
    except ValueError:
        return 0.0
    return quality if 0 <= quality <= 1 else 0.0


VERDICTS: dict[Code, Text] = {
    Code.OK: Text("验证通过。", "Accepted."),
    Code.CARD_NOT_FOUND: Text("卡密不存在，请检查输入是否正确。", "No such card: please check what you typed."),
    Code.CARD_FROZEN: Text("卡密已被冻结，请联系卖家。", "This card is frozen: please contact the seller."),
    Code.CARD_EXPIRED: Text("卡密已过期，请续费或更换卡密。", "This card has expired: please renew it."),
    Code.CLIENT_MISMATCH: Text(
        "卡密已绑定其他设备。如果您更换了设备，请联系卖家解绑。",
        "This card belongs to another machine. If you have changed machines, ask the seller to unbind it.",
    ),
    Code.CLIENT_HAS_ANOTHER_CARD: Text(
        "本设备已绑定另一张有效卡密，请使用原卡密。",
        "This machine already has another valid card: please use that one.",
    ),
    Code.FUNCTION_NOT_FOUND: Text(
        "服务器上没有这个功能，请更新程序或联系卖家。",
        "The server has no such function: please update the program or contact the seller.",
    ),
    Code.FUNCTION_FAILED: Text(
        "功能执行失败，请联系卖家。", "The function failed on the server: please contact the seller."
    ),
    Code.FUNCTION_TIMEOUT: Text(
        "功能执行超时，请稍后再试或联系卖家。",
        "The function took too long: please try again later, or contact the seller.",
    ),
}


def verdict_message(code: Code, reference: str, request: falcon.Request) -> str:
    """Return what to tell the customer; a rejection's message ends with its reference."""
    text = VERDICTS[code]
    if code is not Code.OK:
        text = Text(f"{text.zh}（参考号：{reference}）", f"{text.en} (reference: {reference})")
    return in_language_of(request, text)
