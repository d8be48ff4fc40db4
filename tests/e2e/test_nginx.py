"""The app behind nginx: whose address counts, what is reached and logged, the app away, and wrong settings."""
# Owns http-proxy-address.

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import GatewayMaker
from tests.support.services.nginx import JSON, Gateway, until_refused
from tests.support.services.socket_service import SocketService, body

pytestmark = pytest.mark.xdist_group("service")

FORGED = "192.0.2.66"
ADDRESS_HEADERS = [
    f"X-Real-IP: {FORGED}",
    f"X-Real-IP: {FORGED}\r\nX-Real-IP: {FORGED}",
    f"x-real-ip: {FORGED}",
    f"X_Real_IP: {FORGED}",
    "X-Real-IP:",
    f"X-Forwarded-For: {FORGED}",
    f"X-Forwarded-For: {FORGED}, 127.0.0.1",
    f"Forwarded: for={FORGED};proto=https;by=127.0.0.1",
    f"CF-Connecting-IP: {FORGED}",
    f"True-Client-IP: {FORGED}",
    f"X-Client-IP: {FORGED}\r\nX-Cluster-Client-IP: {FORGED}\r\nClient-IP: {FORGED}",
    f"Connection: X-Real-IP\r\nX-Real-IP: {FORGED}",
]


def test_no_forged_address_even_reaches_the_app(bare: Gateway) -> None:
    for header in ADDRESS_HEADERS:
        answer = bare.ask_raw(f"GET /v1/x HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode())
        assert answer.headers["x-address-seen"] == answer.json()["headers"]["x-real-ip"] == "127.0.0.1", header
        assert FORGED not in answer.body.decode(), header
    assert bare.ask("GET", "/v1/x", to="::1").headers["x-address-seen"] == "::1"
    for path in ("/", "/admin", "/admin/page", "/admin/static/app.css", "/admin/cards/import", "/card", "/v1/files/x"):
        headers = {"X-Real-IP": FORGED, "Cookie": "session=x"}
        assert bare.ask("GET", path, headers=headers, source="127.0.0.9").headers["x-address-seen"] == "127.0.0.9", path


HIDDEN = [
    "/metrics", "/metrics/", "/metrics?x=1", "//metrics", "/./metrics", "/%6detrics", "/%6Detrics", "/METRICS",
    "/v1/../metrics", "/v1/..%2fmetrics", "/v1/%2e%2e/metrics", "/v1/%2E%2E%2Fmetrics", "/v1/x/../../metrics",
    "/v1//../../metrics", "/healthz/../metrics", "/readyz/../metrics", "/.well-known/../metrics",
    "/metrics#/v1/", "/metrics;/v1/", "/metrics%00", "/metrics%2f", "/metrics/../v1/../metrics",
    "http://x/metrics", "http://x//metrics", "/v1", "/healthz/", "/readyz/x", "/.well-known/",
    "/index.html", "/kadun-problem", "/kadun-page",
]  # fmt: skip
"""Paths that must not reach the app, however they are spelled."""


def test_public_places_are_reached_and_nothing_else_however_it_is_spelled(
    gateway: Gateway, service: SocketService
) -> None:
    for path in ("/.well-known/jwks.json", "/healthz", "/readyz"):
        assert gateway.ask("GET", path).status == 200
    for path in ("/", "//", "/v1/..", "/?x=1"):
        answer = gateway.ask("GET", path, headers={"Accept": "text/html"})
        assert (answer.status, "卡密验证服务" in answer.body.decode()) == (200, True), path
    gateway.ask("POST", "/v1/verify", body("0" * 32, "pc"), JSON)
    assert b"# HELP" in service.ask_directly("/metrics")
    for method in ("GET", "POST"):
        for path in HIDDEN:
            answer = gateway.ask_raw(f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
            answer.require_problem(*((400, "INVALID_REQUEST") if answer.status == 400 else (404, "NOT_FOUND")))
            assert "x-request-id" not in answer.headers, f"the app answered {method} {path}"
    for path in ("/v1/metrics", "/v1/..;/metrics", "/v1/%252e%252e/metrics", "/v1/%5c..%5cmetrics"):
        answer = gateway.ask_raw(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert (answer.status, answer.json()["code"]) == (404, "NOT_FOUND"), path


def test_while_the_app_is_away_clients_are_asked_to_wait_and_then_served_by_the_same_nginx(
    make_gateway: GatewayMaker, service: SocketService
) -> None:
    gateway = make_gateway(service.socket)
    for end in (service.stop, service.kill):  # without a socket, and with one that nobody answers
        assert gateway.ask("GET", "/readyz").status == 200
        end()
        for path in ("/v1/verify", "/readyz", "/.well-known/jwks.json"):
            answer = gateway.ask("GET", path)
            answer.require_problem(503, "UNAVAILABLE")
            assert answer.headers["retry-after"] == "5"
        for method, path in (("POST", "/admin/cards/import"), ("GET", "/admin"), ("GET", "/admin/cards?q=1")):
            answer = gateway.ask(method, path, headers={"Cookie": "session=x"})
            answer.require_page(503, "服务暂时不可用 / Unavailable at the moment")
            assert answer.headers["retry-after"] == "5"
        service.start()
        assert gateway.ask("GET", "/readyz").status == 200


def test_a_request_is_logged_once_under_the_apps_id_and_without_its_query(gateway: Gateway) -> None:
    sent = {"User-Agent": 'me "\\', "X-Request-ID": "f" * 32}
    answer = gateway.ask("GET", "/v1/nowhere-1?token=SECRET", headers=sent, source="127.0.0.9")
    line = gateway.logged("/v1/nowhere-1")
    assert line["request_id"] == answer.headers["x-request-id"] != "f" * 32
    expected = {"address": "127.0.0.9", "method": "GET", "status": 404, "protocol": "HTTP/1.1"}
    assert (expected | {"upstream_status": "404"}).items() <= line.items()


def test_neither_a_query_nor_a_body_reaches_any_log_whatever_happens(make_gateway: GatewayMaker) -> None:
    gateway = make_gateway(KADUN_RATE="1", KADUN_BURST="1")
    path, referer = "/v1/files/1?token=SECRET", {"Referer": "https://x/?token=SECRET"}
    until_refused(lambda: gateway.ask("GET", path, headers=referer))  # 503, for there is no app; then 429
    gateway.ask("POST", "/v1/verify?token=SECRET", b"x" * 70_000)
    for size in (0, 20_000):  # in memory, and in a file
        gateway.ask("POST", "/card", b"do=look&card_id=SECRET".ljust(size))
    gateway.ask("GET", "/nowhere?token=SECRET")
    gateway.ask_plain("/v1/files/7?token=SECRET")
    for path in ("/v1/files/8", "/v1/8"):
        gateway.ask_raw(f"GET {path}?token=SECRET HTTP/1.1\r\n\r\n".encode())
        gateway.logged(path)
    assert {429, 503, 413, 404, 400} <= {line["status"] for line in gateway.access_log()}
    for log in gateway.log.iterdir():
        assert "SECRET" not in log.read_text(), log


def test_a_line_of_the_log_is_json_and_short_whatever_the_request_is(gateway: Gateway) -> None:
    """A flood of long lines would rotate the log away ten times as fast."""
    long = "/v1/long-" + "x" * 3000
    for method, path, headers, name, shown in (
        ("GET", long, {}, "path", long[:200]),
        ("GET", "/v1/long-agent", {"User-Agent": "x" * 3000}, "user_agent", "x" * 200),
        ("GET", "/v1/long-host", {"Host": "y" * 3000}, "host", "y" * 200),
        ("Z" * 3000, "/v1/long-method", {}, "method", ""),
    ):
        gateway.ask(method, path, headers=headers)
        assert gateway.logged(path[:200])[name] == shown
    with gateway.connect():
        pass
    with gateway.connect() as connection:
        connection.sendall(b"\x00\xff\n\n")
    gateway.ask_raw(b'GET /v1/\xe5\xbc\x80\x80"\' HTTP/1.1\r\nHost: x\r\nUser-Agent: \xff"\\\r\n\r\n')
    gateway.ask("POST", "/last")
    assert gateway.logged("/last")["method"] == "POST"  # every line was read as JSON to get there


BUCKET = {
    "KADUN_FILES_BUCKET": "my-files",
    "KADUN_FILES_BUCKET_ENDPOINT": "https://oss.example.com",
    "KADUN_RESOLVER": "127.0.0.1",
}
PROXY = {"KADUN_PROXY_PROTOCOL": "true", "KADUN_PROXY_FROM": "192.0.2.1"}
WRONG: list[tuple[dict[str, str], str, list[str]]] = [
    ({}, "KADUN_ADMIN_ALLOW", [" , ", "办公室", "192.0.2.1，192.0.2.2", "1.2.3.4 *", "default", "1;2"]),
    ({}, "KADUN_PROXY_PROTOCOL", ["true"]),
    ({}, "KADUN_PROXY_FROM", ["192.0.2.1"]),
    (PROXY, "KADUN_PROXY_PROTOCOL", ["yes"]),
    (PROXY, "KADUN_PROXY_FROM", ["balancer", "10.0.0.1 0.0.0.0/0", "::/0"]),
    (BUCKET, "KADUN_FILES_BUCKET", ["My_Files", "a;b", "abc\nreturn 200;"]),
    (BUCKET, "KADUN_FILES_BUCKET_ENDPOINT", ["", "http://oss.example.com", "https://oss.example.com/path"]),
    (BUCKET, "KADUN_FILES_BUCKET_ENDPOINT", ["https://oss$x.example.com", "https://a.b\n;"]),
    (BUCKET, "KADUN_FILES_BUCKET_STYLE", ["host"]),
    (BUCKET, "KADUN_RESOLVER", ["dns.example.com", "10.0.0.2; return"]),
]
"""What else is set, a setting, and its wrong values."""


def test_a_wrong_setting_stops_the_start_with_a_line_that_names_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name, value, others in ((name, value, others) for others, name, values in WRONG for value in values):
        folder = tmp_path / "nginx"
        with pytest.raises(subprocess.CalledProcessError):
            Gateway(folder, tmp_path / "nobody.sock", **others | {name: value})
        line, *rest = capfd.readouterr().err.strip().split("\n")
        assert re.match(rf"4[05]-\w+\.sh: {name}(=true)? in \.env", line), (line, value)
        assert rest == [] or "\n" in value
        shutil.rmtree(folder)


def test_what_looks_like_an_address_and_is_none_stops_the_start_too(tmp_path: Path) -> None:
    for number, entry in enumerate(("192.0.2.300", "1", "2001:db8::/129", "192.0.2.0/33", "::1::", "/")):
        gateway = Gateway(
            tmp_path / f"nginx-{number}", tmp_path / "nobody.sock", KADUN_ADMIN_ALLOW=f"192.0.2.1 {entry}"
        )
        with pytest.raises(AssertionError, match=rf'invalid network "{entry}" in .*/kadun_admin_allow\.conf'), gateway:
            pass


def test_the_buckets_location_names_its_host_and_is_there_only_with_a_bucket(
    tmp_path: Path, make_gateway: GatewayMaker
) -> None:
    for number, (more, host) in enumerate(
        (
            ({"KADUN_FILES_BUCKET_ENDPOINT": "https://oss.example.com:9000"}, "my-files.oss.example.com:9000"),
            ({"KADUN_FILES_BUCKET_ENDPOINT": "HTTPS://OSS.Example.com:443/"}, "my-files.oss.example.com"),
            ({"KADUN_FILES_BUCKET_STYLE": "path"}, "oss.example.com"),
        )
    ):
        gateway = Gateway(tmp_path / f"bucket-{number}", tmp_path / "nobody.sock", **BUCKET | more)
        text = (gateway.folder / "etc/conf.d/bucket.location").read_text()
        for line in (
            f"set $kadun_bucket https://{host};",
            f"Host {host};",
            f"proxy_ssl_name {host.partition(':')[0]};",
            "proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;",
        ):
            assert line in text
    without = make_gateway()
    assert not (without.folder / "etc/conf.d/bucket.location").exists()
    without.ask_raw(b"GET /_kadun_bucket/x HTTP/1.1\r\nHost: x\r\n\r\n").require_problem(404, "NOT_FOUND")
