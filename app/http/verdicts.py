"""Verdicts as HTTP answers: their status codes and the messages for customers."""

from typing import Annotated

import falcon
import msgspec
from msgspec import Meta

from app.domain.codes import Code
from app.domain.texts import Text
from app.http.languages import in_language_of
from app.services.licence import Verdict


class VerdictBody(msgspec.Struct):
    """A verdict, accepted or not."""

    code: Code
    message: Annotated[str, Meta(description="For people: Chinese, or English where Accept-Language prefers it.")]
    token: Annotated[
        str,
        Meta(
            pattern=r"^[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\Z",
            description="A JWS: the only part to be trusted.",
        ),
    ]


STATUS = {
    Code.OK: falcon.HTTP_200,
    Code.CARD_NOT_FOUND: falcon.HTTP_404,
    Code.CARD_EXPIRED: falcon.HTTP_403,
    Code.CARD_FROZEN: falcon.HTTP_403,
    Code.CLIENT_MISMATCH: falcon.HTTP_403,
    Code.CLIENT_HAS_ANOTHER_CARD: falcon.HTTP_409,
    Code.FUNCTION_NOT_FOUND: falcon.HTTP_404,
    Code.FUNCTION_FAILED: falcon.HTTP_502,
    Code.FUNCTION_TIMEOUT: falcon.HTTP_504,
}
MESSAGES: dict[Code, Text] = {
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


def message(code: Code, reference: str, request: falcon.Request) -> str:
    """Return the message for the customer; a rejection's ends with its reference."""
    text = MESSAGES[code]
    if code is not Code.OK:
        text = Text(f"{text.zh}（参考号：{reference}）", f"{text.en} (reference: {reference})")
    return in_language_of(request, text)


def respond(request: falcon.Request, response: falcon.Response, verdict: Verdict) -> None:
    """Write a verdict into the response."""
    request.context.outcome = {"code": verdict.code, "reference": verdict.reference}
    response.status = STATUS[verdict.code]
    response.content_type = "application/json"
    response.set_header("Cache-Control", "no-store")
    shown = message(verdict.code, verdict.reference, request)
    response.data = msgspec.json.encode(VerdictBody(verdict.code, shown, verdict.token))
