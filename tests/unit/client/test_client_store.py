"""The state file: encrypted, private and optional, shared by threads and processes, and verified at each reading."""
# Owns client-state.

import hashlib
import io
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from kadun import PLATFORM_FOLDER, CardRejected, Secret, UnsealFailed
from kadun import files as kadun_files
from kadun.clocks import Times
from kadun.keys import Floor
from kadun.partial_file import Offer, PartialFile
from kadun.responses import Response
from kadun.sealing import KeyPair
from kadun.store import CachedVerdict, Rejection, State, StateStore, normalized_card_id

from app.domain.cards.cards import parse_card_id
from tests.support.client import fakes
from tests.support.client.fakes import CARD, HARDWARE, NOW, OTHER_CARD, REPORT, Machine, SigningKey, at, full_disk
from tests.support.client.local_http import SOON_SECONDS
from tests.support.tables import for_each

MIB = 1024 * 1024
ONE, OTHER = State(("x",)), State(("y",))


@pytest.mark.usefixtures("unmeasured")
def test_every_byte_of_the_file_counts_and_a_damaged_one_is_replaced(machine: Machine) -> None:
    machine.open()
    path = machine.file
    good = path.read_bytes()
    flipped = (good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :] for place in range(len(good)))
    for damaged in (*flipped, b"", good[:10], good[:30], good[:-1], good + b"\0", b"kadun state 1\n", bytes(5 * MIB)):
        path.write_bytes(damaged)
        assert machine.store.load(HARDWARE) == State()
    assert not machine.starts_offline()
    assert machine.open().accepted
    assert machine.starts_offline()


def test_malformed_contents_count_as_absent(machine: Machine) -> None:
    magic, nonce = b"kadun state 2\n", bytes(12)
    machine.store.save(ONE, HARDWARE)
    cipher = machine.store._cipher(HARDWARE)  # noqa: SLF001 - no release writes this, but a customer can
    for plaintext in (b"[]", b"{}", b'{"endorsements": [1]}', b'{"endorsements": [], "kept": {"token": 1}}'):
        machine.file.write_bytes(magic + nonce + cipher.encrypt(nonce, plaintext, magic))
        assert machine.store.load(HARDWARE) == State(), plaintext
    for time in ("1", True, None):
        machine.store.save(State(("x",), rejection=Rejection(time, "REF45678")), HARDWARE)  # type: ignore[arg-type]
        assert machine.store.load(HARDWARE) == ONE, time


def test_a_file_is_read_by_its_program_server_card_and_machine_only(machine: Machine) -> None:
    machine.store.save(ONE, HARDWARE)
    assert machine.store.load("machine-2") == State()
    ours = machine.file
    for theirs in (("another", "kadun", CARD), ("kadun", "another", CARD), ("kadun", "kadun", OTHER_CARD)):
        ours.unlink()
        StateStore(machine.folder, *theirs).save(ONE, HARDWARE)
        machine.file.rename(ours)
        assert machine.store.load(HARDWARE) == State(), theirs
    keys = State(("x",), floor=Floor("kid", 900.0, 1.0))
    machine.keys_file.save(keys, HARDWARE)
    for card in ("", "-", OTHER_CARD):
        StateStore(machine.folder, "kadun", "kadun", card).save(OTHER, HARDWARE)
    assert machine.keys_file.load(HARDWARE) == keys


def test_a_state_that_could_not_be_read_back_is_not_written(machine: Machine) -> None:
    machine.store.save(ONE, HARDWARE)
    most = 4 * MIB - machine.file.stat().st_size + 1
    largest = State(("x" * most,))
    machine.store.save(largest, HARDWARE)
    with pytest.raises(OSError, match="more than 4194304 bytes"):
        machine.store.save(State(("x" * (most + 1),)), HARDWARE)
    assert machine.file.stat().st_size == 4 * MIB
    assert machine.store.load(HARDWARE) == largest


def test_the_file_is_its_owners_alone_and_encrypted_anew_each_time(machine: Machine) -> None:
    seen = set()
    for _ in range(2):
        machine.store.save(ONE, HARDWARE)
        seen.add(machine.file.read_bytes())
        modes = [stat.S_IMODE(path.stat().st_mode) for path in (machine.file, machine.folder)]
        assert modes == [0o600, 0o700]
    assert len(seen) == 2


def test_a_rejection_leaves_only_its_time_and_that_of_a_mistyped_card_nothing(machine: Machine) -> None:
    machine.rejects(code="CARD_NOT_FOUND")
    assert machine.files == []
    machine.server.tweak = fakes.setting(offline_until=NOW + 3600)
    machine.open()
    rejection = machine.rejects()
    assert machine.store.load(HARDWARE) == State(rejection=Rejection(NOW, rejection.reference))
    machine.server.tweak = fakes.setting()
    machine.open()
    assert machine.files == []


def test_a_report_makes_no_file_and_an_unchanged_state_is_not_written(machine: Machine) -> None:
    machine.server.tweak = fakes.setting()
    machine.server.rotate()
    machine.run().report(REPORT)
    before = machine.file.stat().st_mtime_ns, machine.file.read_bytes()
    machine.run().report(REPORT)
    machine.open()
    assert (machine.file.stat().st_mtime_ns, machine.file.read_bytes()) == before


def test_an_unwritable_folder_prevents_no_online_start(machine: Machine) -> None:
    machine.folder.parent.write_text("a file where a folder should be")
    machine.server.rotate()
    client = machine.run()
    assert client.report(REPORT).accepted
    assert client.open().accepted
    machine.rejects(client)
    assert not machine.starts_offline(client)


def test_on_a_full_disk_the_program_starts_online_but_not_offline_and_a_rejection_erases(machine: Machine) -> None:
    machine.server.rotate()
    with full_disk():
        assert machine.open().accepted
    assert machine.files == []
    machine.open()
    with full_disk():
        failure = machine.fails_offline()
    assert "their time cannot be stored" in failure.detail
    assert "期限" not in failure.message
    assert machine.starts_offline()  # what was there before is still there
    with full_disk():
        machine.rejects()
    assert machine.store.load(HARDWARE) == State()
    assert machine.file  # that of the keys


def no_home(*_arguments: object, **_more: object) -> Path:
    raise RuntimeError("could not determine the home directory")


def test_by_default_it_is_the_platforms_folder_and_without_a_folder_nothing_is_stored(
    machine: Machine, make_client: fakes.MakeClient, state_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.server.rotate()
    for _ in range(2):
        assert machine.open(state_dir=None).accepted
    assert machine.server.paths.count("/.well-known/jwks.json") == 2
    assert list(state_home.iterdir()) == []
    make_client().open()
    assert list((state_home / "kadun").glob("*.state"))
    assert repr(PLATFORM_FOLDER) == "PLATFORM_FOLDER"
    monkeypatch.chdir(tmp_path)
    for found in (no_home, lambda *_arguments, **_more: Path("~/.local/state/kadun")):  # new and old platformdirs
        monkeypatch.setattr("platformdirs.user_state_path", found)  # for an account without a home
        with pytest.raises(OSError, match="no folder"):
            StateStore(PLATFORM_FOLDER, "kadun", "kadun", CARD).save(ONE, HARDWARE)
    assert list(tmp_path.iterdir()) == []


@for_each("strange", ["\udcff", "", "卡 密", "a\0b", "../../up", "x" * 5000])
def test_any_string_may_name_a_program_a_card_or_a_machine(strange: str, machine: Machine) -> None:
    store = StateStore(machine.folder, strange, strange, strange)
    store.save(ONE, strange)
    assert store.load(strange) == ONE
    assert machine.file.parent == machine.folder
    machine.file.unlink()


def test_processes_write_whole_files_and_take_turns_from_reading_to_writing(machine: Machine) -> None:
    """Each of two processes adds sixty to what it reads, and overwrites another file without a lock."""
    program = f"""
from kadun import files
from kadun.store import State, StateStore
files._LOCK_SECONDS = {SOON_SECONDS}
store, other = (StateStore({str(machine.folder)!r}, "kadun", "kadun", card) for card in ({CARD!r}, "other"))
for turn in range(60):
    with store.locked():
        state = store.load({HARDWARE!r})
        store.save(State((*state.endorsements, "x")), {HARDWARE!r})
    other.save(State(("x" * 5000,)), {HARDWARE!r})
"""
    environment = {**os.environ, "PYTHONPATH": str(fakes.SOURCES)}
    other = StateStore(machine.folder, "kadun", "kadun", "other")
    writers = [subprocess.Popen([sys.executable, "-c", program], env=environment) for _ in range(2)]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        seen.add(other.load(HARDWARE).endorsements)
    assert [writer.returncode for writer in writers] == [0, 0]
    seen.add(other.load(HARDWARE).endorsements)
    assert seen - {()} == {("x" * 5000,)}
    assert len(machine.store.load(HARDWARE).endorsements) == 120
    assert len(machine.files) == 2


def test_an_offline_start_waits_for_a_writing_process(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not write back the yes that it read before that process heard a no."""
    machine.open()
    monkeypatch.setattr(kadun_files, "_LOCK_SECONDS", SOON_SECONDS)
    outcome: list[bool] = []
    starting = threading.Thread(target=lambda: outcome.append(machine.starts_offline()))
    with machine.store.locked():
        starting.start()
        starting.join(0.3)
        assert starting.is_alive()
        machine.store.save(State(rejection=Rejection(NOW + 1, "REF45678")), HARDWARE)
    starting.join()
    assert outcome == [False]
    assert machine.store.load(HARDWARE).cached is None


def test_a_process_that_hangs_with_the_lock_blocks_nobody(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kadun_files, "_LOCK_SECONDS", 0.1)
    with machine.store.locked():
        machine.open()
        assert machine.starts_offline()


class Scanner:
    """It has a file open for so many tries; Windows neither replaces nor removes an open file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tries = 0.0
        monkeypatch.setattr(kadun_files, "_SCANNERS_SECONDS", SOON_SECONDS)
        monkeypatch.setattr(sys, "platform", "win32")
        monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(LK_NBLCK=2, locking=lambda *_arguments: None))
        for call in ("replace", "unlink"):
            monkeypatch.setattr(Path, call, self.refusing(getattr(Path, call)))

    def refusing(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def refused(path: Path, *arguments: Any, **settings: Any) -> Any:
            if self.tries > 0 and path.exists():
                self.tries -= 1
                raise PermissionError(13, "The process cannot access the file because it is being used")
            return call(path, *arguments, **settings)

        return refused


def test_a_virus_scanner_is_waited_for_on_windows(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scanner = Scanner(monkeypatch)
    for state in (ONE, OTHER, State()):  # made, replaced and removed
        scanner.tries = 5
        machine.store.save(state, HARDWARE)
        assert (machine.store.load(HARDWARE), scanner.tries) == (state, 0)
    content, target = b"a model", tmp_path / "model.bin"
    with PartialFile(target, Offer("model.bin", 7, hashlib.sha256(content).hexdigest(), "/", "REF45678")) as part:
        part.append(content)
        scanner.tries = 5
        assert part.install()
    assert (target.read_bytes(), scanner.tries) == (content, 0)
    scanner.tries = 5
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(PermissionError):
        kadun_files.remove(target)
    assert scanner.tries == 4


def test_a_rejection_counts_even_if_the_file_can_be_neither_replaced_nor_removed(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.open()
    scanner = Scanner(monkeypatch)
    monkeypatch.setattr(kadun_files, "_SCANNERS_SECONDS", 0.1)
    scanner.tries = float("inf")
    machine.rejects()
    assert [path.stat().st_size for path in machine.files if path.suffix == ".state"] == [0]
    assert not machine.starts_offline()


def verdict_with(key: SigningKey, kept: CachedVerdict, **changes: Any) -> str:
    """What a customer who knows all of this writes: everything is right but the signature, or one claim."""
    envelope = KeyPair.from_secret(kept.key_pair)
    assert envelope is not None
    request = {"card_id": CARD, "hardware": HARDWARE, "function": "打开程序", "nonce": kept.nonce}
    claims = fakes.claims_for({**request, "client_public_key": envelope.public_key})
    return key.token({**claims, "request_sha256": kept.body_sha256, "offline_until": NOW + fakes.GRACE, **changes})


ODD_TIMES = [
    *(Times(spent, 0.0, 0.0) for spent in (-1.0, float("inf"), float("nan"), 1e300)),
    *(Times(NOW, reached, ahead) for reached, ahead in ((1e300, 0.0), (NOW, float("-inf")), (NOW, float("nan")))),
    *((NOW, NOW), ("1", "2", "3")),
]


@for_each(
    "changes",
    [
        *({"nonce": "another-nonce-of-theirs"}, {"token": "no.token.here"}),
        *({"body_sha256": digest} for digest in ("0" * 64, 1)),
        *({"key_pair": Secret(text)} for text in ("{}", "no JSON", '{"x": "AA", "d": "AA"}')),
        {"key_pair": KeyPair().secret()},
        *({"card_id": card} for card in (OTHER_CARD, "\udcff")),
        {"card_id": CARD.lower()},  # the same card, but not what the server signed
        *({"times": odd} for odd in ODD_TIMES),
    ],
)
def test_a_changed_stored_verdict_counts_as_absent(changes: dict[str, Any], machine: Machine) -> None:
    assert machine.open().accepted
    machine.put(**changes)
    assert not machine.starts_offline()


def test_a_stored_verdict_is_checked_as_an_online_one_is(machine: Machine, signing_key: SigningKey) -> None:
    machine.open()
    forger = SigningKey()
    forger.kid = signing_key.kid
    for key, change, starts in ((signing_key, {}, True), (signing_key, {"iss": "other"}, False), (forger, {}, False)):
        machine.put(token=verdict_with(key, machine.cached, **change))
        assert machine.starts_offline() is starts, (key, change)


def test_a_verdict_stored_without_its_requests_digest_is_used_and_one_of_another_card_is_not(machine: Machine) -> None:
    machine.open()
    machine.put(body_sha256=None)  # as a release stored it that knew no digests
    assert machine.starts_offline()
    machine.open()
    body = machine.server.bodies[machine.cached.nonce]
    assert machine.cached.body_sha256 == hashlib.sha256(body).hexdigest()
    machine.open(card_id=OTHER_CARD)
    theirs = StateStore(machine.folder, "kadun", "kadun", OTHER_CARD).load(HARDWARE)
    machine.store.save(theirs, HARDWARE)
    assert not machine.starts_offline()


def test_the_time_seen_cannot_be_put_before_the_verdict(machine: Machine) -> None:
    machine.open()
    machine.put(times=Times(0.0, 0.0, 0.0))
    machine.now = 0.0
    assert machine.starts_offline()
    assert machine.cached.times.spent == NOW + fakes.GRACE / 24  # of the time allowed, from the verdict on


def delay_answer(machine: Machine, meanwhile: Callable[[], object]) -> None:
    """The server answers the next opening; then this happens, before the answer arrives."""

    def late(request: dict[str, Any]) -> Response:
        answer = machine.server.genuine(request)
        meanwhile()
        return answer

    machine.server.script = [late]


@pytest.mark.parametrize("rejected_at", [NOW, NOW + 1])
@pytest.mark.parametrize("openings_before", [0, 1])
def test_a_later_rejection_in_another_process_is_not_undone_by_an_acceptance_in_progress(
    rejected_at: int, openings_before: int, machine: Machine
) -> None:
    for _ in range(openings_before):
        machine.open()
    client = machine.run()
    delay_answer(machine, lambda: machine.rejects(iat=rejected_at, exp=rejected_at + 300))
    assert client.open().accepted  # its own answer was a genuine yes
    assert machine.store.load(HARDWARE).cached is None
    assert not machine.starts_offline()
    assert not machine.starts_offline(client)
    machine.server.tweak = at(NOW)  # unfrozen: even if no second has passed
    machine.open()
    assert machine.starts_offline()


def test_an_earlier_rejection_does_not_prevent_a_later_acceptance(machine: Machine) -> None:
    delay_answer(machine, lambda: machine.rejects(iat=NOW - 1, exp=NOW + 299))
    machine.open()
    assert machine.starts_offline()


def test_a_rejection_during_an_opening_ends_it(machine: Machine) -> None:
    client = machine.run()
    client.open()

    def report() -> None:
        machine.server.tweak = fakes.reject("CARD_FROZEN", iat=NOW + 1, exp=NOW + 301)
        with pytest.raises(CardRejected):
            client.report(REPORT)

    delay_answer(machine, report)
    with pytest.raises(CardRejected, match="冻结"):
        client.open()
    with pytest.raises(UnsealFailed, match=r"call open\(\) first"):
        client.unseal(io.BytesIO(b""))
    assert not machine.starts_offline(client)
    machine.server.tweak = at(NOW)  # unfrozen
    assert client.open().accepted


SPELLINGS = [
    CARD.lower(),
    " ".join(CARD),
    "\u2014".join(CARD[i : i + 4] for i in range(0, 32, 4)),
    *(CARD.replace("0", zero).replace("1", one) for zero, one in ("ol", "OI")),
]


@for_each("spelling", SPELLINGS)
def test_a_rejection_of_any_spelling_erases_the_acceptance_of_another(spelling: str, machine: Machine) -> None:
    machine.server.tweak = at(NOW)
    machine.open()
    assert machine.starts_offline(card_id=spelling)
    machine.rejects(machine.run(card_id=spelling))
    assert not any(machine.starts_offline(card_id=card) for card in (CARD, *SPELLINGS))


def test_spellings_are_those_of_the_server_but_a_few_that_the_server_alone_reads() -> None:
    for typed in (*SPELLINGS, f"\u3000{CARD}\u2011", CARD):
        assert normalized_card_id(typed) == parse_card_id(typed) == CARD
    for other in (CARD[1:], CARD.replace("S", "\u017f"), f"{CARD}\u00ad"):
        assert normalized_card_id(other) != CARD
        assert parse_card_id(other) is None
    for typed in (CARD.replace("A", "\uff21"), f"卡密\uff1a{CARD}", f"\u201c{CARD}\u201d", f"\ufeff{CARD}", f"{CARD}_"):
        assert (parse_card_id(typed), normalized_card_id(typed)) == (CARD, typed)
    imported = ["old-key-1", "OLD-KEY-1", "OLDKEY1", "0LD-KEY-1"]  # only white space around them is ignored
    assert [normalized_card_id(f" {key}\n") for key in imported] == imported
