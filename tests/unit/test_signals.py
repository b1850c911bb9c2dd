import os
import signal
import threading

import pytest

from tigerflow.service.signals import STOP_SIGNALS, StopSignals
from tigerflow.tasks.execution import Interrupted

DEADLINE_S = 60


class Stops:
    """Remembers the signals it was told."""

    def __init__(self):
        self.told = []
        self.event = threading.Event()

    def __call__(self, number):
        self.told.append(number)
        self.event.set()


def never(number):
    pytest.fail(f"a second signal? {number}")


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_first_signal_is_reported_and_remembered(number):
    stops = Stops()

    with StopSignals(stops, never) as signals:
        os.kill(os.getpid(), number)
        assert stops.event.wait(DEADLINE_S)

    assert stops.told == [number]
    assert signals.received == number


def test_a_signal_raises_in_the_main_thread_only_while_asked_to():
    stops = Stops()

    with StopSignals(stops, never) as signals:
        signals.interrupting = True
        with pytest.raises(Interrupted) as interrupt:
            signal.raise_signal(signal.SIGTERM)
        assert stops.event.wait(DEADLINE_S)

    assert interrupt.value.args == (signal.SIGTERM,)
    assert not signals.interrupting


def test_handlers_are_put_back():
    before = [signal.getsignal(number) for number in STOP_SIGNALS]

    with StopSignals(never, never):
        assert [signal.getsignal(number) for number in STOP_SIGNALS] != before

    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


def test_a_hang_up_stays_ignored_under_nohup():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals(never, never) as signals:
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)

    assert signals.received is None


def test_a_forked_child_dies_of_a_signal_and_this_process_hears_nothing_of_it():
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with StopSignals(never, never) as signals:
            child = os.fork()
            if child == 0:
                signal.pause()
                os._exit(1)
            os.kill(child, signal.SIGTERM)
            _, status = os.waitpid(child, 0)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert os.waitstatus_to_exitcode(status) == -signal.SIGTERM
    assert signals.received is None
