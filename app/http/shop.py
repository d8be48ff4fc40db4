"""The shops' API (发卡平台): `/v1/shop/cards` and the orders below it."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus

import falcon
import msgspec

from app.domain.cards.card_actions import Action
from app.domain.cards.cards import ValidityError, parse_duration, parse_validity
from app.domain.operators.ceilings import CeilingExceededError
from app.domain.operators.operators import Scope
from app.domain.operators.token_limits import TokenElsewhereError, TokenExpiredError, check_use
from app.domain.texts import RefusedError, Text, check_text
from app.http import json_body, problems, schemas
from app.http.problems import Problem, ProblemCode, as_sentence
from app.http.request_parser import client_address
from app.services.cards.card_actions import CardNotFoundError
from app.services.operators import throttling
from app.services.shop.idempotency import Answer, KeyReusedError, Owner, Request
from app.services.shop.shop import OtherProgramError, Shop
from app.services.shop.shop_tokens import ShopToken, ShopTokens

_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)
_NO_TOKEN = Text(
    "请求头 Authorization 必须是 Bearer 加令牌（scripts/cardctl token add）。",
    "The Authorization header must be Bearer and a token (scripts/cardctl token add).",
)
_KEY_REUSED = Text(
    f"这个 {schemas.KEY_HEADER} 已用于另一个请求；新的请求请换一个新的。",
    f"This {schemas.KEY_HEADER} was used for another request: a new request takes a new one.",
)
_UNKNOWN_TOKEN = Text("令牌无效或已吊销。", "The token is unknown or was revoked.")


@dataclass(frozen=True, slots=True)
class ShopAccess:
    """Authenticates shops and checks their scopes."""

    tokens: ShopTokens
    behind_proxy: bool

    def admit(self, request: falcon.Request, scope: Scope) -> ShopToken:
        """Return the shop that sent the request, or refuse it: for its token, the scope or the network."""
        given = _BEARER.fullmatch(request.get_header("AUTHORIZATION") or "")
        if given is None:
            raise problems.unauthorized(_NO_TOKEN, "Bearer")
        shop = self.tokens.authenticate(given[1])
        if shop is None:
            raise self._unknown_token(request)
        request.context.outcome = {"shop": shop.name}
        self._check_use(request, shop)
        if scope not in shop.scopes:
            raise problems.forbidden(
                Text(f"令牌没有权限 {scope}。", f"The token lacks the scope {scope}."),
                headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
            )
        return shop

    def _check_use(self, request: falcon.Request, shop: ShopToken) -> None:
        address = client_address(request, behind_proxy=self.behind_proxy) if shop.networks else ""
        try:
            check_use(shop.expires_at, shop.networks, address, self.tokens.clock())
        except TokenExpiredError as error:
            raise problems.unauthorized(as_sentence(error.text), 'Bearer error="invalid_token"') from error
        except TokenElsewhereError as error:
            raise problems.forbidden(as_sentence(error.text)) from error

    def _unknown_token(self, request: falcon.Request) -> Problem:
        # Only after the search: a valid token passes, whatever others behind the same address have sent.
        buckets = throttling.shared_buckets("token", client_address(request, behind_proxy=self.behind_proxy))
        now = self.tokens.clock()
        wait_seconds = throttling.wait_seconds(buckets, now)
        if wait_seconds:
            return problems.too_many_requests(wait_seconds)
        throttling.count(self.tokens.database, buckets, now)
        return problems.unauthorized(_UNKNOWN_TOKEN, 'Bearer error="invalid_token"')


@dataclass(frozen=True, slots=True)
class CardsResource:
    """`/v1/shop/cards`: issue cards, and look one up."""

    shop: Shop
    access: ShopAccess

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        shop = self.access.admit(request, Scope.CARDS_ISSUE)
        body, validity = _parse_issue_request(json_body.read_body(request))
        order = _order(request, shop, body, HTTPStatus.CREATED)
        asked = (body.batch, body.note, body.program)
        _place(response, lambda: self.shop.issue(shop, order, int(body.count or 1), validity, *asked))

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        shop = self.access.admit(request, Scope.CARDS_READ)
        wanted = _parse_card_query(request)
        try:
            document = self.shop.look_up(shop, wanted)
        except CardNotFoundError as error:
            raise problems.card_not_found(as_sentence(error.text), "id") from error
        response.set_header("Cache-Control", "no-store")
        response.data = json.dumps(document, ensure_ascii=False).encode()

    on_head = on_get


@dataclass(frozen=True, slots=True)
class ChangeResource:
    """`POST /v1/shop/cards/freeze`, `…/unfreeze` or `…/extend`, as `action` says."""

    shop: Shop
    access: ShopAccess
    action: Action

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        extends = self.action is Action.EXTEND
        shop = self.access.admit(request, Scope.CARDS_EXTEND if extends else Scope.CARDS_FREEZE)
        kind = schemas.ExtendRequest if extends else schemas.CardsRequest
        body = json_body.parse(json_body.read_body(request), kind)
        try:
            by = parse_duration(body.by) if isinstance(body, schemas.ExtendRequest) else None
        except ValidityError as error:
            raise json_body.wrong_value("by") from error
        order = _order(request, shop, body, HTTPStatus.OK)
        _place(response, lambda: self.shop.change(shop, order, self.action, body.ids, by))


def _order(request: falcon.Request, shop: ShopToken, body: msgspec.Struct, status: HTTPStatus) -> Request:
    key = request.get_header(schemas.KEY_HEADER) or ""
    if not re.fullmatch(schemas.KEY_PATTERN, key):
        raise json_body.wrong_value(schemas.KEY_HEADER)
    asked = request.path.encode() + b"\n" + msgspec.json.encode(body)
    return Request(Owner(token_id=shop.id), key, hashlib.sha256(asked).hexdigest(), status)


def _place(response: falcon.Response, place: Callable[[], Answer]) -> None:
    try:
        answer = place()
    except CardNotFoundError as error:
        raise problems.card_not_found(as_sentence(error.text), "ids") from error
    except CeilingExceededError as error:
        raise Problem(ProblemCode.CEILING_EXCEEDED, as_sentence(error.text), field=error.field) from error
    except OtherProgramError as error:
        raise problems.invalid_request(as_sentence(error.text), "program") from error
    except RefusedError as error:
        raise problems.conflict(as_sentence(error.text), "ids") from error
    except KeyReusedError as error:
        raise Problem(ProblemCode.IDEMPOTENCY_CONFLICT, _KEY_REUSED, field=schemas.KEY_HEADER) from error
    response.set_header("Cache-Control", "no-store")
    response.status = answer.status
    if answer.is_replayed:
        response.set_header("Idempotency-Replayed", "true")
    response.data = answer.body.encode()


def _parse_issue_request(body: bytes) -> tuple[schemas.IssueRequest, timedelta | None]:
    asked = json_body.parse(body, schemas.IssueRequest)
    for field, text in (("batch", asked.batch), ("note", asked.note)):
        try:
            check_text(field, text)
        except RefusedError as error:
            raise json_body.wrong_value(field) from error
    try:
        return asked, parse_validity(asked.validity)
    except ValidityError as error:
        raise json_body.wrong_value("validity") from error


def _parse_card_query(request: falcon.Request) -> str:
    unknown = next((name for name in request.params if name != "id"), None)
    if unknown is not None:
        shown = json_body.shown(unknown)
        raise problems.invalid_request(
            Text(f"未知参数 {shown}；可用参数：id。", f"Unknown parameter {shown}; the parameter is id."), shown
        )
    try:
        wanted: tuple[str, ...] = msgspec.convert(request.get_param_as_list("id") or [], tuple[schemas.TypedCardId])
    except msgspec.ValidationError as error:
        raise json_body.wrong_value("id") from error
    return wanted[0]
