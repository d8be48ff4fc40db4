"""One stack that serves."""

from pathlib import Path

import pytest

from tests.support.stack import Stack

pytestmark = pytest.mark.xdist_group("serving")


def test_it_comes_up(tmp_path: Path, app_image: str) -> None:
    with Stack(tmp_path, app_image) as stack:
        stack.init_anew("kadun.test")
        stack.up()
        assert stack.verify("0" * 32, "pc")["code"] == "CARD_NOT_FOUND"
