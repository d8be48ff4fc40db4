"""Webhooks: topics, URLs, addresses that may be called, and when a message is tried again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import NamedTuple
from urllib.parse import urlsplit

from app.domain.texts import NamedEnum, RefusedError

MAX_WEBHOOKS = 10
MAX_URL = 1024
MAX_WAITING = 1_000
"""Messages of one webhook that wait; more are dropped, and counted."""
GIVEN_UP_AFTER = timedelta(days=3)
EXPIRING_WITHIN = timedelta(days=3)
REQUEST_SECONDS = 20.0
"""For one request, from the connection to the answer."""
_EXCERPT = 200
_WAITS = (
    *(timedelta(seconds=10), timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=30)),
    *(timedelta(hours=2), timedelta(hours=6), timedelta(hours=12)),
)
_LONGEST_REST = timedelta(hours=1)


class Topic(NamedEnum):
    """What a webhook can be registered for; `TEST` is sent on request only."""

    ACTIVATED = "card.activated", "卡密激活", "card activated"
    MISMATCH = "card.mismatch", "设备不符被拒", "device mismatch"
    EXPIRING = "card.expiring", "3 天后到期", "expires in 3 days"
    SHARED = "card.shared", "疑似共享", "looks shared"
    TEST = "webhook.test", "测试", "test"


TOPICS = tuple(topic for topic in Topic if topic is not Topic.TEST)


class Endpoint(NamedTuple):
    """Where a request goes."""

    host: str
    port: int
    path: str


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of a request: the answer's `status` (three digits), or None and why; `error` is printable and cut."""

    status: int | None
    error: str | None

    def __post_init__(self) -> None:
        if self.status is not None and not 100 <= self.status <= 999:  # noqa: PLR2004  # as above
            raise ValueError("not a status")
        if self.error is not None:
            printable = "".join(c if c.isprintable() else " " for c in self.error).strip()[:_EXCERPT].rstrip()
            object.__setattr__(self, "error", printable or None)

    @property
    def is_delivered(self) -> bool:
        """Whether the receiver has the message."""
        return self.status is not None and 200 <= self.status < 300  # noqa: PLR2004  # successful, by RFC 9110


def read_url(url: str) -> Endpoint:
    """Read the URL of a webhook: `https://` of a host, without a user, a password or a fragment."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise _not_https() from error
    is_plain = url.isascii() and url.isprintable() and " " not in url and len(url) <= MAX_URL
    if not is_plain or parts.scheme != "https" or not host or "@" in parts.netloc or "#" in url or port == 0:
        raise _not_https()
    path = parts.path or "/"
    return Endpoint(host, port or 443, f"{path}?{parts.query}" if parts.query else path)


def _not_https() -> RefusedError:
    return RefusedError(
        f"地址必须以 https:// 开头，最长 {MAX_URL} 个 ASCII 字符，不含用户名、密码和 #",
        f"the address must begin with https://, have at most {MAX_URL} ASCII characters, and no user, password or #",
    )


def read_topics(names: Sequence[str]) -> list[Topic]:
    """Read the topics of a webhook, one at least; return each once, in the order of `TOPICS`."""
    wanted: list[Topic] = [topic for topic in TOPICS if topic in names]
    if not wanted or not set(names) <= set(TOPICS):
        listed = ", ".join(TOPICS)
        raise RefusedError(f"请选择至少一个类型：{listed}", f"choose at least one of the topics: {listed}")
    return wanted


_NOT_PUBLIC = (
    IPv4Network("192.0.0.0/24"),  # protocol assignments (RFC 6890), of which Python counts some as public
    IPv4Network("192.88.99.0/24"),  # relays of 6to4, deprecated (RFC 7526)
    IPv4Network("224.0.0.0/4"),  # multicast (RFC 5771)
    IPv6Network("::/3"),  # no global unicast; 64:ff9b::/96 (RFC 6052) holds an IPv4 address, perhaps a private one
    IPv6Network("2001::/23"),  # protocol assignments (RFC 2928), of which Python counts some as public
    IPv6Network("2002::/16"),  # 6to4: holds an IPv4 address, perhaps a private one (RFC 3056)
    IPv6Network("3fff::/20"),  # documentation (RFC 9637)
    IPv6Network("4000::/2"),  # no global unicast; 5f00::/16 is for segment routing (RFC 9602)
    IPv6Network("8000::/1"),  # no global unicast; ff00::/8 is multicast (RFC 4291)
)
"""Networks, no server's on the internet, that `is_global` of Python 3.11 counts as public wholly or in part."""


def is_public(text: str) -> bool:
    """Return whether an address is a public one; anything that is no address is not."""
    try:
        address = ip_address(text)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_global and not any(address in network for network in _NOT_PUBLIC)


def next_attempt(attempts: int, now: datetime) -> datetime:
    """Return when a message is tried again after so many failed attempts, one at least."""
    return now + _WAITS[min(attempts, len(_WAITS)) - 1]


def next_request(failures: int, now: datetime) -> datetime:
    """Return when an address that failed so often in a row gets its next request: one that is down costs little."""
    return min(next_attempt(failures, now), now + _LONGEST_REST)
