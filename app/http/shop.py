"""The shops' API (发卡平台): `/v1/shop/cards` and the orders below it."""

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus

import falcon
import msgspec

from app.domain.card_actions import Action
from app.domain.ceilings import CeilingExceededError
from app.domain.operators import Scope
from app.domain.texts import RefusedError, Text
from app.domain.token_limits import TokenElsewhereError, TokenExpiredError, check_use
from app.http import json_body, shop_schemas
from app.http.problems import (
    Problem,
    card_not_found,
    ceiling_exceeded,
    conflict,
    forbidden,
    idempotency_conflict,
    sentence,
    too_many_requests,
    unauthorized,
)
from app.http.request_parser import client_address
from app.services.card_actions import CardNotFoundError
from app.services.idempotency import Answer, KeyReusedError, Owner, Request
from app.services.shop import Shop
from app.services.shop_tokens import ShopToken, ShopTokens
from app.services.throttling import Throttle, token_buckets

_BEARER = re.compile(r"bearer +([A-Za-z0-9._~+/-]+=*)", re.IGNORECASE)
_NO_TOKEN = Text(
    "请求头 Authorization 必须是 Bearer 加令牌（scripts/cardctl token add）。",
    "The Authorization header must be Bearer and a token (scripts/cardctl token add).",
)
_UNKNOWN_TOKEN = Text("令牌无效或已吊销。", "The token is unknown or was revoked.")


@dataclass(frozen=True, slots=True)
class ShopAccess:
    """Authenticates shops and checks their scopes.

    `behind_proxy` says whether the client's address is in the proxy's header, or the connection's own.
    """

    tokens: ShopTokens
    throttle: Throttle
    behind_proxy: bool

    def admit(self, request: falcon.Request, scope: Scope) -> ShopToken:
        """Return the shop that sent the request, or refuse it: for its token, the scope or the network."""
        given = _BEARER.fullmatch(request.get_header("AUTHORIZATION") or "")
        if given is None:
            raise unauthorized(_NO_TOKEN, "Bearer")
        shop = self.tokens.authenticate(given[1])
        if shop is None:
            raise self._unknown_token(request)
        request.context.outcome = {"shop": shop.name}
        self._check_use(request, shop)
        if scope not in shop.scopes:
            raise forbidden(
                Text(f"令牌没有权限 {scope}。", f"The token lacks the scope {scope}."),
                {"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
            )
        return shop

    def _check_use(self, request: falcon.Request, shop: ShopToken) -> None:
        address = client_address(request, behind_proxy=self.behind_proxy) if shop.networks else ""
        try:
            check_use(shop.expires_at, shop.networks, address, self.tokens.clock())
        except TokenExpiredError as error:
            raise unauthorized(sentence(error), 'Bearer error="invalid_token"') from error
        except TokenElsewhereError as error:
            raise forbidden(sentence(error)) from error

    def _unknown_token(self, request: falcon.Request) -> Problem:
        # Only after the search: a valid token passes, whatever others behind the same address have sent.
        buckets = token_buckets(client_address(request, behind_proxy=self.behind_proxy))
        wait_seconds = self.throttle.wait_seconds(buckets)
        if wait_seconds:
            return too_many_requests(wait_seconds)
        self.throttle.count(buckets)
        return unauthorized(_UNKNOWN_TOKEN, 'Bearer error="invalid_token"')


@dataclass(frozen=True, slots=True)
class CardsResource:
    """`/v1/shop/cards`: issue cards, and look one up."""

    shop: Shop
    access: ShopAccess

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        shop = self.access.admit(request, Scope.CARDS_ISSUE)
        body, validity = shop_schemas.parse_issue_request(json_body.read_body(request))
        order = _order(request, shop, body, HTTPStatus.CREATED)
        _place(response, lambda: self.shop.issue(shop, order, int(body.count or 1), validity, body.batch, body.note))

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        shop = self.access.admit(request, Scope.CARDS_READ)
        wanted = shop_schemas.parse_card_query(request)
        try:
            document = self.shop.look_up(shop, wanted)
        except CardNotFoundError as error:
            raise card_not_found(sentence(error), "id") from error
        _describe(response)
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
        body, by = shop_schemas.parse_change_request(json_body.read_body(request), extends=extends)
        order = _order(request, shop, body, HTTPStatus.OK)
        _place(response, lambda: self.shop.change(shop, order, self.action, body.ids, by))


def _order(request: falcon.Request, shop: ShopToken, body: msgspec.Struct, status: HTTPStatus) -> Request:
    asked = request.path.encode() + b"\n" + msgspec.json.encode(body)
    key, digest = shop_schemas.idempotency_key(request), hashlib.sha256(asked).hexdigest()
    return Request(Owner(token_id=shop.id), key, digest, status)


def _place(response: falcon.Response, place: Callable[[], Answer]) -> None:
    """Carry out an order and write its result into the response."""
    try:
        answer = place()
    except CardNotFoundError as error:
        raise card_not_found(sentence(error), "ids") from error
    except CeilingExceededError as error:
        raise ceiling_exceeded(sentence(error), error.field) from error
    except RefusedError as error:
        raise conflict(sentence(error), "ids") from error
    except KeyReusedError as error:
        raise idempotency_conflict(shop_schemas.KEY_HEADER) from error
    _describe(response)
    response.status = answer.status
    if answer.is_replayed:
        response.set_header("Idempotency-Replayed", "true")
    response.data = answer.body.encode()


def _describe(response: falcon.Response) -> None:
    response.content_type = "application/json"
    response.set_header("Cache-Control", "no-store")
