"""Webhooks, which owners see and change."""

from collections.abc import Callable, Iterator

import falcon

from app.console.form_page import check_own_password, refuse
from app.console.forms import Form, query_of
from app.console.page import Access, Console, Page, form_of, see_other, visitor_of
from app.console.rendering import url
from app.domain.texts import RefusedError, Text
from app.domain.webhooks import MAX_WEBHOOKS, TOPICS
from app.http.problems import not_found
from app.services.webhooks import PAGE_ROWS, Webhook, WebhookNotFoundError, Webhooks

LIST = "/admin/webhooks"
ONE = "/admin/webhook"


class _WebhookPage(Page):
    def webhooks(self, request: falcon.Request) -> Webhooks:
        console = self.console
        actor, limits = visitor_of(request).actor, self.limits(request)
        return Webhooks(console.database, actor, console.clock, console.sealing_key, limits)

    def named(self, request: falcon.Request, name: str) -> Webhook:
        try:
            return self.webhooks(request).find(name)
        except WebhookNotFoundError as error:
            raise not_found(error.text) from error

    def show_one(  # noqa: PLR0913  # what the page shows
        self,
        request: falcon.Request,
        response: falcon.Response,
        webhook: Webhook,
        refusals: dict[str, Text],
        *,
        below: int | None = None,
        done: str = "",
    ) -> None:
        messages = self.webhooks(request).messages(webhook, below)
        self.render(
            request,
            response,
            "webhook.html",
            webhook=webhook,
            messages=messages,
            older=messages[-1].id if len(messages) == PAGE_ROWS else None,
            refusals=refusals,
            done=done,
        )

    def show_secret(self, request: falcon.Request, response: falcon.Response, name: str, secret: str) -> None:
        """Show a secret, for the only time."""
        self.render(request, response, "webhook_secret.html", name=name, secret=secret)


class WebhooksPage(_WebhookPage):
    """`/admin/webhooks`: the list, and the form that adds one. The answer to the form has the secret."""

    access = {"GET": Access.OWNER, "POST": Access.OWNER}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        self._show(request, response, {"name": "", "url": ""}, [])

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        form = form_of(request)
        name, address, topics = form.one("name"), form.one("url"), form.all("topic")
        try:
            check_own_password(self.console, request)
            secret = self.webhooks(request).add(name, address, topics)
        except RefusedError as error:
            refuse(response, error)
            self._show(request, response, {"name": name, "url": address}, topics, error.text)
            return
        self.show_secret(request, response, name, secret)

    def _show(
        self,
        request: falcon.Request,
        response: falcon.Response,
        typed: dict[str, str],
        chosen: list[str],
        refusal: Text | None = None,
    ) -> None:
        self.render(
            request,
            response,
            "webhooks.html",
            webhooks=self.webhooks(request).list(),
            topics=TOPICS,
            most=MAX_WEBHOOKS,
            typed=typed,
            chosen=chosen,
            refusal=refusal,
            done=query_of(request).exactly("done"),
        )


class WebhookPage(_WebhookPage):
    """`/admin/webhook?name=…`: one webhook, its messages, and the forms that change it."""

    access = {"GET": Access.OWNER}

    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        query = query_of(request)
        webhook = self.named(request, query.exactly("name"))
        self.show_one(request, response, webhook, {}, below=query.number("below"), done=query.exactly("done"))


_ACTIONS: dict[str, Callable[[Webhooks, str, Form], str | None]] = {
    "pause": lambda webhooks, name, _form: webhooks.set_paused(name, paused=True),
    "resume": lambda webhooks, name, _form: webhooks.set_paused(name, paused=False),
    "test": lambda webhooks, name, _form: webhooks.test(name),
    "again": lambda webhooks, name, form: webhooks.send_again(name, form.one("id")),
    "secret": lambda webhooks, name, _form: webhooks.renew_secret(name),
    "remove": lambda webhooks, name, _form: webhooks.remove(name),
}
_ASKS_PASSWORD = ("pause", "secret", "remove")


class WebhookForm(_WebhookPage):
    """`/admin/webhook/{action}`: a form that does something with the webhook that it names."""

    access = {"GET": Access.OWNER, "POST": Access.OWNER}

    def __init__(self, console: Console, action: str) -> None:
        super().__init__(console)
        self._action = action

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Lead to the list: a reload of a form asks for this address."""
        see_other(response, LIST)

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Do it, or show the webhook again with the reason."""
        form = form_of(request)
        webhook = self.named(request, form.exactly("name"))
        try:
            if self._action in _ASKS_PASSWORD:
                check_own_password(self.console, request)
            result = _ACTIONS[self._action](self.webhooks(request), webhook.name, form)
        except RefusedError as error:
            refuse(response, error)
            self.show_one(request, response, webhook, {self._action: error.text})
            return
        match self._action:
            case "secret":
                self.show_secret(request, response, webhook.name, str(result))
            case "remove":
                see_other(response, url(LIST, done="remove"))
            case done:
                see_other(response, url(ONE, name=webhook.name, done=done))


def webhook_forms(console: Console) -> Iterator[tuple[str, WebhookForm]]:
    """Yield the forms of a webhook's page with their paths."""
    for action in _ACTIONS:
        yield f"{ONE}/{action}", WebhookForm(console, action)
