"""Pages of the block list (黑名单), for owners."""

import contextlib
from typing import Any

import falcon

from app.console.form_page import FormPage
from app.console.forms import Form
from app.console.page import Page, Values, visitor_of
from app.console.rendering import url
from app.domain.licence.blocks import has_several_addresses
from app.domain.licence.policy import MAX_HARDWARE
from app.domain.texts import MAX_TEXT, RefusedError, check_text
from app.http.problems import not_found
from app.services.licence.blocks import MAX_BLOCKS, BlockNotFoundError, Blocks

LIST = "/admin/blocks"
_FIELDS = ("hardware", "network", "reference", "reason")


class BlocksPage(Page):
    template = "licence/blocks.html"

    def values(self, request: falcon.Request, form: Form) -> Values:
        page = self.service(request, Blocks).page(form.number("below"), visitor_of(request).program)
        keys = self.console.cards.keys(visitor_of(request).who, (card for _hardware, card in page["cards"]))
        return {"page": page, "most": MAX_BLOCKS, "card_keys": keys}


class AddBlockPage(FormPage):
    """`/admin/blocks/add?reference=…|network=…|hardware=…`: the form that adds a block."""

    template = "licence/block_add.html"
    takes_query = True

    def change(self, request: falcon.Request, response: falcon.Response, form: Form) -> str | None:
        typed = _typed(form)
        check_text("reason", typed["reason"])
        target = self._target(request, typed)

        def add() -> dict[str, str]:
            self.service(request, Blocks).add(target, typed["reason"])
            return {"location": url(LIST, done="added")}

        return self.once(request, response, form, add, asks_password=_is_large(target))

    def values(self, request: falcon.Request, form: Form) -> Values:
        typed, asks_password = _typed(form), False
        if request.method == "POST":
            with contextlib.suppress(RefusedError):  # the form is shown with the reason
                asks_password = _is_large(self._target(request, typed))
        return {"typed": typed, "asks_password": asks_password, "max_hardware": MAX_HARDWARE, "max_text": MAX_TEXT}

    def _target(self, request: falcon.Request, typed: dict[str, str]) -> Any:  # noqa: ANN401  # the row of a new block
        blocks = self.service(request, Blocks)
        ways = {"hardware": blocks.machine, "network": blocks.network, "reference": blocks.machine_of}
        given = [name for name in ways if typed[name]]
        if len(given) != 1:
            raise RefusedError(
                "请填写硬件信息，或者 IP 地址、网段，只填其中一项",
                "enter a hardware string, or an address or a network: one of them",
            )
        return ways[given[0]](typed[given[0]])


class RemoveBlockPage(FormPage):
    """`/admin/blocks/remove?id=…`: one block, and the form that removes it."""

    template = "licence/block_remove.html"
    takes_query = True

    def change(self, request: falcon.Request, _response: falcon.Response, form: Form) -> str:
        try:
            self.service(request, Blocks).remove(form.number("id") or 0)
        except BlockNotFoundError as error:
            raise not_found(error.text) from error
        return url(LIST, done="removed")

    def values(self, request: falcon.Request, form: Form) -> Values:
        try:
            return {"block": self.service(request, Blocks).find(form.number("id") or 0)}
        except BlockNotFoundError as error:
            raise not_found(error.text) from error


def _is_large(target: Any) -> bool:  # noqa: ANN401  # as above
    return target.network is not None and has_several_addresses(target.network)


def _typed(form: Form) -> dict[str, str]:
    """Return the text of each field, that of a machine exactly as its client sends it."""
    return {name: form.exactly(name) if name == "hardware" else form.one(name) for name in _FIELDS}
