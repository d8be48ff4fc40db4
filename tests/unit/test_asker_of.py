"""Where a request for self-service comes from: what its turns are counted by."""

from typing import Any

from app.http.self_service import asker_of
from tests.support.tables import for_each


def environ(path: str, **headers: str) -> dict[str, Any]:
    return {"PATH_INFO": path, "REMOTE_ADDR": "192.0.2.1", "HTTP_X_REAL_IP": "203.0.113.7", **headers}


def test_a_request_for_self_service_is_its_addresss_and_all_others_are_nobodys() -> None:
    for path in ("/card", "/v1/self/status", "/v1/self/unbind", "/v1/self/renew"):
        assert asker_of(environ(path), behind_proxy=True) == "203.0.113.7"
        assert asker_of(environ(path), behind_proxy=False) == "192.0.2.1"
    for path in ("/", "/v1/selfish", "/v1/verify", "/admin/card", "/v1/shop/cards"):
        assert asker_of(environ(path), behind_proxy=True) is None


@for_each(
    ("seen", "asker"),
    [
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("2001:db8:1:ffff::9", "2001:db8:1::/48"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("nonsense", ""),
        ("", ""),
    ],
)
def test_a_site_is_one_asker_and_so_are_all_without_an_address(seen: str, asker: str) -> None:
    assert asker_of(environ("/card", HTTP_X_REAL_IP=seen), behind_proxy=True) == asker
    assert asker_of({"PATH_INFO": "/card"}, behind_proxy=True) == ""
