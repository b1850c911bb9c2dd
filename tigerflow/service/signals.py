"""Signals: the first asks to stop, the second stops at once."""

import asyncio
import contextlib
import os
import signal
import socket
import threading
import traceback
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

from tigerflow.tasks.children import OwnHandlers
from tigerflow.tasks.execution import Interrupted

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

#: How long a loop is waited for that hangs: it makes nothing meanwhile.
HOLD_S = 5.0


#: How long a service that starts is waited for: only when it is up is it known what it
#: has made. It may take longer, when it waits for others.
START_S = 5.0


class Start:
    """The start of a service, as seen by the thread that ends it at once."""

    def __init__(self) -> None:
        """Nothing is made yet."""
        self._has_begun = False
        self._is_over = threading.Event()

    def begin(self) -> None:
        """Note that from now on things are made."""
        self._has_begun = True

    def end(self) -> None:
        """Note that what was made can be removed by others."""
        self._is_over.set()

    def wait(self) -> None:
        """Let a start that has begun come to its end."""
        if self._has_begun:
            self._is_over.wait(START_S)


def hold(loop: asyncio.AbstractEventLoop) -> None:
    """Have a loop do nothing more, for this process ends at once; from another thread.

    What is removed after this stays removed. The loop stops between two callbacks: it
    holds no lock there, and knows all that it has made.
    """
    is_held = threading.Event()

    def wait() -> None:
        is_held.set()
        threading.Event().wait()

    # One that is closed makes nothing more.
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(wait)
        is_held.wait(HOLD_S)


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
        self._is_entered = False
        # Before the signals reach a child: its socket is that of this process.
        os.register_at_fork(after_in_child=self._forget_socket)
        self._handlers = OwnHandlers()
        #: While True, the first signal also raises Interrupted in the main thread.
        self.interrupting = False
        #: Number of the first signal, or None.
        self.received: int | None = None

    def __enter__(self) -> Self:
        self._wakeup = signal.set_wakeup_fd(
            self._writer.fileno(),
            warn_on_full_buffer=False,
        )
        # Started under nohup: a hang-up is none of our business.
        is_ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        spared = {signal.SIGHUP} if is_ignored else set()
        self._handlers.set({n: self._handle for n in STOP_SIGNALS if n not in spared})
        self._is_entered = True
        threading.Thread(target=self._watch, name="signals", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._handlers.restore()
        self._is_entered = False
        signal.set_wakeup_fd(self._wakeup)
        self._writer.close()

    def _forget_socket(self) -> None:
        if self._is_entered:
            signal.set_wakeup_fd(-1)

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
                    try:
                        self._on_first(number)
                    except Exception:  # noqa: BLE001 -- the next signal must be heard
                        traceback.print_exc()
                elif number != signal.SIGHUP or self.received != signal.SIGHUP:
                    # A terminal that closes may hang up twice, once for its shell.
                    try:
                        self._on_second(number)
                    finally:
                        os._exit(128 + number)
        self._reader.close()
