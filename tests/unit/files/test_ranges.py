"""Reading a request: its body, the language of its answer, ranges and conditions."""

import falcon
import falcon.testing
import pytest
from falcon.testing import create_environ

from app.domain.texts import Text
from app.http.customer_messages import in_language_of
from app.http.files import is_known, wanted_part
from app.http.json_body import MAX_BODY_BYTES, read_body
from app.http.problems import Problem
from tests.support.tables import for_each

ETAG = '"abc"'


def request(method: str = "GET", **headers: str) -> falcon.Request:
    given_headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return falcon.Request(create_environ(method=method, headers=given_headers))


def part(value: str, size: int = 100) -> tuple[int, int] | None:
    found = wanted_part(request(Range=value), size, ETAG)
    return None if found is None else (found[0], len(found))


def test_a_single_range_is_read_and_an_unclear_one_or_several_give_the_whole() -> None:
    for value, expected in (
        ("bytes=0-0", (0, 1)), ("bytes=10-", (10, 90)), ("bytes=10-19", (10, 10)), ("bytes=99-", (99, 1)),
        ("bytes=90-200", (90, 10)), ("bytes=-1", (99, 1)), ("bytes=-200", (0, 100)), ("Bytes=0-", (0, 100)),
        (" bytes=1-2 ", (1, 2)), ("bytes=0-9999999999999999999", (0, 100)),
        *((unclear, None) for unclear in ("", "bytes=", "bytes=-", "bytes=0-1,5-6", "items=0-1", "bytes 0-1")),
        *((unclear, None) for unclear in ("bytes=a-b", "bytes=0x1-2", "bytes=1--2", "bytes=+1-2", "bytes=٣-")),
        ("bytes=" + "9" * 30 + "-", None),
    ):  # fmt: skip
        assert part(value) == expected, value


def test_bytes_that_do_not_exist_are_refused() -> None:
    for value, size in (("bytes=100-", 100), ("bytes=-0", 100), ("bytes=5-4", 100), ("bytes=5-", 0)):
        with pytest.raises(ValueError, match="no such bytes"):
            pytest.fail(f"{value} is read as {part(value, size)}")
    for empty in ("bytes=0-", "bytes=0-9", "bytes=-5", "bytes=-0"):
        assert part(empty, 0) is None, "an empty file is sent whole"


def test_a_range_of_another_version_a_head_request_and_one_without_a_range_give_the_whole() -> None:
    for if_range in ('"other"', 'W/"abc"', "abc", "Wed, 21 Oct 2015 07:28:00 GMT", "*"):
        assert wanted_part(request(Range="bytes=1-2", If_Range=if_range), 100, ETAG) is None, if_range
    assert wanted_part(request(Range="bytes=1-2", If_Range=ETAG), 100, ETAG) == range(1, 3)
    assert wanted_part(request("HEAD", Range="bytes=1-2"), 100, ETAG) is None
    assert wanted_part(request(), 100, ETAG) is None


def test_a_version_that_the_client_has_is_recognised() -> None:
    for value in ('"abc"', 'W/"abc"', '"x", "abc"', "*"):
        assert is_known(request(If_None_Match=value), ETAG), value
    for value in ('"x"', "abc", ""):
        assert not is_known(request(If_None_Match=value), ETAG), value
    assert not is_known(request(), ETAG)


def posting(body: bytes = b"{}", content_type: str | None = "application/json", **environ: str) -> falcon.Request:
    made = falcon.testing.create_environ(method="POST", body=body)
    made.pop("CONTENT_TYPE", None)
    if content_type is not None:
        made["CONTENT_TYPE"] = content_type
    return falcon.Request({**made, **environ})


def test_a_body_is_read_where_it_is_declared_as_json() -> None:
    json = "application/json"
    for right in (json, "Application/JSON", f"{json}; charset=utf-8", f'{json};charset="UTF-8"', json + ";" * 112):
        assert read_body(posting(b'{"a":1}', right)) == b'{"a":1}', right
    others = (None, "", "text/plain", f"{json}p", "application/x-www-form-urlencoded")
    for other in (*others, f"{json}; charset=gbk", json + ";" * 113):
        with pytest.raises(Problem) as refused:
            read_body(posting(content_type=other))
        assert refused.value.status == falcon.HTTP_415, other


@for_each("chunked", [False, True])
def test_a_body_of_64_kib_is_read_and_one_byte_more_is_not(*, chunked: bool) -> None:
    def sized(length: int) -> falcon.Request:
        request = posting(b" " * length)
        if chunked:
            del request.env["CONTENT_LENGTH"]
            request.env["wsgi.input_terminated"] = True
        return request

    assert len(read_body(sized(MAX_BODY_BYTES))) == MAX_BODY_BYTES == 65_536
    with pytest.raises(Problem) as refused:
        read_body(sized(MAX_BODY_BYTES + 1))
    assert refused.value.status == falcon.HTTP_413


def test_an_answer_is_english_where_the_request_ranks_it_over_chinese() -> None:
    for header, english in (
        *((header, True) for header in ("EN-us", "zh;q=0.5, en;q=0.9", "en, zh", "en;q=0.3, zh;q=0.9, en-GB")),
        *((header, True) for header in ("zh;q=0, en;q=0.1", "en ; Q=1 , zh ; q=0.9")),
        *((header, False) for header in ("", "zh-CN,zh;q=0.9,en;q=0.8", "*", "en;q=0", "english", ";;;,,,")),
        *((f"en;q={odd}, zh;q=0.1", False) for odd in ("high", "nan", "2", "-1", "")),
    ):
        assert in_language_of(request(Accept_Language=header), Text("中文", "English")) == (
            "English" if english else "中文"
        ), (header, english)
    assert in_language_of(request(), Text("中文", "English")) == "中文"
