"""Accounts of operators and shops: what owners do to them, also in the console, and `cardctl admin` and `… token`."""
# Owns cardctl-accounts.

import json
import os
import pty
import re
import select
import subprocess
import sys
import threading
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from urllib.parse import urlencode

import psycopg2
import pyotp
import pytest

from app.domain.errors import DatabaseUnavailableError
from app.domain.operators.ceilings import OPERATOR_DEFAULTS, described
from app.domain.operators.operators import Role, Scope
from app.domain.texts import RefusedError
from app.runtime.clock import utc_now
from app.services.operators import operators as operators_module
from app.services.operators.operators import LastOwnerError, OperatorNotFoundError, Operators
from app.services.operators.sessions import LoginRefusedError, Sessions
from app.services.operators.two_step import TwoStep
from app.services.random_tokens import digest
from app.services.shop.shop_tokens import ShopTokens
from app.storage.database import Database
from app.storage.models import ApiToken, Ceiling, Event, LoginFailure, Operator
from tests.conftest import Clock
from tests.integration.conftest import with_keys
from tests.support.concurrency import outcomes_at_once
from tests.support.console.console import OWN, PASSWORD, Browser, add_operator
from tests.support.console.console_scene import NEW_PASSWORD, address_of, csrf_of, furnish, paths
from tests.support.secrets import OTHER, SEALING
from tests.support.services.service import ROOT, Service, question
from tests.support.shop import Shop

HOME = "198.51.100.1"


@pytest.fixture
def operators(operators: Operators) -> Operators:
    operators.add("alice", Role.OWNER, PASSWORD)
    return operators


def test_changes_of_operators_are_journalled_without_secrets_and_others_not(operators: Operators, clock: Clock) -> None:
    operators.add("小王", Role.SELLER, PASSWORD)
    operators.set_password("小王", OTHER)
    for refused in (
        lambda: operators.add("小王", Role.SELLER, PASSWORD),  # the name is taken
        lambda: operators.add("a\0", Role.SELLER, PASSWORD),
        lambda: operators.set_password("小王", "short"),
    ):
        with pytest.raises(RefusedError):
            refused()
    for _ in range(2):  # the second time nothing changes
        operators.set_role("小王", Role.OWNER)
    secret = pyotp.random_base32()
    TwoStep(operators, SEALING).enable("小王", secret, pyotp.TOTP(secret).at(clock.now), "")
    for log_out in (False, False, True):
        TwoStep(operators, SEALING).disable("小王", log_out=log_out)
    operators.remove("小王")
    owner, seller = (described(OPERATOR_DEFAULTS[role]) for role in (Role.OWNER, Role.SELLER))
    assert list(Event.select(Event.kind, Event.actor, Event.details).order_by(Event.id).tuples()) == [
        ("operator_added", "tester", {"operator": "alice", "role": "owner", **owner}),
        ("operator_added", "tester", {"operator": "小王", "role": "seller", **seller}),
        ("operator_changed", "tester", {"operator": "小王", "changed": "password"}),
        ("operator_changed", "tester", {"operator": "小王", "role": "owner"}),
        ("operator_changed", "tester", {"operator": "小王", "totp": True}),
        ("operator_changed", "tester", {"operator": "小王", "totp": False}),
        ("operator_removed", "tester", {"operator": "小王", "role": "owner"}),
    ]


def test_an_unknown_operator_cannot_be_changed(operators: Operators) -> None:
    name = "Alice"  # another than alice
    for action in (
        lambda: operators.set_password(name, PASSWORD),
        lambda: operators.set_role(name, Role.SELLER),
        lambda: operators.remove("alice", name, force=True),
        lambda: TwoStep(operators, SEALING).enable(name, pyotp.random_base32(), "123456", ""),
        lambda: TwoStep(operators, SEALING).disable(name, log_out=True),
    ):
        with pytest.raises(OperatorNotFoundError):
            action()
    assert [account.name for account in operators.list()] == ["alice"]


def test_the_last_owner_can_be_neither_removed_nor_demoted(operators: Operators) -> None:
    operators.add("bob", Role.SELLER, PASSWORD)
    for action in (lambda: operators.remove("alice"), lambda: operators.set_role("alice", Role.SELLER)):
        with pytest.raises(LastOwnerError):
            action()
    operators.set_role("bob", Role.OWNER)
    with pytest.raises(LastOwnerError):
        operators.remove("alice", "bob")
    operators.set_role("alice", Role.SELLER)
    operators.remove("alice")
    assert [(account.name, account.role) for account in operators.list()] == [("bob", Role.OWNER)]


def test_one_of_two_owners_must_stay(operators: Operators, database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    operators.add("bob", Role.OWNER, PASSWORD)
    both = threading.Barrier(2, timeout=60)
    lock_owners = operators_module.lock_owners

    def meet_and_lock() -> list[str]:
        both.wait()
        return lock_owners()

    monkeypatch.setattr(operators_module, "lock_owners", meet_and_lock)
    removing = [partial(operators.remove, name) for name in ("alice", "bob")]
    assert outcomes_at_once(database, removing, LastOwnerError).count(None) == 1
    assert len(operators.list()) == 1


def test_a_long_import_blocks_no_log_in_but_the_removal_of_its_operator(
    operators: Operators, sessions: Sessions, database: Database, database_url: str
) -> None:
    operators.add("bob", Role.OWNER, PASSWORD)
    database.execute_sql("SET lock_timeout = '200ms'")
    with closing(psycopg2.connect(database_url)) as importing, importing.cursor() as form:
        form.execute(
            "INSERT INTO idempotency_record (operator_id, key, request_sha256, status, body, created_at) "
            "SELECT id, 'k', repeat('0', 64), 0, '', now() FROM operator WHERE name = 'alice'"
        )
        sessions.log_in("alice", PASSWORD, None, HOME)
        operators.set_role("bob", Role.SELLER)
        operators.set_password("alice", OTHER)
        operators.set_role("bob", Role.OWNER)
        with pytest.raises(DatabaseUnavailableError):
            operators.remove("alice")
    assert [account.name for account in operators.list()] == ["alice", "bob"]
    operators.remove("alice")
    assert [account.name for account in operators.list()] == ["bob"]


def can_log_in(database: Database, name: str, password: str) -> bool:
    try:
        Sessions(database, utc_now, SEALING).log_in(name, password, None, HOME)
    except LoginRefusedError:
        return False
    return True


def test_a_password_is_a_line_of_standard_input(offline: Service, database: Database) -> None:
    for number, line in enumerate((f"{PASSWORD}\r\n", f"{PASSWORD}\nmore\n")):
        offline.cardctl("admin", "add", f"小王{number}", "--role", "seller", text=line)
        assert can_log_in(database, f"小王{number}", PASSWORD), line
    assert {operator.role for operator in Operator.select()} == {"seller"}


def test_a_password_is_typed_twice_unseen_and_again_where_both_differ(offline: Service, database: Database) -> None:
    typed = [PASSWORD, OTHER, PASSWORD, PASSWORD]  # a line at each prompt
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execve(sys.executable, [sys.executable, "-m", "app", "admin", "add", "alice"], offline.environment)  # noqa: S606
    seen, questions = b"", 0
    while select.select([terminal], [], [], 20)[0]:
        try:
            seen += os.read(terminal, 4096)
        except OSError:  # the program has ended
            break
        if len(re.findall(b"(?:Password|Again): ", seen)) > questions and questions < len(typed):
            os.write(terminal, typed[questions].encode() + b"\n")
            questions += 1
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, seen
    assert not [password for password in (OTHER, PASSWORD) if password.encode() in seen]
    assert Operator.get().role == "owner"
    assert can_log_in(database, "alice", PASSWORD)


def test_a_missing_or_weak_password_is_refused_in_one_line_and_none_can_be_an_argument(offline: Service) -> None:
    for text in ["", "\n", "short\n", "a" * 20]:
        offline.refusal("admin", "add", "alice", text=text)
    assert offline.cardctl("admin", "add", "alice", PASSWORD, check=False, text=PASSWORD).returncode == 2
    with offline.spawn_cardctl("admin", "add", "alice", stdin=subprocess.PIPE, stderr=subprocess.PIPE) as adding:
        _, said = adding.communicate(b"\xff" * 20 + b"\n")
    assert (adding.returncode, said.count(b"\n"), b"UTF-8" in said) == (1, 1, True)
    assert Operator.select().count() == 0


def test_a_password_is_changed_and_codes_are_switched_off_on_request(offline: Service, database: Database) -> None:
    add_operator("alice")
    Operator.update(totp_secret="A" * 32).execute()
    offline.cardctl("admin", "password", "alice", text=OTHER)
    assert Operator.get().totp_secret == "A" * 32
    offline.cardctl("admin", "password", "alice", "--reset-totp", text=PASSWORD)
    assert [can_log_in(database, "alice", each) for each in (PASSWORD, OTHER)] == [True, False]
    changes = [event.details for event in Event.select().where(Event.kind == "operator_changed").order_by(Event.id)]
    assert changes == [
        {"operator": "alice", "changed": "password"},
        {"operator": "alice", "changed": "password", "totp": False},
    ]


def test_operators_are_listed_with_their_ceilings_and_no_secret(offline: Service, database: Database) -> None:
    options = ("--cards-per-day", "50", "--longest-validity", "month")
    offline.cardctl("admin", "add", "sam", "--role", "seller", *options, text=PASSWORD)
    assert can_log_in(database, "sam", PASSWORD)
    Operator.update(totp_secret="A" * 32).execute()
    offline.cardctl("admin", "ceilings", "sam", "--longest-validity", "permanent", "--changes-per-day", "3")
    as_json, as_table = (offline.cardctl("admin", "list", "--format", kind).stdout for kind in ("json", "table"))
    (listed,) = json.loads(as_json)
    assert listed["last_seen_at"] is not None
    names = ("name", "role", "totp", "cards_per_day", "longest_validity", "changes_per_day")
    assert [listed[name] for name in names] == ["sam", "seller", True, 50, "permanent", 3]
    printed = as_json + as_table + offline.cardctl("events", "--format", "json").stdout
    assert not [secret for secret in ("argon2", "A" * 32, PASSWORD) if secret in printed]
    offline.refusal("admin", "ceilings", "nobody", "--cards-per-day", "1")
    for wrong in ((), ("--cards-per-day", "0"), ("--longest-validity", "soon")):
        assert offline.cardctl("admin", "ceilings", "sam", *wrong, check=False).returncode == 2, wrong


def test_a_token_is_printed_once_limited_and_revoked(offline: Service, database: Database) -> None:
    add = ("token", "add", "发卡网", "--scope")
    unknown = offline.cardctl(*add, "cards:issue,cards:delete", check=False)
    assert (unknown.returncode, unknown.stdout, ApiToken.select().count()) == (2, "", 0)
    options = ("--cards-per-day", "5", "--all-cards", "--expires", "never", "--network", "2001:db8::1")
    token = offline.cardctl(*add, "cards:issue, cards:read", *options).stdout.strip()
    tokens = ShopTokens(database, "tester", utc_now)
    identity = tokens.authenticate(token)
    assert identity is not None
    assert (identity.name, sorted(identity.scopes)) == ("发卡网", ["cards:issue", "cards:read"])

    def limits() -> list[object]:
        (listed,) = offline.cardctl_json("token", "list")
        names = ("cards_per_day", "longest_validity", "own_cards_only", "networks", "program")
        return [listed[name] for name in names]

    assert limits() == [5, "365d", False, ["2001:db8::/64"], None]
    changed = ("--longest-validity", "7d", "--own-cards", "--network", "any", "--expires", "1d")
    offline.cardctl("token", "limits", "发卡网", *changed)
    assert limits() == [5, "7d", True, [], None]
    assert Event.get(Event.kind == "token_changed").details["own_cards_only"] is True
    everything = "".join(offline.cardctl(*each, "--format", "json").stdout for each in (("token", "list"), ("events",)))
    assert not [secret for secret in (token, ApiToken.get().token_sha256) if secret in everything]
    assert "revoke it first" in offline.refusal(*add, "cards:issue")
    offline.cardctl("token", "revoke", "发卡网")
    offline.refusal("token", "revoke", "发卡网")
    again = offline.cardctl(*add, "cards:issue").stdout.strip()
    assert (tokens.authenticate(token), tokens.authenticate(again) is None) == (None, False), "its name is free"


NEW = {"new_password": NEW_PASSWORD, "new_password_again": NEW_PASSWORD}


@pytest.fixture
def owner(service: Service, database: Database) -> Browser:
    add_operator("olga")
    add_operator("sam", Role.SELLER)
    return Browser(service, language="en").log_in("olga")


def role_of(name: str) -> str:
    return str(Operator.get(Operator.name == name).role)


def test_a_session_and_the_password_without_a_code_change_nothing(owner: Browser, database: Database) -> None:
    ShopTokens(database, "tester", lambda: datetime.now(UTC)).add("shop", [Scope.CARDS_READ])
    app = pyotp.TOTP(pyotp.random_base32())
    forms = {
        "/admin/operators": {"name": "thief", "role": "owner", **NEW},
        "/admin/operator/role": {"name": "sam", "role": "owner"},
        "/admin/operator/ceilings": {"name": "sam", "cards_per_day": "1000000"},
        "/admin/operator/password": {"name": "sam", **NEW},
        "/admin/operator/two-step": {"name": "sam"},
        "/admin/operator/remove": {"name": "sam"},
        "/admin/token": {"name": "shop"},
        "/admin/account/password": NEW,
        "/admin/account/two-step/remove": {},
    }
    Operator.update(totp_secret=app.secret).where(Operator.name == "olga").execute()
    for path, fields in forms.items():
        for given in ({}, {"own_code": "000000"}, {"own_password": "guess", "own_code": "000000"}):
            refused = owner.post(path, {**fields, "own_password": PASSWORD, **given})
            assert refused.status == 400, path
        LoginFailure.delete().execute()
    kinds = {"operator_added", "operator_changed", "operator_removed", "token_revoked"}
    assert not Event.select().where(Event.kind.in_(kinds)).exists()
    page = owner.get("/admin/operators")
    fields = {"name": "thief", "role": "owner", "own_password": PASSWORD, **NEW}
    page = owner.submit(page, "/admin/operators", fields, own_code=app.at(datetime.now(UTC)))
    assert page.path == "/admin/operators?done=added"


def test_owners_begin_with_two_step_where_they_must(database: Database, database_url: str, tmp_path: Path) -> None:
    add_operator("olga")
    add_operator("sam", Role.SELLER)
    with Service(with_keys(tmp_path), database_url, KADUN_OWNERS_NEED_TOTP="true", KADUN_CONFIRM_CARDS="0") as strict:
        owner = Browser(strict, language="en")
        page = owner.submit(owner.get("/admin/login"), "/admin/login", name="olga", password=PASSWORD)
        assert page.path == "/admin/account/two-step"
        assert "Owners need two-step verification" in page.words
        for path in ("/admin/", "/admin/cards", "/admin/account", "/admin/operators"):
            assert owner.get(path).headers["location"] == "/admin/account/two-step", path
        fields = {"name": "sam", "role": "owner", "own_password": PASSWORD}
        csrf = dict(page.form("/admin/logout").fields)["csrf"]
        assert owner.post("/admin/operator/role", fields, csrf=csrf).headers["location"] == "/admin/account/two-step"
        assert role_of("sam") == Role.SELLER
        secret = dict(page.form("/admin/account/two-step").fields)["secret"]
        code = pyotp.TOTP(secret).at(datetime.now(UTC))
        page = owner.submit(page, "/admin/account/two-step", code=code, own_password=PASSWORD)
        assert "Two-step verification is on" in page.words
        assert owner.get("/admin/operators").status == 200
        sam = Browser(strict, language="en").log_in("sam")
        assert sam.get("/admin/cards").status == 200, "sellers are free to choose"
        issue = sam.submit(sam.get("/admin/cards/issue"), "/admin/cards/issue", count="1")
        assert "More than 0 cards at once" in issue.words


def test_ceilings_take_the_own_password_and_nobody_changes_their_own_account_there(owner: Browser) -> None:
    wanted = {"name": "sam", "cards_per_day": "20", "longest_validity": "月卡", "changes_per_day": "5"}
    for typed in ({"own_password": "guess"}, {"changes_per_day": "-1", **OWN}):
        assert owner.post("/admin/operator/ceilings", {**wanted, **typed}).status == 400, typed
    assert Ceiling.select().count() == 0
    assert owner.post("/admin/operator/ceilings", wanted | OWN).status == 303
    changed = {"operator": "sam", "cards_per_day": 20, "longest_validity": "30d", "changes_per_day": 5}
    (event,) = Event.select().where(Event.kind == "operator_changed")
    assert (event.actor, event.details) == ("console:olga", changed)
    for action in ("role", "ceilings", "password", "two-step", "remove"):
        page = owner.post(f"/admin/operator/{action}", wanted | {"name": "olga", "role": "seller"} | NEW | OWN)
        assert (page.status, "your own account is not changed here" in page.words) == (400, True), action
    assert role_of("olga") == "owner"


def test_no_secret_is_left_in_the_log_or_the_database(database_url: str, database: Database, tmp_path: Path) -> None:
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
        first = str(owner.cookie("kadun_session"))
        assert owner.post("/admin/account/password", {"own_password": PASSWORD, **NEW}).status == 303
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
        tokens = [first, str(owner.cookie("kadun_session")), shop.token]
        csrf = [owner.csrf(), csrf_of(first)]
    olga = Operator.get(Operator.name == "olga")
    assert SEALING.open("operator", olga.id, olga.totp_secret) == secret
    log = service.log.read_text()
    assert '"/admin/account/password"' in log
    secrets = {PASSWORD, NEW_PASSWORD, typed, secret, *tokens, *csrf}
    for said in secrets | {card, *scene.cards, *map(digest, tokens), *hashes}:
        assert said not in log, said
    for table in database.get_tables():
        stored = str(database.execute_sql(f'SELECT t::text FROM "{table}" t').fetchall())  # noqa: S608  # our tables
        assert not [said for said in secrets if said in stored], table
