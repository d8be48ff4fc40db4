"""`cardctl admin` and `cardctl token`. A password is never an argument."""
# Owns cardctl-accounts.

import json
import os
import pty
import re
import select
import subprocess
import sys

from app.runtime.clock import utc_now
from app.services.operators.sessions import LoginRefusedError, Sessions
from app.services.shop.shop_tokens import ShopTokens
from app.storage.database import Database
from app.storage.models import ApiToken, Event, Operator
from tests.support.console.passwords import OTHER, PASSWORD
from tests.support.sealing import SEALING
from tests.support.services.service import ROOT, Service

HOME = "198.51.100.1"


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


def test_a_password_is_typed_twice_and_not_shown_and_asked_for_again_where_they_differ(
    offline: Service, database: Database
) -> None:
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


def test_a_password_is_changed_and_one_time_codes_are_switched_off_on_request(
    offline: Service, database: Database
) -> None:
    offline.cardctl("admin", "add", "alice", text=PASSWORD)
    Operator.update(totp_secret="A" * 32).execute()
    offline.cardctl("admin", "password", "alice", text=OTHER)
    assert Operator.get().totp_secret == "A" * 32
    offline.cardctl("admin", "password", "alice", "--reset-totp", text=PASSWORD)
    assert can_log_in(database, "alice", PASSWORD)
    assert not can_log_in(database, "alice", OTHER)
    changes = [event.details for event in Event.select().where(Event.kind == "operator_changed").order_by(Event.id)]
    assert changes == [
        {"operator": "alice", "changed": "password"},
        {"operator": "alice", "changed": "password", "totp": False},
    ]


def test_the_list_of_operators_contains_no_secret(offline: Service) -> None:
    assert "/ No operators" in offline.cardctl("admin", "list").stderr
    assert offline.cardctl_json("admin", "list") == []
    offline.cardctl("admin", "add", "alice", text=PASSWORD)
    Operator.update(totp_secret="A" * 32).execute()
    as_json, as_table = (offline.cardctl("admin", "list", "--format", kind).stdout for kind in ("json", "table"))
    (listed,) = json.loads(as_json)
    columns = ["name", "role", "totp", "created_at", "password_changed_at", "last_seen_at"]
    assert list(listed) == [*columns, "cards_per_day", "longest_validity", "changes_per_day"]
    assert (listed["cards_per_day"], listed["longest_validity"]) == (10_000, "permanent")
    assert (listed["name"], listed["role"], listed["totp"], listed["last_seen_at"]) == ("alice", "owner", True, None)
    assert listed["created_at"].endswith("+08:00")
    assert ("alice" in as_table, "owner" in as_table, "是 yes" in as_table) == (True, True, True)
    printed = as_json + as_table + offline.cardctl("events", "--format", "json").stdout
    assert not [secret for secret in ("argon2", "A" * 32, PASSWORD) if secret in printed]


def test_a_token_is_printed_once_and_listed_without_its_value(offline: Service, database: Database) -> None:
    assert "/ No tokens" in offline.cardctl("token", "list").stderr
    assert offline.cardctl_json("token", "list") == []
    printed = offline.cardctl("token", "add", "发卡网", "--scope", "cards:issue, cards:read").stdout
    token = printed.removesuffix("\n")
    identity = ShopTokens(database, "tester", utc_now).authenticate(token)
    assert identity is not None
    assert (identity.name, sorted(identity.scopes)) == ("发卡网", ["cards:issue", "cards:read"])
    as_json, as_table = (offline.cardctl("token", "list", "--format", kind).stdout for kind in ("json", "table"))
    (listed,) = json.loads(as_json)
    columns = ["name", "scopes", "created_at", "last_used_at", "revoked_at"]
    limits = ["cards_per_day", "longest_validity", "own_cards_only", "expires_at", "networks", "program"]
    assert list(listed) == [*columns, *limits]
    assert [listed[name] for name in limits if name != "expires_at"] == [1000, "365d", True, [], None]
    assert (listed["scopes"], listed["revoked_at"]) == (["cards:issue", "cards:read"], None)
    assert "cards:issue, cards:read" in as_table
    everything = as_json + as_table + offline.cardctl("events", "--format", "json").stdout
    assert not [secret for secret in (token, ApiToken.get().token_sha256) if secret in everything]


def test_a_token_is_revoked(offline: Service, database: Database) -> None:
    token = offline.cardctl("token", "add", "shop", "--scope", "cards:issue").stdout.strip()
    tokens = ShopTokens(database, "tester", utc_now)
    assert "revoke it first" in offline.refusal("token", "add", "shop", "--scope", "cards:issue")
    offline.cardctl("token", "revoke", "shop")
    assert tokens.authenticate(token) is None
    offline.refusal("token", "revoke", "shop")
    again = offline.cardctl("token", "add", "shop", "--scope", "cards:issue").stdout.strip()
    assert (tokens.authenticate(token), tokens.authenticate(again) is None) == (None, False), "its name is free"


def test_an_unknown_scope_is_a_usage_error(offline: Service) -> None:
    refusal = offline.cardctl("token", "add", "shop", "--scope", "cards:issue,cards:delete", check=False)
    assert (refusal.returncode, refusal.stdout, ApiToken.select().count()) == (2, "", 0)
    assert "cards:extend" in refusal.stderr


def test_an_operators_ceilings_are_set_and_changed(offline: Service) -> None:
    options = ("--cards-per-day", "50", "--longest-validity", "month")
    offline.cardctl("admin", "add", "sam", "--role", "seller", *options, text=PASSWORD)
    (listed,) = offline.cardctl_json("admin", "list")
    assert (listed["cards_per_day"], listed["longest_validity"]) == (50, "30d")
    offline.cardctl("admin", "ceilings", "sam", "--longest-validity", "permanent", "--changes-per-day", "3")
    (listed,) = offline.cardctl_json("admin", "list")
    assert (listed["cards_per_day"], listed["longest_validity"], listed["changes_per_day"]) == (50, "permanent", 3)
    offline.refusal("admin", "ceilings", "nobody", "--cards-per-day", "1")
    for wrong in ((), ("--cards-per-day", "0"), ("--longest-validity", "soon")):
        assert offline.cardctl("admin", "ceilings", "sam", *wrong, check=False).returncode == 2, wrong


def test_a_tokens_limits_are_set_and_changed(offline: Service) -> None:
    networks = ("--network", "203.0.113.0/24", "--network", "2001:db8::1")
    options = ("--cards-per-day", "5", "--all-cards", "--expires", "never", *networks)
    offline.cardctl("token", "add", "shop", "--scope", "cards:read", *options)

    def limits() -> tuple[object, ...]:
        (listed,) = offline.cardctl_json("token", "list")
        names = ("cards_per_day", "longest_validity", "own_cards_only", "expires_at", "networks")
        return tuple(listed[name] for name in names)

    assert limits() == (5, "365d", False, None, ["203.0.113.0/24", "2001:db8::/64"])
    offline.cardctl("token", "limits", "shop", "--longest-validity", "7d", "--own-cards", "--network", "any")
    assert limits() == (5, "7d", True, None, [])
    offline.cardctl("token", "limits", "shop", "--expires", "1d")
    assert limits()[3] is not None
    assert offline.cardctl("token", "limits", "shop", "--cards-per-day", "0", check=False).returncode == 2
    offline.refusal("token", "limits", "nobody", "--expires", "1d")
    changed = [event.details for event in Event.select().where(Event.kind == "token_changed").order_by(Event.id)]
    assert changed[0] == {"token": "shop", "cards_per_day": 5, "longest_validity": "7d", "own_cards_only": True}
    assert len(changed) == 2
