"""Reading a request: its body, the language of its answer, ranges and conditions."""

import falcon
import falcon.testing
import pytest
from falcon.testing import create_environ

from app.domain.texts import Text
from app.http.json_body import MAX_BODY_BYTES, read_body
from app.http.languages import in_language_of
from app.http.problems import Problem
from app.http.ranges import Part, is_known, wanted_part
from tests.support.tables import for_each

ETAG = '"abc"'


def request(method: str = "GET", **headers: str) -> falcon.Request:
    given_headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return falcon.Request(create_environ(method=method, headers=given_headers))


def part(value: str, size: int = 100) -> Part | None:
    return wanted_part(request(Range=value), size, ETAG)


@for_each(
    ("value", "expected"),
    [
        ("bytes=0-0", (0, 1)), ("bytes=10-", (10, 90)), ("bytes=10-19", (10, 10)), ("bytes=99-", (99, 1)),
        ("bytes=90-200", (90, 10)), ("bytes=-1", (99, 1)), ("bytes=-200", (0, 100)), ("Bytes=0-", (0, 100)),
        (" bytes=1-2 ", (1, 2)), ("bytes=0-9999999999999999999", (0, 100)),
    ],
)  # fmt: skip
def test_a_single_range_is_read(value: str, expected: tuple[int, int]) -> None:
    assert part(value) == expected


@for_each(
    "value",
    [
        "", "bytes=", "bytes=-", "bytes=0-1,5-6", "items=0-1", "bytes 0-1", "bytes=a-b", "bytes=0x1-2",
        "bytes=1--2", "bytes=+1-2", "bytes=٣-", "bytes=" + "9" * 30 + "-",
    ],
)  # fmt: skip
def test_an_unclear_range_or_several_give_the_whole(value: str) -> None:
    assert part(value) is None


@for_each(("value", "size"), [("bytes=100-", 100), ("bytes=-0", 100), ("bytes=5-4", 100), ("bytes=5-", 0)])
def test_bytes_that_do_not_exist_are_refused(value: str, size: int) -> None:
    with pytest.raises(ValueError, match="no such bytes"):
        part(value, size)
    for empty in ("bytes=0-", "bytes=0-9", "bytes=-5", "bytes=-0"):
        assert part(empty, 0) is None, "an empty file is sent whole"


@for_each("if_range", ['"other"', 'W/"abc"', "abc", "Wed, 21 Oct 2015 07:28:00 GMT", "*"])
def test_a_range_of_another_version_gives_the_whole(if_range: str) -> None:
    assert wanted_part(request(Range="bytes=1-2", If_Range=if_range), 100, ETAG) is None
    assert wanted_part(request(Range="bytes=1-2", If_Range=ETAG), 100, ETAG) == (1, 2)


def test_a_head_request_and_one_without_a_range_are_of_the_whole() -> None:
    assert wanted_part(request("HEAD", Range="bytes=1-2"), 100, ETAG) is None
    assert wanted_part(request(), 100, ETAG) is None


@for_each(("known", "values"), [(True, ['"abc"', 'W/"abc"', '"x", "abc"', "*"]), (False, ['"x"', "abc", ""])])
def test_a_version_that_the_client_has_is_recognised(values: list[str], *, known: bool) -> None:
    for value in values:
        assert is_known(request(If_None_Match=value), ETAG) is known
    assert not is_known(request(), ETAG)


def posting(body: bytes = b"{}", content_type: str | None = "application/json", **environ: str) -> falcon.Request:
    made = falcon.testing.create_environ(method="POST", body=body)
    made.pop("CONTENT_TYPE", None)
    if content_type is not None:
        made["CONTENT_TYPE"] = content_type
    return falcon.Request({**made, **environ})


JSON = "application/json"


@for_each(
    "content_type", [JSON, "Application/JSON", f"{JSON}; charset=utf-8", f'{JSON};charset="UTF-8"', JSON + ";" * 112]
)
def test_a_body_declared_as_json_is_read(content_type: str) -> None:
    assert read_body(posting(b'{"a":1}', content_type)) == b'{"a":1}'


OTHERS = [
    None,
    "",
    "text/plain",
    f"{JSON}p",
    "application/x-www-form-urlencoded",
    f"{JSON}; charset=gbk",
    JSON + ";" * 113,
]


@for_each("content_type", OTHERS)
def test_a_body_declared_as_anything_else_is_refused(content_type: str | None) -> None:
    with pytest.raises(Problem) as refused:
        read_body(posting(content_type=content_type))
    assert refused.value.status == falcon.HTTP_415


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


@for_each(
    "header, english",
    [
        ("", False),
        ("EN-us", True),
        ("zh-CN,zh;q=0.9,en;q=0.8", False),
        ("zh;q=0.5, en;q=0.9", True),
        ("en, zh", True),
        ("en;q=0.3, zh;q=0.9, en-GB", True),
        ("*", False),
        ("en;q=0", False),
        ("zh;q=0, en;q=0.1", True),
        ("en ; Q=1 , zh ; q=0.9", True),
        *[(f"en;q={odd}, zh;q=0.1", False) for odd in ("high", "nan", "2", "-1", "")],
        ("english", False),
        (";;;,,,", False),
    ],
)
def test_an_answer_is_english_where_the_request_ranks_it_over_chinese(header: str, *, english: bool) -> None:
    request = falcon.Request(falcon.testing.create_environ(headers={"Accept-Language": header}))
    assert in_language_of(request, Text("中文", "English")) == ("English" if english else "中文")
    without = falcon.Request(falcon.testing.create_environ())
    assert in_language_of(without, Text("中文", "English")) == "中文"
