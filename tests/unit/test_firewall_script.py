"""scripts/lib/provision-firewall.sh: which of UFW's rules let SSH in, and this session with it."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.tables import for_each

pytestmark = pytest.mark.nightly

ROOT = Path(__file__).resolve().parents[2]
CALL = """
ufw() { [[ $* == "show added" ]] && printf '%s\\n' "Added user rules (see 'ufw status'):" "$RULES"; }
source "$ROOT/scripts/lib/provision-firewall.sh"
ssh_sessions() { [[ -z $SESSION ]] || printf '%s\\n' "$SESSION"; }  # not the one that the tests may run in
if is_allowed 22; then echo allowed; else echo not; fi
"""
OFFICE = "ufw allow from 192.0.2.0/24 to any port 22"


def is_allowed(rules: str, session: str | None) -> bool:
    connection = (session or "").replace(" ", " 50000 192.0.2.99 ")
    environment = {"PATH": os.environ["PATH"], "ROOT": str(ROOT), "RULES": rules, "SESSION": connection}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", CALL], env=environment, capture_output=True, text=True, check=True
    )
    return done.stdout == "allowed\n"


@for_each(
    ("rules", "session", "expected"),
    [
        ("ufw allow 22/tcp comment 'kadun'", "203.0.113.9 22", True),
        ("ufw limit 22", "203.0.113.9 22", True),
        ("ufw allow 2222/tcp", None, False),
        ("ufw deny 22/tcp", None, False),
        ("(None)", None, False),
        (OFFICE, None, True),
        (OFFICE, "192.0.2.7 22", True),
        (OFFICE, "203.0.113.9 22", False),
        (OFFICE, "2001:db8::1 22", False),
        (OFFICE, "203.0.113.9 2222", True),
        (f"{OFFICE} proto tcp comment 'the office'\nufw allow from 203.0.113.9 to any port 22", "203.0.113.9 22", True),
        ("ufw limit from 2001:db8::/32 to any port 22,2222 proto tcp", "2001:db8::1 22", True),
        ("ufw allow from 192.0.2.7 to any port 22 proto udp", "192.0.2.7 22", False),
        ("ufw allow from 192.0.2.7 to any port 2200", "192.0.2.7 22", False),
        ("ufw allow in on eth1 from 192.0.2.7 to any port 22", "192.0.2.7 22", False),
        ("ufw deny from 192.0.2.7 to any port 22", "192.0.2.7 22", False),
    ],
)
def test_a_rule_counts_when_this_session_lives_on_under_it(rules: str, session: str | None, *, expected: bool) -> None:
    assert is_allowed(rules, session) is expected
