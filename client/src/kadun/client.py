"""The client: sends requests, verifies the answers, and unseals the core data."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from kadun import messages, sealing, selfservice
from kadun.asking import Asker
from kadun.downloads import Downloader, Progress
from kadun.errors import KadunError, ServerUnreachable, UnsealFailed, UntrustedAnswer
from kadun.hardware import machine_string
from kadun.keys import PublicKeys, TrustedKeys
from kadun.offline import ClientState, Clock
from kadun.request import OPEN, checked_arguments, checked_version
from kadun.retries import RetryPolicy
from kadun.selfservice import CardStatus
from kadun.store import PLATFORM_FOLDER, StateDir, StateStore
from kadun.transport import HttpTransport, Transport
from kadun.verdict import Verdict


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
        version: str | None = None,
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
            version: the version of your program, dotted numbers: `1.4`. With it you can demand updates
                (`minimum_version` among the server's terms). Servers of release 1.0 refuse it.
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
        keys = TrustedKeys(public_keys)
        self._hardware = hardware
        self._timeout_seconds = timeout_seconds
        self._beating = threading.Lock()  # held during a beat, and by `unbind`
        self._program = program or keys.issuer
        place = (state_dir, self._program, keys.issuer)
        card = card_id.strip()
        self._asker = Asker(
            card_id=card,
            version=checked_version(version),
            language=language,
            transport=transport
            or HttpTransport(base_url, ca_file=ca_file, public_cas=public_cas, timeout_seconds=timeout_seconds),
            retry_policy=retry_policy or RetryPolicy(),
            state=ClientState(keys, StateStore(*place), StateStore(*place, card), clock),
        )

    def open(self) -> Verdict:
        """Ask the server to open the program (打开程序). Afterwards `unseal` works.

        If the server cannot be reached, or the answer is not the server's, the last accepted verdict for this card on
        this machine is used, if the vendor allows offline starts and their time is not over. Then the verdict is
        `offline`.

        Raises:
            CardRejected: the server rejects the card; show `message` to the customer. UpdateRequired: this version of
                the program is too old.
            ServerUnreachable: no answer arrived in time, or the server is busy.
            UntrustedAnswer: the answer is not the genuine server's, or not to this request.
            RequestRefused: the server refuses the request as malformed.
            HardwareUnknown: no `hardware` was given, and the system has no identifier.
        """
        with self._localized():
            try:
                return self._asker.ask(OPEN, self._machine(), sealing.KeyPair())
            except (ServerUnreachable, UntrustedAnswer) as failure:
                self._asker.state.load_keys(self._machine())
                return self._asker.state.offline_verdict(failure, self._asker.card_id, self._machine())

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
        with self._localized():
            return self._asker.ask(function, self._machine())

    def _beat(self, function: str, stopped: threading.Event) -> Verdict:
        """Do as `report`, but send nothing more once the event is set: neither retries nor the first request."""
        with self._beating, self._localized():
            return self._asker.until(stopped).ask(function, self._machine())

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
        with self._localized():
            return Downloader(self._asker, self._machine, on_progress).fetch(name, target)

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
        checked = checked_arguments(arguments)
        with self._localized():
            verdict = self._asker.ask(function, self._machine(), path="/v1/execute", arguments=checked)
            return verdict.claims.value("result")

    def unseal(self, source: str | os.PathLike[str] | BinaryIO) -> bytes:
        """Decrypt core data in memory, with the key of the last `open`.

        Args:
            source: the path of an age file, or a stream of its bytes.

        Raises:
            UnsealFailed: the program was not opened, the key is wrong, or the data is damaged.
            OSError: the file cannot be read.
        """
        with self._localized():
            data_key = self._asker.state.data_key
            if data_key is None:
                raise UnsealFailed("call open() first; it must be accepted")
            sealed = Path(source).read_bytes() if isinstance(source, (str, os.PathLike)) else source.read()
            return sealing.unseal(sealed, data_key)

    def renew(self, with_card: str) -> CardStatus:
        """Use up an unused card to add its validity to this one (续费), where the server's terms allow it.

        The answer is not signed: show it, then `open` or `report` as usual. The request is sent at most once. If its
        answer is lost (`ServerUnreachable.sent`), the expiry of the next verdict tells whether the card was renewed.

        Args:
            with_card: the unused card that the customer typed. Afterwards it is spent.

        Raises:
            SelfServiceRefused: the server refuses; `code` and `reason` say why. The other card stays as it was.
            ServerUnreachable, UntrustedAnswer, RequestRefused: as in `open`.
        """
        with self._localized():
            return selfservice.ask(self._asker, "renew", with_card_id=with_card.strip())

    def unbind(self) -> CardStatus:
        """Release the card from the machine that it is bound to (解绑), where the server's terms allow it.

        Stop a heartbeat before: any later request binds the card to this machine again. A beat in progress is waited
        for, at most `timeout_seconds`. What this machine stored for offline starts is forgotten; another machine keeps
        its own until `offline_until`. If the answer, which is not signed, is lost, ask again: that costs nothing.

        Raises:
            SelfServiceRefused: the server refuses; `next_unbind_at` says when the card may be unbound, if known.
            ServerUnreachable, UntrustedAnswer, RequestRefused, HardwareUnknown: as in `open`.
        """
        with self._localized():
            hardware = self._machine()
            waited = self._beating.acquire(timeout=self._timeout_seconds)
            try:
                status = selfservice.ask(self._asker, "unbind")
            finally:
                if waited:
                    self._beating.release()
            self._asker.state.forget_offline_start(hardware)
            return status

    def _machine(self) -> str:
        if self._hardware is None:
            self._hardware = machine_string(self._program)
        return self._hardware

    @contextmanager
    def _localized(self) -> Iterator[None]:
        try:
            yield
        except KadunError as error:
            error.speak(self._asker.language)
            raise
