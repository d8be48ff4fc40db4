"""All pages of the console: where each is found."""

from collections.abc import Iterator
from typing import Any

import falcon

from app.console import errors
from app.console.cards import card, card_actions, exports, issue, lists
from app.console.guard import Guard
from app.console.imports import ImportPage
from app.console.licence import blocks, programs, settings
from app.console.operators import account, operators
from app.console.page import Console, Page
from app.console.plain import FrontPage
from app.console.refusal import MovePage, RefusalPage
from app.console.reports.figures_page import AbuseReportPage, OverviewPage
from app.console.system_status import FilesPage, FunctionsPage, HealthPage, KeysPage
from app.console.webhooks import WebhookPage, WebhooksPage, webhook_forms
from app.services.self_service import SelfService


def install(app: falcon.App[Any, Any], console: Console, self_service: SelfService) -> None:
    """Add the console to `app`, and the page at `/`, which links to self-service where it is on."""
    app.add_middleware(Guard(console))
    errors.install(app, console)
    for path, page in pages(console):
        app.add_route(path, page)
    app.add_route("/admin/session", account.SessionCheck(console))
    app.add_route("/", FrontPage(console, self_service))


def pages(console: Console) -> Iterator[tuple[str, Page]]:
    yield "/admin", account.HomeRedirect(console)
    yield "/admin/static/{name}", account.StaticPage(console)
    yield "/admin/login", account.LoginPage(console)
    yield "/admin/logout", account.LogoutPage(console)
    yield "/admin/", OverviewPage(console)
    yield "/admin/journal", lists.JournalPage(console)
    yield "/admin/journal/export", lists.JournalExport(console)
    yield "/admin/sharing", AbuseReportPage(console)
    yield "/admin/usage", lists.UsagePage(console)
    yield "/admin/account", account.AccountPage(console)
    yield "/admin/account/password", account.OwnPassword(console)
    yield "/admin/account/sessions", account.OtherSessions(console)
    yield "/admin/account/two-step", account.TwoStepPage(console)
    yield "/admin/account/two-step/remove", account.TwoStepRemoval(console)
    yield "/admin/operators", operators.OperatorsPage(console)
    yield "/admin/operator", operators.OperatorPage(console)
    yield from operators.operator_forms(console)
    yield "/admin/token", operators.TokenPage(console)
    yield "/admin/webhooks", WebhooksPage(console)
    yield "/admin/webhook", WebhookPage(console)
    yield from webhook_forms(console)
    yield "/admin/settings", settings.SettingsPage(console)
    yield "/admin/programs", programs.ProgramsPage(console)
    yield "/admin/programs/seal", programs.SealPage(console)
    yield "/admin/program", programs.ProgramPage(console)
    yield "/admin/program/keys", programs.KeysDownload(console)
    yield "/admin/program/remove", programs.RemoveProgramPage(console)
    yield "/admin/blocks", blocks.BlocksPage(console)
    yield "/admin/blocks/add", blocks.AddBlockPage(console)
    yield "/admin/blocks/remove", blocks.RemoveBlockPage(console)
    yield "/admin/files", FilesPage(console)
    yield "/admin/functions", FunctionsPage(console)
    yield "/admin/keys", KeysPage(console)
    yield "/admin/health", HealthPage(console)
    yield "/admin/cards", lists.CardsPage(console)
    yield "/admin/cards/confirm", card_actions.ConfirmPage(console)
    yield "/admin/cards/apply", card_actions.ApplyPage(console)
    yield "/admin/cards/edit", card_actions.EditPage(console)
    yield "/admin/cards/edit/apply", card_actions.EditApplyPage(console)
    yield "/admin/cards/done", card_actions.DonePage(console)
    yield "/admin/cards/export", exports.CardsExport(console)
    yield "/admin/cards/issue", issue.IssuePage(console)
    yield "/admin/cards/issued", issue.IssuedPage(console)
    yield "/admin/cards/import", ImportPage(console)
    yield "/admin/card", card.CardPage(console)
    yield "/admin/card/move", MovePage(console)
    yield "/admin/refusal", RefusalPage(console)
