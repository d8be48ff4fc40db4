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
        """Return the service for webhooks, in the visitor's name."""
        console = self.console
        actor, limits = visitor_of(request).actor, self.limits(request)
        return Webhooks(console.database, actor, console.clock, console.sealing_key, limits)

    def named(self, request: falcon.Request, name: str) -> Webhook:
        """Return a webhook.

        Raises:
            Problem: 404, there is none of that name.
        """
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
        """Show a webhook and its messages."""
        messages = self.webhooks(request).messages(webhook, below)
        self.render(
            request,
            response,
            "webhook.html",
            webhook=webhook,
            messages=messages,
            older=messages[-1].row if len(messages) == PAGE_ROWS else None,
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
        """Show the webhooks."""
        self._show(request, response, {"name": "", "url": ""}, [])

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Add a webhook."""
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
        """Show the webhook."""
        query = query_of(request)
        webhook = self.named(request, query.exactly("name"))
        self.show_one(request, response, webhook, {}, below=query.number("below"), done=query.exactly("done"))


class WebhookForm(_WebhookPage):
    """A form that changes the webhook that it names; `apply` does it, and may return a new secret."""

    access = {"GET": Access.OWNER, "POST": Access.OWNER}

    def __init__(
        self,
        console: Console,
        name: str,
        apply: Callable[[Webhooks, str, Form], str | None],
        *,
        asks_password: bool = False,
    ) -> None:
        super().__init__(console)
        self._name = name
        self._apply = apply
        self._asks_password = asks_password

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        """Lead to the list: a reload of a form asks for this address."""
        see_other(response, LIST)

    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        """Do it, or show the webhook again with the reason."""
        form = form_of(request)
        webhook = self.named(request, form.exactly("name"))
        try:
            if self._asks_password:
                check_own_password(self.console, request)
            secret = self._apply(self.webhooks(request), webhook.name, form)
        except RefusedError as error:
            refuse(response, error)
            self.show_one(request, response, webhook, {self._name: error.text})
            return
        if secret is not None:
            self.show_secret(request, response, webhook.name, secret)
        elif self._name == "remove":
            see_other(response, url(LIST, done=self._name))
        else:
            see_other(response, url(ONE, name=webhook.name, done=self._name))


def webhook_forms(console: Console) -> Iterator[tuple[str, WebhookForm]]:
    """Yield the forms of a webhook's page with their paths."""

    def pause(webhooks: Webhooks, name: str, _form: Form) -> None:
        webhooks.set_paused(name, paused=True)

    def resume(webhooks: Webhooks, name: str, _form: Form) -> None:
        webhooks.set_paused(name, paused=False)

    def test(webhooks: Webhooks, name: str, _form: Form) -> None:
        webhooks.test(name)

    def again(webhooks: Webhooks, name: str, form: Form) -> None:
        webhooks.send_again(name, form.one("id"))

    def secret(webhooks: Webhooks, name: str, _form: Form) -> str:
        return webhooks.renew_secret(name)

    def remove(webhooks: Webhooks, name: str, _form: Form) -> None:
        webhooks.remove(name)

    yield "/admin/webhook/pause", WebhookForm(console, "pause", pause, asks_password=True)
    yield "/admin/webhook/resume", WebhookForm(console, "resume", resume)
    yield "/admin/webhook/test", WebhookForm(console, "test", test)
    yield "/admin/webhook/again", WebhookForm(console, "again", again)
    yield "/admin/webhook/secret", WebhookForm(console, "secret", secret, asks_password=True)
    yield "/admin/webhook/remove", WebhookForm(console, "remove", remove, asks_password=True)
