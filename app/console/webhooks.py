"""Webhooks, which owners see and change."""

from collections.abc import Callable, Iterator

import falcon

from app.console.form_page import FormPage
from app.console.forms import Form
from app.console.page import Access, Console, Values, visitor_of
from app.console.rendering import url
from app.domain.webhooks import MAX_WEBHOOKS, TOPICS
from app.http.problems import not_found
from app.services.webhooks.webhooks import PAGE_ROWS, Webhook, WebhookNotFoundError, Webhooks

LIST = "/admin/webhooks"
ONE = "/admin/webhook"


class _WebhookPage(FormPage):
    def webhooks(self, request: falcon.Request) -> Webhooks:
        console = self.console
        actor, limits = visitor_of(request).actor, self.limits(request)
        return Webhooks(console.database, actor, console.clock, console.sealing_key, limits)

    def show_secret(self, request: falcon.Request, response: falcon.Response, name: str, secret: str) -> None:
        self.console.renderer.render(request, response, "webhooks/webhook_secret.html", name=name, secret=secret)


class WebhooksPage(_WebhookPage):
    """`/admin/webhooks`: the list, and the form that adds one. The answer to the form has the secret."""

    template = "webhooks/webhooks.html"

    def change(self, request: falcon.Request, response: falcon.Response, form: Form) -> None:
        self.check_own_password(request, form)
        name = form.one("name")
        secret = self.webhooks(request).add(name, form.one("url"), form.all("topic"))
        self.show_secret(request, response, name, secret)

    def values(self, request: falcon.Request, form: Form) -> Values:
        return {
            "webhooks": self.webhooks(request).list(),
            "topics": TOPICS,
            "most": MAX_WEBHOOKS,
            "typed": {"name": form.one("name"), "url": form.one("url")},
            "chosen": form.all("topic"),
        }


class WebhookPage(_WebhookPage):
    """`/admin/webhook?name=…`: one webhook, its messages, and the forms that change it."""

    access = {"GET": Access.OWNER}
    template = "webhooks/webhook.html"
    takes_query = True

    def named(self, request: falcon.Request, form: Form) -> Webhook:
        try:
            return self.webhooks(request).find(form.exactly("name"))
        except WebhookNotFoundError as error:
            raise not_found(error.text) from error

    def values(self, request: falcon.Request, form: Form) -> Values:
        webhook = self.named(request, form)
        messages = self.webhooks(request).messages(webhook, form.number("below"))
        older = messages[-1].id if len(messages) == PAGE_ROWS else None
        return {"webhook": webhook, "messages": messages, "older": older}


_ACTIONS: dict[str, Callable[[Webhooks, str, Form], str | None]] = {
    "pause": lambda webhooks, name, _form: webhooks.set_paused(name, paused=True),
    "resume": lambda webhooks, name, _form: webhooks.set_paused(name, paused=False),
    "test": lambda webhooks, name, _form: webhooks.test(name),
    "again": lambda webhooks, name, form: webhooks.send_again(name, form.one("id")),
    "secret": lambda webhooks, name, _form: webhooks.renew_secret(name),
    "remove": lambda webhooks, name, _form: webhooks.remove(name),
}
_ASKS_PASSWORD = ("pause", "secret", "remove")


class WebhookForm(WebhookPage):
    """`/admin/webhook/{name}`: a form that does something with a webhook; `name` is one of `_ACTIONS`."""

    access = {"GET": Access.OWNER, "POST": Access.OWNER}
    leads_to = LIST

    def __init__(self, console: Console, name: str) -> None:
        super().__init__(console)
        self.name = name

    def change(self, request: falcon.Request, response: falcon.Response, form: Form) -> str | None:
        webhook = self.named(request, form)
        if self.name in _ASKS_PASSWORD:
            self.check_own_password(request, form)
        result = _ACTIONS[self.name](self.webhooks(request), webhook.name, form)
        if self.name == "secret":
            self.show_secret(request, response, webhook.name, str(result))
            return None
        return url(LIST, done="remove") if self.name == "remove" else url(ONE, name=webhook.name, done=self.name)


def webhook_forms(console: Console) -> Iterator[tuple[str, WebhookForm]]:
    for action in _ACTIONS:
        yield f"{ONE}/{action}", WebhookForm(console, action)
