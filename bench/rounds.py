"""The rounds: everything is set up once, then measured in turns, several times."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path

from bench import process_usage
from bench.cards import noon_zone
from bench.code import Code
from bench.command import say
from bench.errors import BenchError
from bench.report import Figures
from bench.service import compose_settings, make_secrets
from bench.subject import Host, Plan, Subject
from trial.postgres import EmbeddedPostgres
from trial.stopping import Stopping

_MAX_CONNECTIONS = "300"  # each subject has several services


class Bench:
    """One PostgreSQL, and the services of one checkout or of two beside it.

    Args:
        folder: Takes all that is made.
        binaries: PostgreSQL's programs.
        plan: What to measure.
        codes: Whose services.
    """

    def __init__(self, folder: Path, binaries: Path, plan: Plan, codes: Sequence[Code]) -> None:
        self._plan = plan
        settings = compose_settings() | {"max_connections": _MAX_CONNECTIONS}
        self._postgres = EmbeddedPostgres(binaries, folder / "cluster", settings=settings)
        host = Host(folder, self._postgres, noon_zone(datetime.now(UTC)))
        self._subjects = [Subject(code, number, host, plan) for number, code in enumerate(codes)]
        self._folder = folder

    @contextmanager
    def running(self, stopping: Stopping) -> Iterator[None]:
        """Set everything up; take it down again, however the block ends."""
        make_secrets(self._folder)
        with ExitStack() as stack:
            stack.callback(self._postgres.stop)
            with stopping.deferred():
                self._postgres.start()
            for subject in self._subjects:
                subject.start(stack)
            yield

    def measure(self) -> Iterator[list[Figures]]:
        """Yield what each round measured of each checkout: each figure of one right after the other's."""
        for number in range(self._plan.rounds):
            say(f"round {number + 1} of {self._plan.rounds} …")
            order = self._subjects if number % 2 == 0 else self._subjects[::-1]
            measured: dict[Subject, dict[str, dict[str, float]]] = {subject: {} for subject in self._subjects}
            for pieces in zip(*(subject.measure() for subject in order), strict=True):
                for subject, piece in zip(order, pieces, strict=True):
                    measured[subject].setdefault(piece.section, {}).update(piece.figures)
            yield [measured[subject] for subject in self._subjects]

    def postgresql_pss_mib(self) -> int:
        """Return the memory of PostgreSQL, with the connections of all services."""
        if self._postgres.pid is None:
            raise BenchError("PostgreSQL has ended")
        return process_usage.pss_mib(self._postgres.pid)
