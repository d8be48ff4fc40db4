"""Pages of the block list (黑名单), for owners."""

from typing import NamedTuple

import falcon

from app.console.form_page import is_confirmed, is_first, refuse
from app.console.forms import Form, query_of
from app.console.page import Access, Page, form_of, see_other, visitor_of
from app.console.rendering import url
from app.domain.addresses import is_in_network
from app.domain.blocks import has_several_addresses
from app.domain.policy import MAX_HARDWARE
from app.domain.texts import MAX_TEXT, RefusedError, Text, check_text
from app.http.problems import not_found
from app.http.request_parser import client_address
from app.services.blocks import MAX_BLOCKS, BlockNotFoundError, Blocks, Target

LIST = "/admin/blocks"
_FIELDS = ("hardware", "network", "reference", "reason")


class _Asks(NamedTuple):
    """What the visitor must confirm first: a block of their own address; by password, a block of many addresses."""

    own: bool = False
    password: bool = False


class _BlockPage(Page):
    def blocks(self, request: falcon.Request) -> Blocks:
        """Return the block list, in the visitor's name."""
        return Blocks(self.console.database, visitor_of(request).actor, self.console.clock, self.limits(request))


class BlocksPage(_BlockPage):
    """`/admin/blocks`: the list."""

    access = {"GET": Access.OWNER}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        query = query_of(request)
        page = self.blocks(request).page(query.number("below"))
        keys = self.console.cards.keys(visitor_of(request).who, page.cards.values())
        self.render(
            request,
            response,
            "blocks.html",
            page=page,
            most=MAX_BLOCKS,
            card_keys=keys,
            done=query.exactly("done"),
        )


class AddBlockPage(_BlockPage):
    """`/admin/blocks/add?reference=…|network=…|hardware=…`: the form that adds a block."""

    access = {"GET": Access.OWNER, "POST": Access.OWNER}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        query = query_of(request)
        typed = {name: query.exactly(name) for name in _FIELDS}
        self._show(request, response, typed, _Asks())

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Add the block, or show the form again with a refusal or with what must be confirmed first."""
        form = form_of(request)
        typed = {name: form.exactly(name) if name == "hardware" else form.one(name) for name in _FIELDS}
        asks = _Asks()
        try:
            check_text("reason", typed["reason"])
            target = self._target(request, typed)
            asks = self._asks(request, target)
            if self._is_confirmed(request, asks):
                self.answer_idempotently(request, response, lambda: self._add(request, target, typed["reason"]))
                return
        except RefusedError as error:
            refuse(response, error)
            self._show(request, response, typed, asks, error.text)
            return
        self._show(request, response, typed, asks)

    def _is_confirmed(self, request: falcon.Request, asks: _Asks) -> bool:
        if asks.own and is_first(self, request) and form_of(request).one("own") != "yes":
            return False
        return not asks.password or is_confirmed(self, request)

    def _add(self, request: falcon.Request, target: Target, reason: str) -> dict[str, str]:
        self.blocks(request).add(target, reason)
        return {"location": url(LIST, done="added")}

    def _target(self, request: falcon.Request, typed: dict[str, str]) -> Target:
        """Return what is to be blocked."""
        blocks = self.blocks(request)
        ways = {"hardware": blocks.machine, "network": blocks.network, "reference": blocks.machine_of}
        given = [name for name in ways if typed[name]]
        if len(given) != 1:
            raise RefusedError(
                "请填写硬件信息，或者 IP 地址、网段，只填其中一项",
                "enter a hardware string, or an address or a network: one of them",
            )
        return ways[given[0]](typed[given[0]])

    def _asks(self, request: falcon.Request, target: Target) -> _Asks:
        if target.network is None:
            return _Asks()
        return _Asks(is_in_network(self._address(request), target.network), has_several_addresses(target.network))

    def _address(self, request: falcon.Request) -> str:
        return client_address(request, behind_proxy=self.console.behind_proxy)

    def _show(
        self,
        request: falcon.Request,
        response: falcon.Response,
        typed: dict[str, str],
        asks: _Asks,
        refusal: Text | None = None,
    ) -> None:
        self.render(
            request,
            response,
            "block_add.html",
            typed=typed,
            asks=asks,
            own=request.method == "POST" and form_of(request).one("own") == "yes",
            refusal=refusal,
            own_address=self._address(request),
            max_hardware=MAX_HARDWARE,
            max_text=MAX_TEXT,
        )


class RemoveBlockPage(_BlockPage):
    """`/admin/blocks/remove?id=…`: one block, and the form that removes it."""

    access = {"GET": Access.OWNER, "POST": Access.OWNER}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        self._show(request, response, query_of(request))

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Remove the block, or show it again with the reason of a refusal."""
        form = form_of(request)
        try:
            self.blocks(request).remove(form.number("id") or 0)
        except BlockNotFoundError as error:
            raise not_found(error.text) from error
        except RefusedError as error:
            refuse(response, error)
            self._show(request, response, form, error.text)
        else:
            see_other(response, url(LIST, done="removed"))

    def _show(
        self, request: falcon.Request, response: falcon.Response, named: Form, refusal: Text | None = None
    ) -> None:
        try:
            block = self.blocks(request).find(named.number("id") or 0)
        except BlockNotFoundError as error:
            raise not_found(error.text) from error
        self.render(request, response, "block_remove.html", block=block, refusal=refusal)
