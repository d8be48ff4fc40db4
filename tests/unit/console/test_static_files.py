"""Static files and the vendored libraries."""

import hashlib
import re
from pathlib import Path

from app.console import rendering
from app.console.static_files import StaticFiles

VENDOR = Path(rendering.__file__).parent / "static/vendor"


def test_the_kept_libraries_are_the_ones_that_their_table_names() -> None:
    table = dict(
        re.findall(r"^\| `([^`]+)` \|.*\| `([0-9a-f]{64})` \|$", (VENDOR / "README.md").read_text(), re.MULTILINE)
    )
    kept = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.glob("*.*s")}
    assert table == kept
    assert {path.name.split(".")[0] for path in VENDOR.glob("*.LICENSE")} == {name.split(".")[0] for name in kept}


def test_the_digest_in_an_address_is_the_file_s() -> None:
    files = StaticFiles()
    digest = hashlib.sha256((VENDOR / "htmx.min.js").read_bytes()).hexdigest()
    assert files.url("htmx.min.js") == f"/admin/static/htmx.min.js?v={digest[:12]}"
    assert files.get("../rendering.py") is None
