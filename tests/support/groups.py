"""Which tests stay in one process: `--dist loadgroup`, by what a file says in its `pytestmark`."""

import re
from functools import cache
from pathlib import Path

from xdist.scheduler import LoadScopeScheduling

ROOT = Path(__file__).resolve().parents[2]


class ByGroup(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Keep together the files that name the same `xdist_group`, and otherwise each file's tests.

    xdist's own way is to add the group to a test's ID, in an attribute that pytest 9.2 no longer reads: each test then
    goes to any process.
    """

    def _split_scope(self, nodeid: str) -> str:
        return _group_of(nodeid.partition("::")[0])


@cache
def _group_of(file: str) -> str:
    named = re.search(r'^pytestmark = .*xdist_group\("([^"]+)"\)', (ROOT / file).read_text(), re.MULTILINE)
    return named[1] if named else file
