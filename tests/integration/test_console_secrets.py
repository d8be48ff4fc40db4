"""Guessing of passwords and codes is throttled, and no secret reaches log or database."""

from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import pyotp

from app.domain.operators import Role
from app.services.bearer import digest
from app.storage.database import Database
from app.storage.models import LoginFailure, Operator
from tests.support.console import PASSWORD, Browser, Seen, add_operator
from tests.support.console_scene import NEW_PASSWORD, address_of, csrf_of, furnish, paths
from tests.support.second_factors import FACTORS
from tests.support.service import Service, question
from tests.support.shop import Shop


def test_guessing_is_throttled_without_locking_the_vendor_out(proxied: Service) -> None:
    add_operator("olga")
    known = str(Browser(proxied, address="192.0.2.1").log_in("olga").cookie("kadun_device"))

    def log_in(address: str, password: str, device: str = "") -> Seen:
        browser = Browser(proxied, address=address, language="en")
        browser.set_cookie("kadun_device", device, "/admin/login")
        return browser.post("/admin/login", {"name": "olga", "password": password}, csrf="")

    assert log_in("192.0.2.1", "wrong").status == 403
    failed = LoginFailure.bucket.startswith("name:192.0.2.1:")
    assert LoginFailure.update(failures=11, last_at=datetime.now(UTC)).where(failed).execute() == 1  # each takes a hash
    refused = log_in("192.0.2.1", "wrong")
    assert (refused.status, 1 <= int(refused.headers["retry-after"]) <= 64) == (429, True)
    assert "too many failures" in refused.words
    assert log_in("192.0.2.1", PASSWORD).status == 429, "the right password is not tried either"
    assert log_in("192.0.2.1", PASSWORD, known).status == 303, "the vendor's own browser at that address"
    assert log_in("198.51.100.1", PASSWORD).status == 303, "and the vendor anywhere else"


def test_a_walk_through_everything_leaves_no_secret_in_the_log_nor_in_the_database(
    database_url: str, database: Database, tmp_path: Path
) -> None:
    with Service(tmp_path, database_url, KADUN_LOG_LEVEL="debug") as service:
        add_operator("olga")
        add_operator("sam", Role.SELLER)
        typed = "a password typed into the wrong field"
        Browser(service).post("/admin/login", {"name": typed, "password": typed + "!"}, csrf="")
        owner = Browser(service).log_in("olga")
        scene = furnish(["plain"])
        shop = Shop(service, database)
        card = shop.issue()[0]
        shop.look_up(card)
        service.verify(question(card))
        owner.get(f"/admin/cards?{urlencode({'q': card})}")
        owner.get(f"/admin/card?{urlencode({'id': card})}")
        owner.post("/admin/cards/freeze", {"id": card})
        owner.post("/admin/cards/import", {"step": "preview"}, {"file": ("x", f"id,validity\n{card},30d\n".encode())})
        first = {name: str(owner.cookie(name)) for name in ("kadun_session", "kadun_device")}
        new = {"new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD, "own_password": PASSWORD}
        assert owner.post("/admin/account/password", new).status == 303
        secret = dict(owner.get("/admin/account/two-step").form("/admin/account/two-step").fields)["secret"]
        code = pyotp.TOTP(secret).now()
        owner.post("/admin/account/two-step", {"secret": secret, "code": code, "own_password": NEW_PASSWORD})
        for path, access in paths().items():
            form = {**scene.forms.get(path, {}), "id": card, "csrf": owner.csrf()}
            if "GET" in access:
                owner.get(f"{address_of(path)}?{urlencode({**scene.queries.get(path, {}), **form})}")
            if "POST" in access and path not in {"/admin/logout", "/admin/login"} and "own_password" not in form:
                owner.post(path, form, csrf=str(form.pop("csrf")))
        hashes = [row.password_hash for row in Operator.select()]
        tokens = [*first.values(), str(owner.cookie("kadun_session")), str(owner.cookie("kadun_device")), shop.token]
        csrf = [owner.csrf(), csrf_of(first["kadun_session"])]
    olga = Operator.get(Operator.name == "olga")
    assert FACTORS.open(olga.id, olga.totp_secret) == secret
    log = service.log.read_text()
    assert '"/admin/account/password"' in log
    secrets = {PASSWORD, NEW_PASSWORD, typed, secret, *tokens, *csrf}
    for said in secrets | {card, *scene.cards, *map(digest, tokens), *hashes}:
        assert said not in log, said
    for table in database.get_tables():
        stored = str(database.execute_sql(f'SELECT t::text FROM "{table}" t').fetchall())  # noqa: S608  # our tables
        assert not [said for said in secrets if said in stored], table
