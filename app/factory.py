"""The wiring of the service."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import falcon

from app.console import routes
from app.console.own_card import OwnCardPage
from app.console.page import Console
from app.domain.cards.card_actions import Action
from app.functions.client import FunctionsClient
from app.http import problems, schemas, self_service
from app.http.files import DownloadResource, OfferResource
from app.http.middleware import Bounds, OffMeansNotFound, RequestLog
from app.http.openapi.document import DOCUMENT
from app.http.request_parser import RequestParser
from app.http.resources import ExecuteResource, JsonResource, MetricsResource, VerifyResource
from app.http.shop import CardsResource, ChangeResource, ShopAccess
from app.runtime.clock import utc_now
from app.runtime.settings import Settings
from app.services.files.files import FileTransfer
from app.services.functions import Execution
from app.services.keys import sealed_secrets
from app.services.keys.signing_keys import SigningKeys
from app.services.licence.licence import LicenceService, Verification
from app.services.licence.vendor_rules import VendorRules
from app.services.programs import DataKeys
from app.services.self_service import SelfService
from app.services.shop.shop import Shop
from app.services.shop.shop_tokens import ShopTokens
from app.services.system import startup
from app.services.system.system_status import SystemStatus
from app.storage import schema
from app.storage.batcher import Batcher
from app.storage.blobs import Blobs
from app.storage.database import Database, connect_to
from app.storage.statements import PREPARED
from app.tokens.links import Links
from app.tokens.sealing_key import SealingKey
from app.tokens.signer import Signer


def create_app(settings: Settings) -> falcon.App[Any, Any]:
    """Build the service, or raise MovedAwayError, SchemaMismatchError, KeyRingError or SealingKeyError."""
    database = connect_to(
        Database(
            settings.database_url,
            prepared=PREPARED,
            on_connect=schema.check_version,
            connections=settings.threads + 2,  # two are held for good, by periodic work and by polling
        )
    )
    keys = SigningKeys(database, settings)
    startup.prepare(database, keys, utc_now)
    startup.mark_data_key(settings.keys_dir, settings.kernal_data_key)
    sealing_key = SealingKey(settings.sealing_key)
    sealed_secrets.seal_all(database, sealing_key)
    signer = Signer(keys.store)
    database.disconnect()  # the workers are forked after this
    rules = VendorRules(database)
    licences = LicenceService(database, Batcher(database), rules, signer, settings.issuer, settings.timezone, utc_now)
    data_keys = DataKeys(settings.kernal_data_key, sealing_key)
    verification = Verification(licences, data_keys, settings.offline_grace)
    transfer = FileTransfer(
        licences,
        Links(signer, settings.issuer),
        Blobs(settings.files_dir, settings.files_bucket),
        database,
        timezone=settings.timezone,
        clock=utc_now,
    )
    functions = FunctionsClient(settings.functions_socket, settings.function_seconds)
    execution = Execution(licences, functions)

    parser = RequestParser(behind_proxy=settings.behind_proxy, require_sealed=settings.require_sealed)

    own_cards = SelfService(database, rules, settings.timezone, utc_now)
    app = falcon.App(middleware=[RequestLog(behind_proxy=settings.behind_proxy)])
    app.add_middleware(Bounds(settings.threads))
    app.add_middleware(OffMeansNotFound(own_cards))
    problems.install(app)
    app.add_route("/v1/verify", VerifyResource(verification, parser))
    app.add_route("/v1/files", OfferResource(transfer, parser))
    app.add_route("/v1/files/{name}", DownloadResource(transfer, parser))
    app.add_route("/v1/execute", ExecuteResource(execution, parser))
    _add_shop(app, settings, database)
    app.add_route("/metrics", MetricsResource())
    _add_documents(app, database, signer, settings.keys_dir)
    of_customers = partial(self_service.SelfServiceResource, own_cards, settings.behind_proxy)
    app.add_route("/v1/self/status", of_customers(schemas.OwnCardRequest, own_cards.status))
    app.add_route("/v1/self/unbind", of_customers(schemas.OwnCardRequest, own_cards.unbind))
    app.add_route("/v1/self/renew", of_customers(schemas.RenewalRequest, own_cards.renew))
    system_status = SystemStatus(database, settings, functions, signer, utc_now, started_at=utc_now())
    console = Console(system_status, sealing_key)
    routes.install(app, console, own_cards)
    app.add_route("/card", OwnCardPage(console, own_cards))
    return app


def _add_documents(app: falcon.App[Any, Any], database: Database, signer: Signer, keys_dir: Path) -> None:
    def key_set() -> bytes:
        return json.dumps(signer.key_set(utc_now())).encode()

    def readiness() -> bytes:
        startup.require_serving(keys_dir)
        startup.check_schema(database)
        return b'{"status": "ready"}'

    app.add_route("/v1/openapi.json", JsonResource(lambda: DOCUMENT, "no-cache"))
    app.add_route("/.well-known/jwks.json", JsonResource(key_set, "no-cache"))
    app.add_route("/healthz", JsonResource(lambda: b'{"status": "ok"}'))
    app.add_route("/readyz", JsonResource(readiness))


def _add_shop(app: falcon.App[Any, Any], settings: Settings, database: Database) -> None:
    shop = Shop(database, settings.timezone, utc_now)
    shop_access = ShopAccess(ShopTokens(database, "service", utc_now), behind_proxy=settings.behind_proxy)
    app.add_route("/v1/shop/cards", CardsResource(shop, shop_access))
    app.add_route("/v1/shop/cards/freeze", ChangeResource(shop, shop_access, Action.FREEZE))
    app.add_route("/v1/shop/cards/unfreeze", ChangeResource(shop, shop_access, Action.UNFREEZE))
    app.add_route("/v1/shop/cards/extend", ChangeResource(shop, shop_access, Action.EXTEND))
