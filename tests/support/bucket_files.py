"""The files of a service that has a bucket."""

from typing import Any

import obstore

from tests.support.downloads import sha256
from tests.support.service import Service


def keys(store: Any) -> set[str]:
    return {found["path"] for page in obstore.list(store) for found in page}


def key(content: bytes) -> str:
    return f"files/{sha256(content)}"


def states(service: Service) -> dict[str, bool | None]:
    return {one["name"]: one["missing"] for one in service.cardctl_json("file", "list")}


def without_bucket(service: Service) -> Service:
    for name in list(service.environment):
        if name.startswith("KADUN_FILES_BUCKET"):
            del service.environment[name]
    return service
