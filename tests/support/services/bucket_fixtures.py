"""A bucket behind TLS, one for each process of tests, the settings that lead to it, and its files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import obstore
import pytest

from tests.support.downloads import sha256
from tests.support.services.bucket_host import NameServer, TlsFront
from tests.support.services.pki import Issued
from tests.support.services.service import Service
from tests.support.services.swift import BUCKET, REGION, WRITER, Swift, install


def keys(store: Any) -> set[str]:
    return {found["path"] for page in obstore.list(store) for found in page}


def key(content: bytes) -> str:
    return f"files/{sha256(content)}"


def states(service: Service) -> dict[str, bool | None]:
    return {one["name"]: one["missing"] for one in service.cardctl_json("file", "list")}


@pytest.fixture(scope="session")
def authority() -> Issued:
    return Issued.make("Test authority", authority=True)


@pytest.fixture(scope="session")
def bucket_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bucket")


@pytest.fixture(scope="session")
def swift(bucket_folder: Path) -> Iterator[Swift]:
    install()
    with Swift(bucket_folder / "swift") as running:
        running.make()
        yield running


@pytest.fixture(scope="session")
def front(bucket_folder: Path, swift: Swift, authority: Issued) -> Iterator[TlsFront]:
    (bucket_folder / "ca.pem").write_bytes(authority.pem)
    with TlsFront(
        bucket_folder, Issued.make("localhost", f"{BUCKET}.localhost", issuer=authority), swift.port
    ) as running:
        yield running


@pytest.fixture(scope="session")
def names() -> Iterator[NameServer]:
    with NameServer() as running:
        yield running


@pytest.fixture(scope="session")
def bucket_settings(bucket_folder: Path, front: TlsFront) -> dict[str, str]:
    for name, text in (("key_id", WRITER[0]), ("secret", WRITER[1])):
        (bucket_folder / name).write_text(text + "\n")
    return {
        "KADUN_FILES_BUCKET": BUCKET,
        "KADUN_FILES_BUCKET_ENDPOINT": f"https://localhost:{front.port}",
        "KADUN_FILES_BUCKET_REGION": REGION,
        "KADUN_FILES_BUCKET_STYLE": "path",
        "KADUN_FILES_BUCKET_KEY_ID_FILE": str(bucket_folder / "key_id"),
        "KADUN_FILES_BUCKET_SECRET_FILE": str(bucket_folder / "secret"),
        "KADUN_FILES_BUCKET_CA": str(bucket_folder / "ca.pem"),
    }


@pytest.fixture
def bucket(swift: Swift) -> Iterator[Any]:
    """The bucket as its owner sees it; empty at the end."""
    store = swift.store()
    yield store
    obstore.delete(store, list(keys(store)))
