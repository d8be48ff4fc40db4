"""Signing keys in the database: moved while the service runs, and kept by the scripts that exchange databases."""

import io
import json
import tarfile
from collections.abc import Iterator
from typing import Any

import pyrage
import pytest

from tests.support.backups import Backups
from tests.support.http_exchange import exchange
from tests.support.service import wait_for
from tests.support.stack import Stack

pytestmark = [pytest.mark.containers, pytest.mark.long]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with Stack(tmp_path_factory.mktemp("keys")) as stack:
        stack.init_anew("localhost")
        stack.up()
        stack.script("cardctl", "key", "store", "database")
        with (stack.folder / ".env").open("a") as settings:
            settings.write("KADUN_KEYS=database\nKADUN_BACKUP_RECIPIENT=none\n")
        stack.up()
        (stack.folder / "data/keys/keyring.json").unlink()  # the database has them
        yield stack


def key_set(stack: Stack) -> dict[str, Any]:
    answer: dict[str, Any] = exchange(stack.connection(), "GET", "/.well-known/jwks.json", None, {}).json()
    return answer


def test_a_backup_is_signed_with_them_and_a_restore_keeps_those_that_are_newer(stack: Stack) -> None:
    card = stack.new_card()
    assert stack.verify(card, "a machine")["code"] == "OK"
    before = key_set(stack)
    backup = Backups(stack).take()
    with tarfile.open(backup) as archive:
        manifest = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
        assert "secrets/keys_identity" not in archive.getnames()
    assert manifest["signature"]["token"]
    stack.script("verify-backup.sh", backup)
    stack.script("cardctl", "key", "rotate")
    rotated = wait_for(lambda: None if (keys := key_set(stack)) == before else keys)
    restored = stack.script("restore.sh", backup)
    assert f"The signing keys are in place: {rotated['keys'][-2]['kid']}" in restored.stdout
    assert key_set(stack) == rotated
    assert stack.verify(card, "a machine")["code"] == "OK"
    assert not list((stack.folder / "data").glob(".keys.*"))


def test_an_export_takes_what_opens_them_along(stack: Stack) -> None:
    identity, bundle = pyrage.x25519.Identity.generate(), stack.folder / "bundle.tar.age"
    said = stack.script("export.sh", "-o", bundle, "--recipient", str(identity.to_public())).stdout
    assert f"--fingerprint {key_set(stack)['keys'][-2]['kid']}" in said
    with tarfile.open(fileobj=io.BytesIO(pyrage.decrypt(bundle.read_bytes(), [identity]))) as archive:
        assert "secrets/keys_identity" in archive.getnames()
