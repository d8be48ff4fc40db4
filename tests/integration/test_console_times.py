"""Times in the console are in the vendor's zone."""

import re
from pathlib import Path
from urllib.parse import urlencode

from app.storage.database import Database
from tests.integration.conftest import with_keys
from tests.support.console import OWN, Browser, add_operator
from tests.support.console_scene import address_of, furnish, paths
from tests.support.service import Service

TIME = re.compile(r"\d\d:\d\d:\d\d(?:\.\d+)?(\S*)")


def test_every_time_is_in_the_vendors_zone_with_its_offset(
    database: Database, database_url: str, tmp_path: Path
) -> None:
    add_operator("olga")
    scene = furnish(["plain"])
    with Service(with_keys(tmp_path), database_url, KADUN_TIMEZONE="Asia/Kolkata") as service:
        olga, offsets = Browser(service).walk_in("olga"), {}
        for path in (
            path for path, access in paths().items() if "GET" in access and not path.startswith("/admin/static")
        ):
            page = olga.get(f"{address_of(path)}?{urlencode(scene.queries.get(path, {}))}")
            if page.status == 200:
                offsets[path] = set(TIME.findall(page.words))
                assert "Asia/Kolkata" in page.words, path
        for path in ("/admin/cards/export", "/admin/journal/export"):
            text = olga.post(path, {"format": "csv", **OWN}).text
            offsets[path] = {offset.partition(",")[0] for offset in TIME.findall(text)}
    assert {path: said for path, said in offsets.items() if said - {"+05:30"}} == {}
    shows_times = {path for path, said in offsets.items() if said}
    assert {"/admin/", "/admin/cards", "/admin/card", "/admin/journal", "/admin/sharing", "/admin/usage"} <= shows_times
    assert {"/admin/cards/export", "/admin/journal/export", "/admin/keys", "/admin/files"} <= shows_times
