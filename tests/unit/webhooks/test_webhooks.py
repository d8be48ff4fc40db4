"""Webhooks: which URLs and addresses are called, when messages are tried again, how requests are signed."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.texts import RefusedError
from app.domain.webhooks import webhooks
from app.domain.webhooks.webhooks import MAX_URL, TOPICS, Endpoint, Sent, Topic, is_public, read_topics, read_url
from app.tokens.webhooks import new_secret, signed_headers
from tests.support.webhooks import example

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PAGE = "https://example.com/"


def test_a_url_is_read_and_any_other_refused() -> None:
    for url, target in (
        ("https://example.com", Endpoint("example.com", 443, "/")),
        ("https://example.com:8443/hook?key=1", Endpoint("example.com", 8443, "/hook?key=1")),
        ("https://[2001:db8::1]/a", Endpoint("2001:db8::1", 443, "/a")),
        ("HTTPS://EXAMPLE.com/A", Endpoint("example.com", 443, "/A")),
        (PAGE + "a" * (MAX_URL - 20), Endpoint("example.com", 443, "/" + "a" * (MAX_URL - 20))),
    ):
        assert read_url(url) == target
    for url in (
        *("", "example.com", "http://example.com", "ftp://example.com", "https://", "https:///path", "//example.com"),
        *("https://user@example.com", "https://u:p@example.com", "https://example.com/#", "https://example.com:0"),
        *("https://example.com:65536", "https://example.com:x", "https://[::1", "https://例子.测试", "https://a b"),
        *(f"{PAGE}\n", f"{PAGE}\0", "https://exa\tmple.com", f"{PAGE}é", PAGE + "a" * (MAX_URL - 19)),
    ):
        with pytest.raises(RefusedError):
            pytest.fail(f"{url!r} is read as {read_url(url)}")


def test_topics_are_read_once_each_in_their_order() -> None:
    assert read_topics(["card.mismatch", "card.activated", "card.mismatch"]) == [Topic.ACTIVATED, Topic.MISMATCH]
    assert read_topics(TOPICS) == list(TOPICS)
    for wrong in ([], ["webhook.test"], ["card.activated", "card.unknown"]):
        with pytest.raises(RefusedError, match=f"one of the topics: {', '.join(TOPICS)}$"):
            read_topics(wrong)


def test_only_public_addresses_may_be_called() -> None:
    private = [
        *("0.255.255.255", "0.1.2.3", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.255", "169.254.169.254"),
        *("172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.200", "192.0.2.1", "192.88.99.1", "192.168.0.1"),
        *("198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00::1", "ff02::1", "::127.0.0.1", "100::1", "4000::1"),
        *("2001:db8::1", "2001::1", "2001:20::1", "2002:7f00:1::", "3fff::1", "5f00::1", "::ffff:127.0.0.1"),
        *("::ffff:10.0.0.1", "::ffff:192.88.99.1", "64:ff9b::10.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::8.8.8.8"),
        *("", "localhost", "8.8.8", "8.8.8.8/32", "0x08080808"),
    ]
    public = [
        *("8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0", "192.0.1.0"),
        *("2606:4700:4700::1111", "2400:3200::1", "2001:200::1", "::ffff:8.8.8.8", "2003::1", "2a00:1450::1"),
    ]
    assert [address for address in (*private, *public) if is_public(address)] == public


def test_a_message_is_tried_again_later_and_later_and_its_address_rests_for_an_hour_at_most() -> None:
    waits = [webhooks.next_attempt(attempts, NOW) - NOW for attempts in range(1, 10)]
    assert (waits[0], waits[-3:]) == (timedelta(seconds=10), [timedelta(hours=12)] * 3)
    assert waits == sorted(waits)
    assert sum(waits[:7], timedelta()) < timedelta(days=3), "each is tried seven times at least"
    rests = [webhooks.next_request(failures, NOW) - NOW for failures in range(1, 10)]
    assert (rests[:2], max(rests)) == ([timedelta(seconds=10), timedelta(minutes=1)], timedelta(hours=1))


def test_what_is_kept_of_an_answer_is_printable_and_short() -> None:
    """PostgreSQL refuses a NUL: it would end the thread that notes what became of the message."""
    assert Sent(None, "a\0\ud800b\x1b[2J\u202ec").error == "a  b [2J c"
    assert Sent(500, "a\0" * 500) == Sent(500, ("a " * 100).rstrip())
    assert [status for status in (199, 200, 299, 300) if Sent(status, None).is_delivered] == [200, 299]
    assert [Sent(status, None).status for status in (100, 999)] == [100, 999]
    for status in (99, 1000, 1 << 40):
        with pytest.raises(ValueError, match="not a status"):
            Sent(status, None)


def test_a_signature_is_the_one_of_standard_webhooks() -> None:
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"test": 2432232314}'
    at = datetime.fromtimestamp(1614265330, UTC)
    assert signed_headers(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", at, body) == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_the_example_believes_genuine_messages_alone() -> None:
    verify, secret, body = example().verify, new_secret(), json.dumps({"type": "webhook.test"}).encode()
    headers, now = signed_headers(secret, "msg_1", NOW, body), NOW.timestamp()
    assert verify(secret, headers, body, now) == {"type": "webhook.test"}
    more = {**headers, "webhook-signature": f"v1,AAAA {headers['webhook-signature']}"}
    assert verify(secret, more, body, now), "one of several"
    assert verify(new_secret(), headers, body, now) is None
    assert verify(secret, headers, body + b" ", now) is None
    assert [verify(secret, headers, body, now + seconds) for seconds in (301, -301)] == [None, None]
    for name in headers:
        assert verify(secret, {**headers, name: headers[name] + "1"}, body, now) is None, name
        assert verify(secret, {key: said for key, said in headers.items() if key != name}, body, now) is None, name
