"""The pictures of docs/console.md, made anew by `python -m pytest tests/browser/docs_pictures.py`.

No test, and so pytest runs it only where it is named.
"""

import pytest

from tests.browser.conftest import Enter
from tests.browser.test_every_page import PICTURES, SEEN
from tests.support.browser.seeding import Shop
from tests.support.browser.visits import Look


@pytest.mark.parametrize(("sight", "language"), PICTURES)
def test_the_docs_show_it_as_it_is(enter: Enter, shop: Shop, sight: str, language: str) -> None:
    person = enter("/admin/", Look("desktop", language, "light"))
    width = person.page.evaluate("innerWidth")
    person.page.set_viewport_size({"width": width, "height": 1100})
    SEEN[sight][1](person, shop)
    person.page.screenshot(path=PICTURES[sight, language])
