"""All pages of the console: where each is found."""

from collections.abc import Iterator
from typing import Any

import falcon

from app.console import errors
from app.console.cards.card import CardPage
from app.console.cards.card_actions import ApplyPage, ConfirmPage, DonePage, EditApplyPage, EditPage
from app.console.cards.exports import CardsExport
from app.console.cards.issue import IssuedPage, IssuePage
from app.console.cards.lists import CardsPage, JournalExport, JournalPage, UsagePage
from app.console.guard import Guard
from app.console.imports.imports import ImportPage
from app.console.journal.refusal import MovePage, RefusalPage
from app.console.licence.blocks import AddBlockPage, BlocksPage, RemoveBlockPage
from app.console.licence.settings import SettingsPage
from app.console.operators.account import (
    AccountPage,
    OtherSessions,
    OwnPassword,
    RecoveryCodes,
    TwoStepPage,
    TwoStepRemoval,
)
from app.console.operators.log_in import HomeRedirect, LoginPage, LogoutPage, SessionCheck, StaticPage
from app.console.operators.operators import OperatorPage, OperatorsPage, TokenPage, operator_forms
from app.console.page import Console, Page
from app.console.plain import FrontPage
from app.console.reports.figures_page import AbuseReportPage, OverviewPage
from app.console.static_files import StaticFiles
from app.console.system.system_status import FilesPage, FunctionsPage, HealthPage, KeysPage
from app.console.webhooks.webhooks import WebhookPage, WebhooksPage, webhook_forms
from app.services.selfservice.self_service import SelfService


def install(app: falcon.App[Any, Any], console: Console, static: StaticFiles, self_service: SelfService) -> None:
    """Add the console to `app`, and the page at `/`, which links to self-service where it is on."""
    app.add_middleware(Guard(console))
    errors.install(app, console)
    for path, page in pages(console, static):
        app.add_route(path, page)
    app.add_route("/admin/session", SessionCheck(console))
    app.add_route("/", FrontPage(console, self_service))


def pages(console: Console, static: StaticFiles) -> Iterator[tuple[str, Page]]:
    """Yield every page with its path."""
    yield "/admin", HomeRedirect(console)
    yield "/admin/static/{name}", StaticPage(console, static)
    yield "/admin/login", LoginPage(console)
    yield "/admin/logout", LogoutPage(console)
    yield "/admin/", OverviewPage(console)
    yield "/admin/journal", JournalPage(console)
    yield "/admin/journal/export", JournalExport(console)
    yield "/admin/sharing", AbuseReportPage(console)
    yield "/admin/usage", UsagePage(console)
    yield "/admin/account", AccountPage(console)
    yield "/admin/account/password", OwnPassword(console)
    yield "/admin/account/sessions", OtherSessions(console)
    yield "/admin/account/two-step/codes", RecoveryCodes(console)
    yield "/admin/account/two-step", TwoStepPage(console)
    yield "/admin/account/two-step/remove", TwoStepRemoval(console)
    yield "/admin/operators", OperatorsPage(console)
    yield "/admin/operator", OperatorPage(console)
    yield from operator_forms(console)
    yield "/admin/token", TokenPage(console)
    yield "/admin/webhooks", WebhooksPage(console)
    yield "/admin/webhook", WebhookPage(console)
    yield from webhook_forms(console)
    yield "/admin/settings", SettingsPage(console)
    yield "/admin/blocks", BlocksPage(console)
    yield "/admin/blocks/add", AddBlockPage(console)
    yield "/admin/blocks/remove", RemoveBlockPage(console)
    yield "/admin/files", FilesPage(console)
    yield "/admin/functions", FunctionsPage(console)
    yield "/admin/keys", KeysPage(console)
    yield "/admin/health", HealthPage(console)
    yield "/admin/cards", CardsPage(console)
    yield "/admin/cards/confirm", ConfirmPage(console)
    yield "/admin/cards/apply", ApplyPage(console)
    yield "/admin/cards/edit", EditPage(console)
    yield "/admin/cards/edit/apply", EditApplyPage(console)
    yield "/admin/cards/done", DonePage(console)
    yield "/admin/cards/export", CardsExport(console)
    yield "/admin/cards/issue", IssuePage(console)
    yield "/admin/cards/issued", IssuedPage(console)
    yield "/admin/cards/import", ImportPage(console)
    yield "/admin/card", CardPage(console)
    yield "/admin/card/move", MovePage(console)
    yield "/admin/refusal", RefusalPage(console)
