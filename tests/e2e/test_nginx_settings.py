"""The scripts that write settings into nginx's configuration: wrong ones stop the start, and only names go in."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import GatewayMaker
from tests.support.nginx import Gateway

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
