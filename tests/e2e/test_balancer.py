"""cluster/balancer/haproxy.sh: wrong settings stop the start with a line."""

import os
from pathlib import Path

import pytest

from tests.support.stack import ROOT, run


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "KADUN_APPS in .env is empty: it must name the app machines' addresses"),
        ({"KADUN_APPS": " , "}, "KADUN_APPS in .env is empty"),
        ({"KADUN_APPS": "10.0.0.1,app2"}, "KADUN_APPS in .env: 'app2' is not an IP address"),
        ({"KADUN_APPS": "10.0.0.1:443"}, "KADUN_APPS in .env: '10.0.0.1:443' is not an IP address"),
        ({"KADUN_APPS": "10.0.0.1", "KADUN_HTTPS_PORT": "99999"}, "KADUN_HTTPS_PORT in .env is '99999': it must be"),
        ({"KADUN_APPS": "10.0.0.1", "KADUN_APP_HTTP_PORT": "http"}, "KADUN_APP_HTTP_PORT in .env is 'http'"),
        ({"KADUN_APPS": "10.0.0.1", "KADUN_CONNECTIONS": "0"}, "KADUN_CONNECTIONS in .env is '0'"),
    ],
)
def test_a_wrong_setting_is_named(settings: dict[str, str], said: str) -> None:
    environment = {"PATH": os.environ["PATH"]} | settings
    done = run(ROOT / "cluster/balancer/haproxy.sh", env=environment, check=False)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert done.stderr.startswith(f"haproxy.sh: {said}")


def test_both_families_are_listened_on_and_connections_of_an_address_and_of_a_site_limited(tmp_path: Path) -> None:
    script = (ROOT / "cluster/balancer/haproxy.sh").read_text()
    for path in ("/run/haproxy.cfg", "exec haproxy", "/proc/net/if_inet6"):
        assert path in script
    moved = script.replace("/run/haproxy.cfg", str(tmp_path / "haproxy.cfg")).replace("exec haproxy", "exec true")
    environment = {"PATH": os.environ["PATH"], "KADUN_APPS": "10.0.0.1", "KADUN_CONNECTIONS": "100"}
    written = []
    for kernel in ("/proc/version", "/proc/none"):  # of a machine with IPv6: files in /proc have no size, and are there
        run("bash", "-c", moved.replace("/proc/net/if_inet6", kernel), env=environment)
        written.append((tmp_path / "haproxy.cfg").read_text())
    assert [text.count("bind [::]:443 v6only") for text in written] == [1, 0]
    limits = "tcp-request connection reject if { sc0_conn_cur gt 100 } || { sc1_conn_cur gt 400 }"
    tracks = "tcp-request connection track-sc1 src,ipmask(32,48) table sites"
    for text in written:
        assert (text.count(limits), text.count(tracks), text.count("bind 0.0.0.0:")) == (2, 2, 2)
