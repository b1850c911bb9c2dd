"""The processes that a task's code starts: none of them is the worker.

A forked child is a copy of the worker, with its signal handlers, its sockets and, above
the task's code, its loop over the files. It must have none of these.
"""

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Generator, Mapping
from types import FrameType, TracebackType
from typing import Any, NoReturn

from tigerflow.tasks.tracebacks import user_frames

Handler = Callable[[int, FrameType | None], Any]


class OwnHandlers:
    """Signal handlers of this process alone.

    A forked child has the previous ones from the start. Otherwise `multiprocessing`
    could not end its children: they would take its SIGTERM for a request to the worker.

    Handlers are functions, never SIG_IGN, which the programs that a task starts would
    inherit.
    """

    def __init__(self) -> None:
        """Have none yet."""
        self._previous: dict[signal.Signals, Any] = {}
        self._masks = threading.local()
        os.register_at_fork(
            before=self._hold_signals,
            after_in_parent=self._release_signals,
            after_in_child=self._leave_to_parent,
        )

    def set(self, handlers: Mapping[signal.Signals, Handler]) -> None:
        """Handle these signals; for the main thread."""
        for number, handler in handlers.items():
            self._previous.setdefault(number, signal.getsignal(number))
            signal.signal(number, handler)

    def restore(self) -> None:
        """Put back the handlers that were there before."""
        for number, handler in self._previous.items():
            # None: it was not set by Python.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous.clear()

    def _hold_signals(self) -> None:
        # A signal may be sent before the child has run at all.
        signals = self._previous.keys()
        self._masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def _release_signals(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.before)

    def _leave_to_parent(self) -> None:
        self.restore()
        self._release_signals()


def keep_from_children(descriptor: int) -> None:
    """Close a descriptor in children: others wait until no process has it any more.

    It must stay open here for as long as this process lives.
    """

    def let_go() -> None:
        # Its number stays taken: objects in the child still refer to it.
        with open(os.devnull, "r+b", buffering=0) as nothing:  # noqa: PTH123 -- no path here
            os.dup2(nothing.fileno(), descriptor, inheritable=False)

    os.register_at_fork(after_in_child=let_go)


def heed_interrupts() -> None:
    """Let the programs that this process starts be interrupted.

    They would inherit that SIGINT is ignored, as in what a script runs with `&`.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class TaskCall:
    """Wraps a call of the task's code; a child forked in it ends where the call does.

    It ends as a program does: with the code of its `sys.exit`, or a traceback.
    """

    def __enter__(self) -> None:
        """Remember which process makes the call."""
        self._pid = os.getpid()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End a child."""
        if os.getpid() != self._pid:
            _end_child(value)


class TaskSteps:
    """Awaits the task's coroutine; a child forked in a step of it ends with the step.

    It has no event loop: the one it would go on with is shared with the worker.
    """

    def __init__(self, coroutine: Awaitable[Any]) -> None:
        """Await `coroutine` in place of it."""
        self._steps: Any = coroutine.__await__()

    def __await__(self) -> Generator[Any, Any, Any]:
        """Return the steps: this object itself."""
        return self

    def __iter__(self) -> "TaskSteps":
        """Return itself."""
        return self

    def __next__(self) -> Any:
        """Take a step."""
        return self.send(None)

    def send(self, value: Any) -> Any:
        """Take a step with the result of the one before."""
        return self._step(self._steps.send, value)

    def throw(self, *error: Any) -> Any:
        """Take a step with an exception."""
        return self._step(self._steps.throw, *error)

    def close(self) -> None:
        """Give up the coroutine."""
        self._steps.close()

    def _step(self, step: Callable[..., Any], *arguments: Any) -> Any:
        with TaskCall():
            pid = os.getpid()
            try:
                awaited = step(*arguments)
            except StopIteration:
                # The coroutine has returned.
                if os.getpid() != pid:
                    _end_child(None)
                raise
            if os.getpid() != pid:
                msg = "a child process that a coroutine has forked cannot await"
                raise RuntimeError(msg)
            return awaited


def _end_child(error: BaseException | None) -> NoReturn:
    code = 0
    if isinstance(error, SystemExit):
        code = _exit_code(error)
    elif error is not None:
        code = 1
        trace = user_frames(error.__traceback__) or error.__traceback__
        traceback.print_exception(type(error), error, trace)
    flush_prints()
    # Not by sys.exit: what the worker does at its own end is not for a child.
    os._exit(code)


def _exit_code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)  # noqa: T201 -- as Python does at the end of a program
    return 1


def flush_prints() -> None:
    """Write what was printed, if somebody reads it."""
    for stream in (sys.stdout, sys.stderr):
        # Python has None for one that was closed before the start.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


# A child would write once more what was printed before it was forked.
os.register_at_fork(before=flush_prints)
