"""python -m bench.tls: starts of programs through nginx, each a new connection over TLS with one verification."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from bench import report, wrk
from bench.cards import CardTable
from bench.command import Plan, parse_plan, require, run, say
from bench.errors import BenchError
from bench.gunicorn import CONNECTIONS
from bench.nginx import Nginx
from bench.process_usage import OtherPrograms
from bench.report import Figures
from bench.service import host
from tests.support import nginx_conf
from trial.stopping import Stopping

_CARDS = 1_000
_CONNECTIONS = 32  # nginx lets one address have 50 requests under way
_NEW_CONNECTIONS = 3
_VERSIONS = ("1.3", "1.2")
_WARM_UP_SECONDS = 1
_FIRST_SHARE = 0.05
# The groups that clients share with nginx: without them wrk's OpenSSL computes one more, which nginx does not take.
_OPENSSL = """
openssl_conf = openssl
[openssl]
ssl_conf = ssl
[ssl]
system_default = client
[client]
MinProtocol = TLSv{version}
MaxProtocol = TLSv{version}
Groups = X25519:prime256v1
"""


class Bench:
    """A service behind two nginx, one that resumes TLS sessions and one that does not.

    Args:
        plan: What to measure.
        folder: Takes wrk's configurations.
        table: The service's cards.
        gateways: The two, by whether they resume.
    """

    def __init__(self, plan: Plan, folder: Path, table: CardTable, gateways: Mapping[bool, Nginx]) -> None:
        self._plan = plan
        self._table = table
        self._gateways = gateways
        self._openssl = {version: folder / f"openssl-{version}.cnf" for version in _VERSIONS}
        for version, file in self._openssl.items():
            file.write_text(_OPENSSL.format(version=version))

    def warm_up(self) -> None:
        """Start some programs, and make sure that sessions are resumed where they are said to be.

        Raises:
            BenchError: they are not, or elsewhere, too.
        """
        say("warming up …")
        for resumes, gateway in self._gateways.items():
            for version in _VERSIONS:
                before = len(gateway.resumed())
                self._load(f"{gateway.static_url}/resumption", version, _WARM_UP_SECONDS)
                self._load(f"{gateway.url}/v1/verify", version, _WARM_UP_SECONDS)
                resumed = gateway.resumed()[before:]
                if sum(said != resumes for said in resumed) > len(resumed) * _FIRST_SHARE + _CONNECTIONS:
                    raise BenchError(f"of {len(resumed)} connections by TLS {version}, {sum(resumed)} were resumed")

    def measure(self) -> Iterator[Figures]:
        """Yield what each round measured."""
        for turn in range(self._plan.rounds):
            say(f"round {turn + 1} of {self._plan.rounds} …")
            figures = {}
            for version in _VERSIONS:
                for resumes, gateway in self._gateways.items():
                    answer = f"{gateway.static_url}/static-answer"
                    static = self._load(answer, version, self._plan.seconds).per_second
                    starts = self._starts(gateway, version)
                    how = "resumed" if resumes else "complete"
                    figures[f"TLS {version}, {how} handshakes, each on a new connection"] = {
                        "starts/s": starts,
                        "nginx's own answer, requests/s": static,
                        "ratio (aim >= 0.6)": starts / static,
                    }
            figures["connections kept open, TLS 1.3"] = {"V  verifications/s": self._kept()}
            yield figures

    def _starts(self, gateway: Nginx, version: str) -> float:
        before = self._table.accepted()
        load = self._load(f"{gateway.url}/v1/verify", version, self._plan.seconds)
        if self._table.accepted() - before < load.requests:
            raise BenchError("not all starts were accepted")
        return load.per_second

    def _kept(self) -> float:
        """Return the best of some runs, as bench.subject does and for its reason."""
        url = f"{self._gateways[True].url}/v1/verify"
        runs = [self._load(url, "1.3", self._plan.seconds, fresh=False) for _ in range(_NEW_CONNECTIONS)]
        return max(load.per_second for load in runs)

    def _load(self, url: str, version: str, seconds: int, *, fresh: bool = True) -> wrk.Load:
        questions = wrk.Questions(0, _CARDS, fresh=fresh)
        connections, openssl = _CONNECTIONS if fresh else CONNECTIONS, str(self._openssl[version])
        return wrk.run(url, questions, connections=connections, seconds=seconds, openssl=openssl)


def main() -> int:
    """Run the measurements; return the exit status."""
    plan = parse_plan("--tls", "Measures starts of programs through nginx over TLS.", quick_rounds=1)
    return run(lambda stopping: _measure(plan, stopping))


def _measure(plan: Plan, stopping: Stopping) -> list[str]:
    require("wrk", "nginx", "openssl")
    with host(stopping, cards=_CARDS, is_bound=True) as here:
        print(f"{report.machine(here.binaries)}\nnginx {nginx_conf.version()}", flush=True)
        socket, files = here.folder / "app.sock", here.folder / "files"
        with (
            here.service(socket, KADUN_BEHIND_PROXY="true"),
            Nginx(here.folder / "nginx-1", socket, files) as resuming,
            Nginx(here.folder / "nginx-2", socket, files, resumes=False) as complete,
        ):
            bench = Bench(plan, here.folder, here.table, {True: resuming, False: complete})
            bench.warm_up()
            others = OtherPrograms()
            rounds = list(bench.measure())
            certificate = f"certificate: ECDSA P-256; {_CONNECTIONS} connections at once"
            return [others.line(), "", plan.heading(), certificate, *report.figures(rounds)]


if __name__ == "__main__":
    sys.exit(main())
