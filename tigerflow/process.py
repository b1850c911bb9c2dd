"""Signals: the first asks to stop, the second stops at once."""

import os
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

from tigerflow.tasks.execution import Interrupted

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """Turns SIGINT, SIGTERM and SIGHUP into calls, while it is entered.

    A thread reads the numbers that Python's C-level handler writes, so that a stop is
    noticed also while the main thread is busy in a library that never comes back to
    Python code.
    """

    def __init__(
        self,
        on_first: Callable[[int], None],
        on_second: Callable[[int], None],
    ) -> None:
        """Call `on_first` with the first signal's number, `on_second` with the next.

        Both run in a thread of their own. After `on_second` the process ends at once
        with 128 + the signal's number.
        """
        self._on_first = on_first
        self._on_second = on_second
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)  # noqa: FBT003 -- not ours to name
        self._previous: dict[signal.Signals, object] = {}
        #: While True, the first signal also raises Interrupted in the main thread.
        self.interrupting = False
        #: Number of the first signal, or None.
        self.received: int | None = None

    def __enter__(self) -> Self:
        self._wakeup = signal.set_wakeup_fd(
            self._writer.fileno(),
            warn_on_full_buffer=False,
        )
        for number in STOP_SIGNALS:
            previous = signal.getsignal(number)
            # Started under nohup: a hang-up is none of our business.
            if number is signal.SIGHUP and previous is signal.SIG_IGN:
                continue
            self._previous[number] = previous
            signal.signal(number, self._handle)
        os.register_at_fork(
            before=self._hold_signals,
            after_in_parent=self._release_signals,
            after_in_child=self._leave_to_parent,
        )
        threading.Thread(target=self._watch, name="signals", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()
        self._writer.close()

    # In a child that `run` forks, signals do what they did before. Otherwise
    # `multiprocessing` could not end its children, and each try would look like a
    # signal to this process, because they share its socket.

    def _leave_to_parent(self) -> None:
        if self._previous:
            self._restore()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def _hold_signals(self) -> None:
        # A signal may be sent before the child has run at all.
        if self._previous:
            signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)

    def _release_signals(self) -> None:
        if self._previous:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type] # what getsignal gave
        self._previous.clear()
        signal.set_wakeup_fd(self._wakeup)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.interrupting:
            self.interrupting = False
            raise Interrupted(number)

    def _watch(self) -> None:
        while numbers := self._reader.recv(16):
            for number in numbers:
                if number not in STOP_SIGNALS:
                    continue
                if self.received is None:
                    self.received = number
                    self._on_first(number)
                elif number != signal.SIGHUP or self.received != signal.SIGHUP:
                    # A terminal that closes may hang up twice, once for its shell.
                    try:
                        self._on_second(number)
                    finally:
                        os._exit(128 + number)
        self._reader.close()
