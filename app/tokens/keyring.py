"""Where the key ring is kept, and the rules that hold wherever that is."""

from abc import ABC, abstractmethod
from collections.abc import Hashable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

import msgspec

from app.tokens.keys import RETIRED_FOR, KeyRing


class KeyRingError(Exception):
    """The key ring is missing, unreadable or damaged. The message says what to do."""


class KeyStore(ABC):
    """Keeps one key ring, which is replaced as a whole: a folder (`KeyFolder`) or a database (`KeyDatabase`).

    Methods raise KeyRingError where the ring is missing or damaged, or cannot be written; then nothing was changed.
    """

    @abstractmethod
    def version(self) -> Hashable:
        """Return what is another once the ring has changed."""

    @abstractmethod
    def exists(self) -> bool:
        """Tell whether there is a key ring, intact or not."""

    @abstractmethod
    def load(self) -> KeyRing:
        """Read the key ring."""

    @abstractmethod
    def changing(self) -> AbstractContextManager[None]:
        """Keep all others from changing the ring within the block."""

    @abstractmethod
    def write(self, ring: KeyRing) -> None:
        """Replace the ring durably, inside a `changing` block."""

    @abstractmethod
    def put_aside(self, now: datetime) -> None:
        """Keep what there is, intact or not, before it is replaced; inside a `changing` block."""

    def create(self, now: datetime) -> KeyRing:
        """Create a ring with a current and a next key, or return the existing one."""
        with self.changing():
            if self.exists():
                return self.load()
            ring = KeyRing.new(now)
            self.write(ring)
            return ring

    def rotate(self, now: datetime, *, force: bool = False) -> KeyRing:
        """Make the next key the current one; running services take it up within a second.

        A second rotation while the key retired last is still published could come between a client's request and its
        look at the key set: less than `RETIRED_FOR` after the last one it takes `force`.
        """
        with self.changing():
            ring = self.load()
            again_at = ring.rotates_again_at
            if again_at is not None and now < again_at and not force:
                minutes = f"{RETIRED_FOR // timedelta(minutes=1)}"
                when = again_at.strftime("%Y-%m-%d %H:%M:%S %Z")
                raise KeyRingError(
                    f"距上次轮换不足 {minutes} 分钟，未更改：请在 {when} 之后轮换，或用 --force "
                    f"/ the last rotation was less than {minutes} minutes ago, nothing was changed: "
                    f"rotate after {when}, or use --force"
                )
            ring = ring.rotated(now)
            self.write(ring)
            return ring

    def restore(self, copy: KeyRing, now: datetime, *, only_newer: bool = False) -> bool:
        """Put a copy in place, unless the present ring is newer; return whether the copy is in place.

        Clients refuse keys older than those that they have seen, so an old copy must not replace a ring that continues
        it. Any other ring, an unrelated one such as a first start makes, or a damaged one, is put aside; with
        `only_newer` a present ring that the copy does not continue stays.
        """
        with self.changing():
            if self.exists():
                try:
                    present = self.load()
                except KeyRingError:
                    if only_newer:
                        raise
                    present = None
                if present == copy:
                    return True
                if present is not None and (
                    present.is_newer_than(copy) or (only_newer and not copy.is_newer_than(present))
                ):
                    return False
                self.put_aside(now)
            self.write(copy)
            return True


def encoded(ring: KeyRing) -> bytes:
    """Return a ring as JSON, as it is kept."""
    return msgspec.json.format(msgspec.json.encode(ring), indent=1)


def decoded(content: bytes) -> KeyRing:
    """Return the ring of what `encoded` returned; raise an exception if it is damaged."""
    ring = msgspec.json.decode(content, type=KeyRing)
    ring.check()
    return ring


def decoded_copy(content: bytes) -> KeyRing:
    """Return the ring of a copied `keyring.json`; raise KeyRingError if it is damaged."""
    try:
        return decoded(content)
    except Exception as error:
        raise KeyRingError(
            "这不是完好的 keyring.json，未更改 / this is not an intact keyring.json: nothing was changed"
        ) from error
