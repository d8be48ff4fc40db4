"""Reading a request: its body's media type and size, and the language of its answer."""

import io

import falcon
import falcon.testing
import pytest

from app.domain.texts import Text
from app.http.json_body import MAX_BODY_BYTES, read_body
from app.http.languages import in_language_of
from app.http.problems import Problem
from tests.support.tables import for_each


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


def test_a_body_of_64_kib_is_read_and_one_byte_more_is_not() -> None:
    assert len(read_body(posting(b" " * MAX_BODY_BYTES))) == MAX_BODY_BYTES == 65_536
    with pytest.raises(Problem) as refused:
        read_body(posting(b" " * (MAX_BODY_BYTES + 1)))
    assert refused.value.status == falcon.HTTP_413


def test_a_chunked_body_has_the_same_limit() -> None:
    for excess in (0, 1):
        body = io.BytesIO(b" " * (MAX_BODY_BYTES + excess))
        environ = posting(b"").env | {"wsgi.input": body, "wsgi.input_terminated": True}
        environ.pop("CONTENT_LENGTH", None)
        if not excess:
            assert len(read_body(falcon.Request(environ))) == MAX_BODY_BYTES
            continue
        with pytest.raises(Problem) as refused:
            read_body(falcon.Request(environ))
        assert refused.value.status == falcon.HTTP_413


@for_each(
    "header, english",
    [
        ("", False),
        ("EN-us", True),
        ("zh-CN,zh;q=0.9,en;q=0.8", False),
        ("zh;q=0.5, en;q=0.9", True),
        ("en, zh", True),
        ("zh, en", False),
        ("en;q=0.3, zh;q=0.9, en-GB", True),
        ("fr, en;q=0.1", True),
        ("*", False),
        ("en;q=0", False),
        ("zh;q=0, en;q=0.1", True),
        ("en ; Q=1 , zh ; q=0.9", True),
        *[(f"en;q={odd}, zh;q=0.1", False) for odd in ("high", "nan", "2", "-1", "")],
        ("en;level=1", True),
        ("english", False),
        (";;;,,,", False),
    ],
)
def test_an_answer_is_english_where_the_request_ranks_it_over_chinese(header: str, *, english: bool) -> None:
    request = falcon.Request(falcon.testing.create_environ(headers={"Accept-Language": header}))
    assert in_language_of(request, Text("中文", "English")) == ("English" if english else "中文")
    without = falcon.Request(falcon.testing.create_environ())
    assert in_language_of(without, Text("中文", "English")) == "中文"
