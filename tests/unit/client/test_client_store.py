"""What is kept between starts: learned keys and the last verdict, in one file that is believed for nothing."""

from __future__ import annotations

import hashlib
import io
import os
import resource
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from kadun import (
    PLATFORM_FOLDER,
    CardRejected,
    Client,
    Heartbeat,
    Secret,
    ServerUnreachable,
    UnsealFailed,
    UntrustedAnswer,
)
from kadun import files as kadun_files
from kadun.cards import normalized_card_id
from kadun.clocks import Times
from kadun.downloads import Offer
from kadun.partial_file import PartialFile
from kadun.sealing import KeyPair
from kadun.store import CachedVerdict, Rejection, State, StateStore

from app.domain.cards import parse_card_id
from tests.support.client.fake_server import (
    CARD,
    HARDWARE,
    NOW,
    FakeServer,
    SigningKey,
    claims_for,
    reject,
    setting,
)

if TYPE_CHECKING:
    from kadun.responses import Response

MakeClient = Callable[..., Client]
ALLOWED = setting(offline_until=NOW + 86_400)
SOURCE = Path(__file__).resolve().parents[3] / "client" / "src"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "here"


@pytest.fixture
def start(make_client: MakeClient, folder: Path) -> MakeClient:
    """Make a client, as each new start of the program does."""
    return lambda **changes: make_client(**{"state_dir": folder, "clock": lambda: NOW, **changes})


@pytest.fixture
def store(folder: Path) -> StateStore:
    """The very store that these clients use: what is in it, a customer can read and write too."""
    return StateStore(folder, "kadun", "kadun", CARD)


def no_network(_request: object) -> ServerUnreachable:
    return ServerUnreachable("no route")


def offline(client: Client, server: FakeServer) -> bool:
    """Whether this client starts without the server."""
    server.script = [no_network]
    try:
        return client.open().offline
    except ServerUnreachable:
        return False
    finally:
        server.script = []


def files(folder: Path) -> list[Path]:
    """All but the lock, which is empty."""
    return [path for path in folder.iterdir() if path.name != "lock" or path.stat().st_size]


def only_file(folder: Path) -> Path:
    (path,) = files(folder)
    return path


def rotate(server: FakeServer, times: int = 1) -> None:
    for _ in range(times):
        successor = SigningKey()
        server.endorsements.append(server.key.endorse(successor.jwk))
        server.key = successor


# Learned keys


def test_learned_keys_are_kept_through_any_number_of_rotations(start: MakeClient, server: FakeServer) -> None:
    for asleep_through in (1, 3, 40):
        rotate(server, asleep_through)
        server.paths.clear()
        start().open()
        start().open()
        start().report("导出报表")
        assert server.paths.count("/.well-known/jwks.json") == 1


def test_a_pinned_key_needs_no_file(start: MakeClient, folder: Path) -> None:
    start().open()
    assert not folder.exists()


def test_a_no_leaves_the_learned_keys(start: MakeClient, server: FakeServer) -> None:
    rotate(server)
    start().open()
    server.tweak = reject("CARD_FROZEN")
    server.paths.clear()
    for _ in range(2):
        with pytest.raises(CardRejected):
            start().open()
    assert server.paths == ["/v1/verify"] * 2


def test_a_verdict_by_a_learned_key_stands_in_offline(start: MakeClient, server: FakeServer) -> None:
    rotate(server, 3)
    server.tweak = ALLOWED
    start().open()
    assert offline(start(), server)


def forged_endorsements(pinned_key: SigningKey, mine: SigningKey) -> list[str]:
    return [
        mine.endorse(mine.jwk),
        mine.token({"aud": "kadun-client", "jwk": mine.jwk}, header={"typ": "key+jwt", "kid": pinned_key.kid}),
        "no token",
    ]


@pytest.mark.parametrize("which", [0, 1, 2])
def test_a_key_written_into_the_file_is_not_believed(
    which: int, start: MakeClient, store: StateStore, server: FakeServer, signing_key: SigningKey
) -> None:
    mine = SigningKey()
    store.save(State((forged_endorsements(signing_key, mine)[which],)), HARDWARE)
    server.key = mine
    with pytest.raises(UntrustedAnswer, match="neither pinned nor endorsed"):
        start().open()


def test_spoiled_endorsements_in_the_file_are_learned_anew(
    start: MakeClient, store: StateStore, server: FakeServer
) -> None:
    rotate(server, 2)
    start().open()
    kept = store.load(HARDWARE).endorsements
    assert list(kept) == server.endorsements
    store.save(State((kept[0], kept[1][:-4] + "AAAA")), HARDWARE)
    assert start().open().accepted
    assert store.load(HARDWARE).endorsements == kept


def test_endorsements_outlive_openings_that_did_not_need_them(
    start: MakeClient, store: StateStore, server: FakeServer
) -> None:
    """In the minutes of a rotation some answers still come with the key before."""
    old = server.key
    rotate(server)
    start().open()
    server.key, server.tweak = old, ALLOWED
    start().open()
    assert len(store.load(HARDWARE).endorsements) == 1


# A verdict that was tampered with


def put(store: StateStore, **changes: Any) -> None:
    state = store.load(HARDWARE)
    assert state.cached is not None
    store.save(replace(state, cached=replace(state.cached, **changes)), HARDWARE)


def verdict_with(key: SigningKey, store: StateStore, **changes: Any) -> str:
    """What a customer who knows all of this writes: everything is right but the signature, or one claim."""
    kept = store.load(HARDWARE).cached
    assert kept is not None
    envelope = KeyPair.from_secret(kept.key_pair)
    assert envelope is not None
    request = {"card_id": CARD, "hardware": HARDWARE, "function": "打开程序", "nonce": kept.nonce}
    claims = claims_for({**request, "client_public_key": envelope.public_key})
    return key.token({**claims, "offline_until": NOW + 86_400, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"nonce": "another-nonce-of-theirs"},
        {"key_pair": Secret("{}")},
        {"key_pair": Secret("no JSON")},
        {"key_pair": Secret('{"x": "AA", "d": "AA"}')},
        {"key_pair": KeyPair().secret()},
        {"token": "no.token.here"},
        {"card_id": "F" * 32},
        {"card_id": CARD.lower()},  # the same card, but not what the server signed
        {"card_id": "\udcff"},
        {"times": Times(-1.0, 0.0, 0.0)},
        {"times": Times(float("inf"), 0.0, 0.0)},
        {"times": Times(float("nan"), 0.0, 0.0)},
        {"times": Times(1e300, 0.0, 0.0)},
        {"times": Times(NOW, 1e300, 0.0)},
        {"times": Times(NOW, NOW, float("-inf"))},
        {"times": Times(NOW, NOW, float("nan"))},
        {"times": (NOW, NOW)},
        {"times": ("1", "2", "3")},
    ],
    ids=str,
)
def test_a_kept_verdict_that_was_changed_counts_as_absent(
    changes: dict[str, Any], start: MakeClient, store: StateStore, server: FakeServer
) -> None:
    server.tweak = ALLOWED
    start().open()
    put(store, **changes)
    assert not offline(start(), server)
    assert start().open().accepted


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": "F" * 32},
        {"hardware_sha256": "0" * 64},
        {"function": "导出报表"},
        {"aud": "kadun-files"},
        {"iss": "other"},
        {"exp": NOW + 301},
        {"code": "CARD_FROZEN", "accepted": False},
        {"KERNAL_DATA_KEY": "in clear"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_every_check_of_an_online_verdict_is_made_again(
    changes: dict[str, Any], start: MakeClient, store: StateStore, server: FakeServer, signing_key: SigningKey
) -> None:
    server.tweak = ALLOWED
    start().open()
    put(store, token=verdict_with(signing_key, store))
    assert offline(start(), server)  # the pinned key's own: all is right
    put(store, token=verdict_with(signing_key, store, **changes))
    assert not offline(start(), server)


def test_a_verdict_that_the_customer_signed_does_not_stand_in(
    start: MakeClient, store: StateStore, server: FakeServer, signing_key: SigningKey
) -> None:
    server.tweak = ALLOWED
    start().open()
    forger = SigningKey()
    forger.kid = signing_key.kid
    put(store, token=verdict_with(forger, store))
    assert not offline(start(), server)


def test_another_cards_verdict_does_not_stand_in_for_this_one(
    start: MakeClient, store: StateStore, server: FakeServer, folder: Path
) -> None:
    server.tweak = ALLOWED
    other = "F" * 32
    start(card_id=other).open()
    theirs = StateStore(folder, "kadun", "kadun", other).load(HARDWARE)
    assert theirs.cached is not None
    store.save(theirs, HARDWARE)
    assert not offline(start(), server)


def test_the_time_seen_cannot_be_put_before_the_verdict(
    start: MakeClient, store: StateStore, server: FakeServer
) -> None:
    server.tweak = ALLOWED
    start().open()
    put(store, times=Times(0.0, 0.0, 0.0))
    assert offline(start(clock=lambda: 0.0), server)
    kept = store.load(HARDWARE).cached
    assert kept is not None
    assert kept.times.spent == NOW + 3600  # a 24th of the day allowed, from the verdict on


# The file


def test_every_byte_of_the_file_counts(start: MakeClient, server: FakeServer, store: StateStore, folder: Path) -> None:
    server.tweak = ALLOWED
    start().open()
    path = only_file(folder)
    good = path.read_bytes()
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        assert store.load(HARDWARE) == State()
    for damaged in (b"", good[:10], good[:30], good[:-1], good + b"\0", b"{}", good * 2):
        path.write_bytes(damaged)
        assert store.load(HARDWARE) == State()
    path.write_bytes(good)
    assert store.load(HARDWARE).cached is not None


@pytest.mark.parametrize("damage", [b"", b"rubbish", b"kadun state 1\n", bytes(5_000_000)])
def test_a_damaged_file_counts_as_absent_and_is_made_good(
    damage: bytes, start: MakeClient, server: FakeServer, folder: Path
) -> None:
    server.tweak = ALLOWED
    start().open()
    only_file(folder).write_bytes(damage)
    assert not offline(start(), server)
    assert start().open().accepted
    assert offline(start(), server)


@pytest.mark.parametrize(
    "plaintext", [b"[]", b"{}", b'{"endorsements": [1]}', b'{"endorsements": [], "kept": {"token": 1}}']
)
def test_contents_of_another_shape_count_as_absent(plaintext: bytes, store: StateStore, folder: Path) -> None:
    magic, nonce = b"kadun state 1\n", bytes(12)
    store.save(State(("x",)), HARDWARE)
    cipher = store._cipher(HARDWARE)  # noqa: SLF001 - no release writes this, but a customer can
    only_file(folder).write_bytes(magic + nonce + cipher.encrypt(nonce, plaintext, magic))
    assert store.load(HARDWARE) == State()


@pytest.mark.parametrize(
    "other", [("another", "kadun", CARD), ("kadun", "another", CARD), ("kadun", "kadun", "F" * 32)]
)
def test_another_programs_file_is_foreign_even_under_our_name(
    other: tuple[str, str, str], store: StateStore, folder: Path
) -> None:
    StateStore(folder, *other).save(State(("x",)), HARDWARE)
    theirs = only_file(folder)
    store.save(State(("y",)), HARDWARE)
    ours = next(path for path in folder.iterdir() if path != theirs)
    theirs.replace(ours)
    assert store.load(HARDWARE) == State()


def test_another_machine_reads_nothing_from_a_copy(store: StateStore) -> None:
    state = State(("x",), CachedVerdict("t", "c", "n", Secret("e"), Times(1.0, 1.0, 0.0)))
    store.save(state, HARDWARE)
    assert store.load("machine-2") == State()
    assert store.load(HARDWARE).endorsements == ("x",)


def test_the_same_state_is_never_encrypted_the_same_twice(store: StateStore, folder: Path) -> None:
    store.save(State(("x",)), HARDWARE)
    first = only_file(folder).read_bytes()
    store.save(State(("x",)), HARDWARE)
    assert only_file(folder).read_bytes() != first


def test_the_file_is_its_owners_alone(start: MakeClient, server: FakeServer, folder: Path) -> None:
    server.tweak = ALLOWED
    start().open()
    start().open()
    assert stat.S_IMODE(only_file(folder).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_no_leaves_nothing_but_when_it_was_said(
    start: MakeClient, server: FakeServer, store: StateStore, folder: Path
) -> None:
    server.tweak = ALLOWED
    start().open()
    server.tweak = reject("CARD_FROZEN")
    with pytest.raises(CardRejected) as caught:
        start().open()
    assert store.load(HARDWARE) == State(rejection=Rejection(NOW, caught.value.reference))
    server.tweak = setting()
    start().open()
    assert files(folder) == []


def test_a_mistyped_card_leaves_no_file(start: MakeClient, server: FakeServer, folder: Path) -> None:
    server.tweak = reject("CARD_NOT_FOUND")
    with pytest.raises(CardRejected):
        start().open()
    assert not folder.exists() or files(folder) == []


@pytest.mark.parametrize("at", ["1", True, None])
def test_a_no_of_another_shape_counts_as_absent(at: Any, store: StateStore) -> None:
    store.save(State(("x",), rejection=Rejection(at, "REF45678")), HARDWARE)
    assert store.load(HARDWARE) == State(("x",))


def test_a_report_makes_no_file_and_an_unchanged_state_is_not_written(
    start: MakeClient, server: FakeServer, folder: Path
) -> None:
    rotate(server)
    start().report("导出报表")
    before = only_file(folder).stat().st_mtime_ns, only_file(folder).read_bytes()
    start().report("导出报表")
    start().open()
    assert (only_file(folder).stat().st_mtime_ns, only_file(folder).read_bytes()) == before


# Folders that do not serve


def blocked_by_a_file(folder: Path) -> None:
    folder.parent.parent.mkdir(parents=True, exist_ok=True)
    folder.parent.write_text("a file where a folder should be")


def blocked_by_a_folder(folder: Path) -> None:
    """A folder of the file's own name: neither read, nor replaced, nor removed, not even by root."""
    StateStore(folder, "kadun", "kadun", CARD).save(State(("x",)), HARDWARE)
    path = only_file(folder)
    path.unlink()
    (path / "inside").mkdir(parents=True)


@pytest.mark.parametrize("block", [blocked_by_a_file, blocked_by_a_folder])
def test_a_folder_that_cannot_be_written_prevents_no_online_start(
    block: Callable[[Path], None], start: MakeClient, server: FakeServer, folder: Path
) -> None:
    block(folder)
    rotate(server)
    client = start()
    assert client.report("导出报表").accepted
    server.tweak = ALLOWED
    assert client.open().accepted
    server.tweak = reject("CARD_FROZEN")
    with pytest.raises(CardRejected):
        client.open()
    assert not offline(client, server)
    leftovers = folder.iterdir() if folder.is_dir() else iter(())
    assert [path for path in leftovers if path.name.startswith(".new-")] == []


@contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow, as on a full disk: the system itself refuses to write (RLIMIT_FSIZE)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_prevents_no_online_start(start: MakeClient, server: FakeServer, folder: Path) -> None:
    server.tweak = ALLOWED
    with full_disk():
        assert start().open().accepted
    assert files(folder) == []


def test_where_its_time_cannot_be_written_down_there_is_no_offline_start(start: MakeClient, server: FakeServer) -> None:
    server.tweak = ALLOWED
    start().open()
    server.script = [no_network] * 2
    with full_disk(), pytest.raises(ServerUnreachable, match="cannot be stored") as caught:
        start().open()
    assert "期限" not in caught.value.message
    assert start().open().offline  # what was there before is still there


def test_a_no_erases_the_verdict_even_on_a_full_disk(start: MakeClient, server: FakeServer, folder: Path) -> None:
    rotate(server)
    server.tweak = ALLOWED
    start().open()
    server.tweak = reject("CARD_FROZEN")
    with full_disk(), pytest.raises(CardRejected):
        start().open()
    assert files(folder) == []


def test_without_a_folder_nothing_is_kept(make_client: MakeClient, server: FakeServer, state_home: Path) -> None:
    rotate(server)
    server.tweak = ALLOWED
    for _ in range(2):
        assert make_client(state_dir=None).open().accepted
    assert server.paths.count("/.well-known/jwks.json") == 2
    assert list(state_home.iterdir()) == []


def test_by_default_it_is_the_platforms_folder(make_client: MakeClient, server: FakeServer, state_home: Path) -> None:
    server.tweak = ALLOWED
    make_client().open()
    assert only_file(state_home / "kadun").suffix == ".state"
    assert repr(PLATFORM_FOLDER) == "PLATFORM_FOLDER"


def no_home(*_arguments: object, **_more: object) -> Path:
    raise RuntimeError("could not determine the home directory")


@pytest.mark.parametrize("found", [no_home, lambda *_arguments, **_more: Path("~/.local/state/kadun")])
def test_an_account_without_a_home_keeps_nothing(
    found: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("platformdirs.user_state_path", found)  # what new and old releases of it do there
    store = StateStore(PLATFORM_FOLDER, "kadun", "kadun", CARD)
    with pytest.raises(OSError, match="no folder"):
        store.save(State(("x",)), HARDWARE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("strange", ["\udcff", "", "卡 密", "a\0b", "../../up", "x" * 5000])
def test_any_string_may_name_a_program_a_card_or_a_machine(strange: str, folder: Path) -> None:
    store = StateStore(folder, strange, strange, strange)
    store.save(State(("x",)), strange)
    assert store.load(strange).endorsements == ("x",)
    assert only_file(folder).parent == folder


def test_two_processes_that_write_at_once_leave_a_whole_file(store: StateStore, folder: Path) -> None:
    program = f"""
from kadun.store import State, StateStore
store = StateStore({str(folder)!r}, "kadun", "kadun", {CARD!r})
for turn in range(60):
    store.save(State(("x" * 5000,)), {HARDWARE!r})
"""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    writers = [subprocess.Popen([sys.executable, "-c", program], env=environment) for _ in range(2)]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        seen.add(store.load(HARDWARE).endorsements)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert seen - {()} == {("x" * 5000,)}
    assert len(list(folder.iterdir())) == 1


# Spellings of one card

SPELLINGS = [
    CARD.lower(),
    " ".join(CARD),
    "\u2014".join(CARD[i : i + 4] for i in range(0, 32, 4)),
    CARD.replace("0", "o").replace("1", "l"),
    CARD.replace("0", "O").replace("1", "I"),
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_no_to_any_spelling_of_a_card_erases_the_yes_to_another(
    spelling: str, start: MakeClient, server: FakeServer
) -> None:
    server.tweak = ALLOWED
    start().open()
    assert offline(start(card_id=spelling), server)
    server.tweak = reject("CARD_FROZEN")
    with pytest.raises(CardRejected):
        start(card_id=spelling).open()
    for card in (CARD, *SPELLINGS):
        assert not offline(start(card_id=card), server)


def test_spellings_are_those_of_the_server() -> None:
    for typed in (*SPELLINGS, f"\u3000{CARD}\u2011", CARD):
        assert normalized_card_id(typed) == parse_card_id(typed) == CARD
    for other in (CARD[1:], CARD.replace("A", "\uff21"), CARD.replace("S", "\u017f"), f"{CARD}\u00ad"):
        assert normalized_card_id(other) != CARD
        assert parse_card_id(other) is None


# Several at once


def begun_before(server: FakeServer, start: MakeClient, what_comes_between: Callable[[], None]) -> Client:
    """A client whose opening the server has answered already, when this happens before the answer arrives."""
    server.tweak = setting(offline_until=NOW + 86_400)

    def late(request: dict[str, Any]) -> Response:
        answer = server.genuine(request)
        what_comes_between()
        return answer

    server.script = [late]
    return start()


def refuse(client: Client, server: FakeServer, at: int = NOW + 1) -> None:
    def no(claims: dict[str, Any]) -> None:
        reject("CARD_FROZEN")(claims)
        claims.update(iat=at, exp=at + 300)

    server.tweak = no
    with pytest.raises(CardRejected):
        client.report("心跳")


@pytest.mark.parametrize("at", [NOW, NOW + 1])
@pytest.mark.parametrize("openings_before", [0, 1])
def test_a_later_no_to_another_process_is_not_undone_by_a_yes_under_way(
    at: int, openings_before: int, start: MakeClient, server: FakeServer, store: StateStore
) -> None:
    server.tweak = ALLOWED
    for _ in range(openings_before):
        start().open()
    client = begun_before(server, start, lambda: refuse(start(), server, at))
    assert client.open().accepted  # its own answer was a genuine yes
    assert store.load(HARDWARE).cached is None
    assert not offline(start(), server)
    assert not offline(client, server)
    server.tweak = ALLOWED  # unfrozen: even if no second has passed
    start().open()
    assert offline(start(), server)


def test_an_earlier_no_does_not_stop_a_later_yes(start: MakeClient, server: FakeServer) -> None:
    client = begun_before(server, start, lambda: refuse(start(), server, NOW - 1))
    client.open()
    assert offline(start(), server)


def test_a_heartbeats_no_ends_an_opening_that_was_under_way(start: MakeClient, server: FakeServer) -> None:
    server.tweak = ALLOWED
    client = start()
    client.open()
    refused: list[str] = []
    heard = threading.Event()

    def hear(no: CardRejected) -> None:
        refused.append(no.code)
        heard.set()

    def beat() -> None:
        def no(claims: dict[str, Any]) -> None:
            reject("CARD_FROZEN")(claims)
            claims.update(iat=NOW + 1, exp=NOW + 301)

        server.tweak = no
        with Heartbeat(client, on_rejected=hear):
            assert heard.wait(10)

    def late(request: dict[str, Any]) -> Response:
        answer = server.genuine(request)
        beat()
        return answer

    server.script = [late]
    with pytest.raises(CardRejected) as caught:
        client.open()
    assert [caught.value.code] == refused == ["CARD_FROZEN"]
    with pytest.raises(UnsealFailed):
        client.unseal(io.BytesIO(b""))
    assert not offline(client, server)
    server.tweak = ALLOWED  # unfrozen
    assert client.open().accepted


def test_processes_take_turns_from_reading_the_file_to_writing_it(store: StateStore, folder: Path) -> None:
    """Each of two processes adds a hundred to what it reads; without the lock some are lost."""
    program = f"""
from kadun.store import State, StateStore
store = StateStore({str(folder)!r}, "kadun", "kadun", {CARD!r})
for turn in range(100):
    with store.locked():
        state = store.load({HARDWARE!r})
        store.save(State((*state.endorsements, "x")), {HARDWARE!r})
"""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    writers = [subprocess.Popen([sys.executable, "-c", program], env=environment) for _ in range(2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(store.load(HARDWARE).endorsements) == 200


def test_an_offline_start_waits_for_the_process_that_is_writing(
    start: MakeClient, server: FakeServer, store: StateStore
) -> None:
    """It must not write back the yes that it read before that process heard a no."""
    server.tweak = ALLOWED
    start().open()
    outcome: list[bool] = []
    client = start()
    starting = threading.Thread(target=lambda: outcome.append(offline(client, server)))
    with store.locked():
        starting.start()
        starting.join(0.3)
        assert starting.is_alive()
        store.save(State(rejection=Rejection(NOW + 1, "REF45678")), HARDWARE)
    starting.join()
    assert outcome == [False]
    assert store.load(HARDWARE).cached is None


def test_a_process_that_hangs_with_the_lock_shuts_nobody_out(
    start: MakeClient, server: FakeServer, store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kadun_files, "_LOCK_SECONDS", 0.1)
    server.tweak = ALLOWED
    with store.locked():
        start().open()
        assert offline(start(), server)


# Windows, where a virus scanner looks into each new file


class Scanner:
    """It has a file open for so many tries; Windows neither replaces nor removes an open file."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tries: float) -> None:
        self.tries = tries
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


def test_a_virus_scanner_is_waited_for(
    start: MakeClient, server: FakeServer, store: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.tweak = ALLOWED
    scanner = Scanner(monkeypatch, tries=5)
    start().open()
    assert scanner.tries == 0
    assert store.load(HARDWARE).cached is not None
    scanner.tries = 5
    store.save(State(), HARDWARE)
    assert store.load(HARDWARE) == State()


def test_a_no_counts_even_where_the_file_can_be_neither_replaced_nor_removed(
    start: MakeClient, server: FakeServer, store: StateStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kadun_files, "_SCANNERS_SECONDS", 0.1)
    server.tweak = ALLOWED
    start().open()
    Scanner(monkeypatch, tries=float("inf"))
    refuse(start(), server)
    assert [path.stat().st_size for path in folder.iterdir() if path.suffix == ".state"] == [0]
    assert not offline(start(), server)


def test_a_download_is_put_in_place_once_the_scanner_lets_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"the model"
    target = tmp_path / "model.bin"
    scanner = Scanner(monkeypatch, tries=0)
    offer = Offer("model.bin", len(content), hashlib.sha256(content).hexdigest(), "/v1/files/model.bin", "REF45678")
    with PartialFile(target, offer) as part:
        part.append(content)
        scanner.tries = 5
        assert part.install()
    assert target.read_bytes() == content


def test_elsewhere_a_refusal_is_one_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scanner = Scanner(monkeypatch, tries=5)
    monkeypatch.setattr(sys, "platform", "linux")
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(PermissionError):
        kadun_files.remove(file)
    assert scanner.tries == 4
