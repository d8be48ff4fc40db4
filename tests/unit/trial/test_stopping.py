import os
import signal
from collections.abc import Iterator

import pytest

from trial.stopping import Stopping, StopRequested

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in SIGNALS}
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored where the tests themselves run under nohup
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_each_way_to_ask_is_heard(number: signal.Signals) -> None:
    Stopping()
    with pytest.raises(StopRequested):
        os.kill(os.getpid(), number)


def test_asking_again_does_not_disturb_the_stopping() -> None:
    Stopping()
    with pytest.raises(StopRequested):
        os.kill(os.getpid(), signal.SIGINT)
    os.kill(os.getpid(), signal.SIGINT)


def test_a_start_under_way_is_finished_first() -> None:
    stopping, finished = Stopping(), []

    def start() -> None:
        with stopping.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            finished.append("start")

    with pytest.raises(StopRequested):
        start()
    assert finished


def test_a_start_that_failed_tells_why_even_so() -> None:
    stopping = Stopping()

    def fail() -> None:
        with stopping.deferred():
            os.kill(os.getpid(), signal.SIGTERM)
            raise ValueError("why")

    with pytest.raises(ValueError, match="why"):
        fail()


def test_hanging_up_on_nohup_changes_nothing() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    Stopping()
    os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
