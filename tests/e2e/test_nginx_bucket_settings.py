"""The script that tells nginx of the bucket: nothing but names goes into nginx's configuration."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.conftest import GatewayMaker
from tests.support.bucket_host import NameServer
from tests.support.nginx import Gateway
from tests.support.service import ROOT

RIGHT = {
    "KADUN_FILES_BUCKET": "my-files",
    "KADUN_FILES_BUCKET_ENDPOINT": "https://oss.example.com",
    "KADUN_RESOLVER": "127.0.0.1",
}


def location(gateway: Gateway) -> str:
    return (gateway.folder / "etc/conf.d/bucket.location").read_text()


@pytest.mark.parametrize(
    ("settings", "host"),
    [
        ({}, "my-files.oss.example.com"),
        ({"KADUN_FILES_BUCKET_ENDPOINT": "https://oss.example.com/"}, "my-files.oss.example.com"),
        ({"KADUN_FILES_BUCKET_ENDPOINT": "https://oss.example.com:9000"}, "my-files.oss.example.com:9000"),
        ({"KADUN_FILES_BUCKET_ENDPOINT": "HTTPS://OSS.Example.com:443/"}, "my-files.oss.example.com"),
        ({"KADUN_FILES_BUCKET_STYLE": "path"}, "oss.example.com"),
    ],
)
def test_the_location_names_the_host(make_gateway: GatewayMaker, settings: dict[str, str], host: str) -> None:
    text = location(make_gateway(**RIGHT | settings))
    for line in (f"set $kadun_bucket https://{host};", f"Host {host};", f"proxy_ssl_name {host.partition(':')[0]};"):
        assert line in text
    assert "proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;" in text


def test_without_a_bucket_there_is_no_location(make_gateway: GatewayMaker) -> None:
    gateway = make_gateway()
    assert not (gateway.folder / "etc/conf.d/bucket.location").exists()
    gateway.ask_raw(b"GET /_kadun_bucket/x HTTP/1.1\r\nHost: x\r\n\r\n").require_problem(404, "NOT_FOUND")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KADUN_FILES_BUCKET", "My_Files"),
        ("KADUN_FILES_BUCKET", "a;b"),
        ("KADUN_FILES_BUCKET", "abc\nreturn 200;"),
        ("KADUN_FILES_BUCKET_ENDPOINT", ""),
        ("KADUN_FILES_BUCKET_ENDPOINT", "http://oss.example.com"),
        ("KADUN_FILES_BUCKET_ENDPOINT", "https://oss.example.com/path"),
        ("KADUN_FILES_BUCKET_ENDPOINT", "https://oss$x.example.com"),
        ("KADUN_FILES_BUCKET_ENDPOINT", "https://a.b\n;"),
        ("KADUN_FILES_BUCKET_STYLE", "host"),
        ("KADUN_RESOLVER", "dns.example.com"),
        ("KADUN_RESOLVER", "10.0.0.2; return"),
    ],
)
def test_a_wrong_setting_stops_nginx_and_is_named(
    make_gateway: GatewayMaker, name: str, value: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        make_gateway(**RIGHT | {name: value})
    (line, *rest) = capfd.readouterr().err.strip().split("\n")
    assert line.startswith(f"45-bucket.sh: {name} in .env is '")
    assert rest == [] or "\n" in value


def test_a_certificate_that_is_not_there_stops_nginx(make_gateway: GatewayMaker, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()  # what Compose mounts where there is none
    text = location(make_gateway(**RIGHT, KADUN_FILES_BUCKET_CA=str(tmp_path / "empty")))
    assert "proxy_ssl_trusted_certificate /etc/ssl/certs/ca-certificates.crt;" in text


def test_the_machines_own_name_servers_are_the_default(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    servers = ("10.0.0.2", "2001:db8::1", "fe80::1%eth0")
    (tmp_path / "resolv.conf").write_text("search x\n" + "".join(f"nameserver {one}\n" for one in servers))
    script = (ROOT / "nginx/entrypoint/45-bucket.sh").read_text()
    for fixed in ("/etc/resolv.conf", "/etc/nginx/conf.d"):
        script = script.replace(fixed, str(tmp_path / Path(fixed).name))
    settings = {name: value for name, value in RIGHT.items() if name != "KADUN_RESOLVER"}
    settings |= {"PATH": os.environ["PATH"], "KADUN_CERTIFICATES": "/certificates"}
    subprocess.run(["sh", "-c", script], env=settings, check=True)
    assert "resolver  10.0.0.2 [2001:db8::1] valid=30s" in (tmp_path / "conf.d/bucket.location").read_text()
    (tmp_path / "resolv.conf").write_text("")
    done = subprocess.run(["sh", "-c", script], env=settings, check=False, capture_output=True, text=True)
    assert (done.returncode, "names no server" in done.stderr) == (1, True)


def test_nginx_starts_while_no_name_can_be_resolved(make_gateway: GatewayMaker, names: NameServer) -> None:
    gateway = make_gateway(**RIGHT, KADUN_FILES_BUCKET_CA="")
    assert gateway.ask("GET", "/nginx-status").status == 200
