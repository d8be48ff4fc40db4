"""The client: asks, believes nothing unchecked, and unseals the core data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Callable, TypeVar

from kadun import messages, sealing
from kadun.answers import key_set_in, token_in
from kadun.errors import CardRejected, KadunError, ServerUnreachable, UnsealFailed
from kadun.hardware import machine_string
from kadun.keys import TrustedKeys
from kadun.patience import Patience
from kadun.question import OPEN, Question
from kadun.tokens import key_id
from kadun.transport import HttpTransport
from kadun.verdict import Verdict, check

if TYPE_CHECKING:
    from kadun.keys import PublicKeys
    from kadun.secret import Secret
    from kadun.transport import Transport

_Result = TypeVar("_Result")


class Client:
    """One card in one program on one machine.

    client = Client("https://card.example.com", public_keys=KEYS, card_id=card)
    client.open()
    core = client.unseal("core.dat.age")
    """

    def __init__(  # noqa: PLR0913 - all but three have a default, and all but three are named
        self,
        base_url: str,
        public_keys: PublicKeys,
        card_id: str,
        *,
        hardware: str | None = None,
        language: str = "zh",
        ca_file: str | os.PathLike[str] | None = None,
        timeout_seconds: float = 10,
        transport: Transport | None = None,
        patience: Patience | None = None,
    ) -> None:
        """Prepare; nothing is sent yet.

        Args:
            base_url: where the server is: `https://card.example.com`.
            public_keys: what `cardctl key export` prints, as a dict or as JSON text. Ship it in the program.
            card_id: what the customer typed; white space around it is dropped.
            hardware: a string of your own for this machine; by default `kadun.hardware.machine_string()`.
            language: of the messages for customers, `zh` or `en`.
            ca_file: a PEM file of certificates to trust instead of the usual ones, for a private CA.
            timeout_seconds: for each try, from the look-up of the name to the answer's last byte.
            transport: another way to travel than HTTP with these settings.
            patience: how often to try, and how long to wait in between.

        Raises:
            ValueError: an argument makes no sense.
            FileNotFoundError: `ca_file` is not there.
        """
        if language not in messages.LANGUAGES:
            raise ValueError(f"language must be one of {', '.join(messages.LANGUAGES)}")
        self._keys = TrustedKeys(public_keys)
        self._card_id = card_id.strip()
        self._hardware = hardware
        self._language = language
        self._transport: Transport = transport or HttpTransport(
            base_url, ca_file=ca_file, timeout_seconds=timeout_seconds
        )
        self._patience = patience or Patience()
        self._data_key: Secret | None = None

    def open(self) -> Verdict:
        """Ask to open the program (打开程序). Afterwards `unseal` works.

        Raises:
            CardRejected: the server says no; show `message` to the customer.
            ServerUnreachable: there is no answer.
            UntrustedAnswer: the answer is not the genuine server's, or not to this request.
            RequestRefused: the server refuses the form of the request.
            HardwareUnknown: no `hardware` was given, and the system has no identifier.
        """
        verdict = self._speaking(lambda: self._ask(OPEN, sealing.Envelope()))
        self._data_key = verdict.data_key
        return verdict

    def report(self, function: str) -> Verdict:
        """Ask whether another function of the program may run. It earns no key.

        Args:
            function: its name, 1 to 64 characters, as it shall stand in the server's records.

        Raises:
            ValueError: the function is 打开程序, for which there is `open`.
            CardRejected: as with `open`, and so are the others.
        """
        if function == OPEN:
            raise ValueError(f"use open() for {OPEN}")
        return self._speaking(lambda: self._ask(function, None))

    def unseal(self, source: str | os.PathLike[str] | BinaryIO) -> bytes:
        """Decrypt core data in memory, with the key of the last `open`.

        Args:
            source: the path of an age file, or a stream of its bytes.

        Raises:
            UnsealFailed: the program was not opened, the key does not fit, or the data is damaged.
            OSError: the file cannot be read.
        """
        return self._speaking(lambda: self._unseal(source))

    def _unseal(self, source: str | os.PathLike[str] | BinaryIO) -> bytes:
        if self._data_key is None:
            raise UnsealFailed("open() comes first, and must have been accepted")
        sealed = Path(source).read_bytes() if isinstance(source, (str, os.PathLike)) else source.read()
        return sealing.unseal(sealed, self._data_key)

    def _ask(self, function: str, envelope: sealing.Envelope | None) -> Verdict:
        if self._hardware is None:
            self._hardware = machine_string()
        public_key = envelope.public_key if envelope else None

        def attempt() -> tuple[Question, str]:
            # A new nonce each time: an answer to a try that we gave up must not count for the next.
            question = Question(self._card_id, str(self._hardware), function, public_key)
            answer = self._transport.exchange("/v1/verify", question.body(), self._language)
            return question, token_in(answer)

        question, token = self._patiently(attempt)
        if key_id(token) not in self._keys:
            self._keys.learn(self._patiently(self._fetch_key_set))
        verdict = check(token, question, self._keys, envelope)
        if not verdict.accepted:
            self._data_key = None  # a signed no ends what an earlier yes allowed
            message = messages.rejection(verdict.code, verdict.reference, self._language)
            raise CardRejected(verdict.code, message, verdict.reference)
        return verdict

    def _fetch_key_set(self) -> bytes:
        return key_set_in(self._transport.exchange("/.well-known/jwks.json", None, self._language))

    def _patiently(self, attempt: Callable[[], _Result]) -> _Result:
        tries_made = 0
        while True:
            tries_made += 1
            try:
                return attempt()
            except ServerUnreachable as failure:
                self._patience.wait_after(failure, tries_made)

    def _speaking(self, work: Callable[[], _Result]) -> _Result:
        """Have every error's message in this client's language."""
        try:
            return work()
        except KadunError as error:
            error.speak(self._language)
            raise
