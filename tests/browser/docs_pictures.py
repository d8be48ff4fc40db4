"""The pictures of docs/console.md, made anew by `python -m pytest tests/browser/docs_pictures.py`.

No test, and so pytest runs it only where it is named.
"""

from typing import Literal

import pytest

from tests.browser.conftest import Enter
from tests.support.browser.console_pages import LANGUAGES, PICTURES, SEEN, Picture
from tests.support.browser.seeding import Shop
from tests.support.browser.visits import ROOT


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.file("en"))
def test_the_docs_show_it_as_it_is(enter: Enter, shop: Shop, picture: Picture, language: Literal["zh", "en"]) -> None:
    person = enter("/admin/", picture.look(language))
    width = person.page.evaluate("innerWidth")
    person.page.set_viewport_size({"width": width, "height": picture.height})
    SEEN[picture.sight][1](person, shop)
    person.page.screenshot(path=ROOT / "docs/images" / picture.file(language))
