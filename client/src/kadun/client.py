"""The client: sends requests, verifies the answers, and unseals the core data."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Callable, TypeVar

from kadun import execution, messages, sealing
from kadun.downloads import DOWNLOAD, Downloader
from kadun.errors import KadunError, ServerUnreachable, UnsealFailed, UntrustedAnswer, rejection_error
from kadun.hardware import machine_string
from kadun.keys import TrustedKeys
from kadun.learned import LearnedKeys
from kadun.offline import ClientState
from kadun.request import OPEN, VerificationRequest
from kadun.responses import key_set_from, token_from
from kadun.retries import RetryPolicy
from kadun.store import PLATFORM_FOLDER, StateStore
from kadun.tokens import key_id
from kadun.transport import HttpTransport
from kadun.verdict import Verdict, verify_verdict

if TYPE_CHECKING:
    from kadun.downloads import Progress
    from kadun.keys import PublicKeys
    from kadun.offline import Clock
    from kadun.store import StateDir
    from kadun.transport import Transport

_Result = TypeVar("_Result")


class Client:
    """One card in one program on one machine.

    client = Client("https://card.example.com", public_keys=KEYS, card_id=card)
    client.open()
    core = client.unseal("core.dat.age")
    """

    def __init__(  # noqa: PLR0913 - all but three are keyword-only and have a default
        self,
        base_url: str,
        public_keys: PublicKeys,
        card_id: str,
        *,
        hardware: str | None = None,
        language: str = "zh",
        ca_file: str | os.PathLike[str] | None = None,
        public_cas: bool = False,
        timeout_seconds: float = 10,
        program: str | None = None,
        state_dir: StateDir = PLATFORM_FOLDER,
        transport: Transport | None = None,
        retry_policy: RetryPolicy | None = None,
        clock: Clock = time.time,
    ) -> None:
        """Prepare a client; nothing is sent yet.

        Args:
            base_url: the address of the server: `https://card.example.com`.
            public_keys: the output of `cardctl key export`, as a dict or as JSON text. Ship it in the program.
            card_id: what the customer typed; surrounding white space is removed.
            hardware: your own string for this machine; by default `kadun.hardware.machine_string(program)`.
            language: the language of the messages for customers, `zh` or `en`.
            ca_file: a PEM file of certificates, or a folder of such files (`*.pem`), to trust instead of the usual CAs:
                a self-signed certificate, or a private CA.
            public_cas: trust the usual CAs beside `ca_file`, for a server that gets a publicly trusted certificate.
            timeout_seconds: the limit for each try, from the name lookup to the last byte of the answer.
            program: the name of your program; its stored state and the machine's string depend on it. By default the
                issuer (`iss`). A released program must not change it: its customers' cards are bound to the string.
            state_dir: a folder for the state between starts: learned keys, and the verdict for offline starts. By
                default the platform's own; with None nothing is stored, and there are no offline starts.
            transport: replaces HTTP with the settings above.
            retry_policy: how often to try, and how long to wait in between.
            clock: returns seconds since 1970. Only offline starts use it, see `kadun.clocks`.

        Raises:
            ValueError: an argument is invalid.
            FileNotFoundError: `ca_file` does not exist, or is a folder without a `*.pem` file.
        """
        if language not in messages.LANGUAGES:
            raise ValueError(f"language must be one of {', '.join(messages.LANGUAGES)}")
        self._keys = TrustedKeys(public_keys)
        self._card_id = card_id.strip()
        self._hardware = hardware
        self._language = language
        self._transport: Transport = transport or HttpTransport(
            base_url, ca_file=ca_file, public_cas=public_cas, timeout_seconds=timeout_seconds
        )
        self._retry_policy = retry_policy or RetryPolicy()
        self._program = program or self._keys.issuer
        place = (state_dir, self._program, self._keys.issuer)
        self._learned = LearnedKeys(StateStore(*place), self._keys, clock)
        self._state = ClientState(StateStore(*place, self._card_id), self._keys, clock)

    def open(self) -> Verdict:
        """Ask the server to open the program (打开程序). Afterwards `unseal` works.

        If the server cannot be reached, or the answer is not the server's, the last accepted verdict for this card on
        this machine is used, if the vendor allows offline starts and their time is not over. Then the verdict is
        `offline`.

        Raises:
            CardRejected: the server rejects the card; show `message` to the customer.
            ServerUnreachable: no answer arrived in time, or the server is busy.
            UntrustedAnswer: the answer is not the genuine server's, or not to this request.
            RequestRefused: the server refuses the request as malformed.
            HardwareUnknown: no `hardware` was given, and the system has no identifier.
        """
        return self._localized(self._open)

    def _open(self) -> Verdict:
        try:
            return self._ask(OPEN, sealing.KeyPair())
        except (ServerUnreachable, UntrustedAnswer) as failure:
            self._learned.load(self._machine())
            return self._state.offline_verdict(failure, self._card_id, self._machine())

    def report(self, function: str) -> Verdict:
        """Ask whether another function of the program may run. Its verdict grants no key.

        Args:
            function: its name in the server's records, 1 to 64 characters.

        Raises:
            ValueError: the function is 打开程序; use `open`.
            CardRejected: as in `open`; the other errors of `open`, too.
        """
        if function == OPEN:
            raise ValueError(f"use open() for {OPEN}")
        return self._localized(lambda: self._ask(function, None))

    def download(self, name: str, target: str | os.PathLike[str], *, on_progress: Progress | None = None) -> Path:
        """Download a file of the vendor, unless the target is identical already.

        The target is replaced atomically, once size and SHA-256 match the signed verdict. If the connection breaks,
        the received part stays beside it as `TARGET.part`, and the next call resumes it.

        Args:
            name: the name of the file, as in `cardctl file list`.
            target: the path of the downloaded file; its folder must exist.
            on_progress: called with the received and the total number of bytes. An exception in it ends the download.

        Raises:
            DownloadFailed: the file does not exist, arrived damaged, or cannot be saved.
            ValueError: the target is a folder.
            CardRejected: as in `open`; the other errors of `open`, too.
        """
        ask = partial(self._ask, DOWNLOAD, None, path="/v1/files")
        downloader = Downloader(ask, self._transport, self._retry_policy)
        return self._localized(lambda: downloader.fetch(name, target, on_progress))

    def execute(self, function: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - any JSON value
        """Call a function of the vendor on the server, and return its result.

        The request is sent at most once, because a lost answer does not tell whether the function ran. It is retried
        only if no connection was established; `ServerUnreachable.sent` tells the two apart.

        Args:
            function: the name under which the vendor installed it.
            arguments: a JSON object.

        Raises:
            ValueError: the arguments are not a JSON object, or the function is 打开程序. Nothing was sent.
            CoreFunctionError: the card is valid, but the function does not exist (FunctionNotFound), failed
                (FunctionFailed) or took too long (FunctionTimeout).
            CardRejected: as in `open`; the other errors of `open`, too.
        """
        if function == OPEN:
            raise ValueError(f"use open() for {OPEN}")
        checked = execution.checked(arguments)
        return self._localized(
            lambda: self._ask(function, None, path="/v1/execute", arguments=checked).claims.value("result")
        )

    def unseal(self, source: str | os.PathLike[str] | BinaryIO) -> bytes:
        """Decrypt core data in memory, with the key of the last `open`.

        Args:
            source: the path of an age file, or a stream of its bytes.

        Raises:
            UnsealFailed: the program was not opened, the key is wrong, or the data is damaged.
            OSError: the file cannot be read.
        """
        return self._localized(lambda: self._unseal(source))

    def _unseal(self, source: str | os.PathLike[str] | BinaryIO) -> bytes:
        data_key = self._state.data_key
        if data_key is None:
            raise UnsealFailed("call open() first; it must be accepted")
        sealed = Path(source).read_bytes() if isinstance(source, (str, os.PathLike)) else source.read()
        return sealing.unseal(sealed, data_key)

    def _ask(
        self,
        function: str,
        key_pair: sealing.KeyPair | None,
        *,
        path: str = "/v1/verify",
        arguments: dict[str, Any] | None = None,
    ) -> Verdict:
        hardware = self._machine()
        begun = self._state.baseline(hardware)
        public_key = key_pair.public_key if key_pair else None

        def attempt() -> tuple[VerificationRequest, str]:
            # A new nonce for each try: a late answer to an earlier try must not count for this one.
            request = VerificationRequest(self._card_id, hardware, function, public_key, arguments=arguments)
            body = request.body()
            answer = self._transport.exchange(path, body, self._language)
            return request.sent_as(body), token_from(answer)

        request, token = self._with_retries(attempt if arguments is None else execution.at_most_once(attempt))
        self._learned.load(hardware)
        if key_id(token) not in self._keys:
            self._keys.learn(self._with_retries(self._fetch_key_set))
            self._learned.load(hardware)  # the keys may lead to its floor now
        verdict = verify_verdict(token, request, self._keys, key_pair)
        self._learned.saw(token, hardware)
        verdict = self._state.record(token, request, key_pair, verdict, begun)
        if not verdict.accepted:
            raise rejection_error(verdict.code, verdict.reference, self._language)
        return verdict

    def _machine(self) -> str:
        if self._hardware is None:
            self._hardware = machine_string(self._program)
        return self._hardware

    def _fetch_key_set(self) -> bytes:
        return execution.after_sending(
            lambda: key_set_from(self._transport.exchange("/.well-known/jwks.json", None, self._language))
        )

    def _with_retries(self, attempt: Callable[[], _Result]) -> _Result:
        tries_made = 0
        while True:
            tries_made += 1
            try:
                return attempt()
            except ServerUnreachable as failure:
                self._retry_policy.wait_after(failure, tries_made)

    def _localized(self, work: Callable[[], _Result]) -> _Result:
        """Translate the messages of errors into this client's language."""
        try:
            return work()
        except KadunError as error:
            error.speak(self._language)
            raise
