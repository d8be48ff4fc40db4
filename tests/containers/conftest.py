"""What the stacks of both groups share, and the stack of the group `serving`."""

import pytest

from tests.support.stack import build_image


@pytest.fixture(scope="session")
def app_image() -> str:
    """The ID of this checkout's image, for `Stack(folder, app_image)`."""
    return build_image()
