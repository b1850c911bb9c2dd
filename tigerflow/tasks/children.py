"""End processes that a task forks before they act as the worker.

A forked child is a copy of the worker, with its signal handlers, its sockets and, above
the task's code, its loop over files. It must use none of these, so it ends when the
call of the task's code ends.
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
    """Signal handlers of this process, which forked children do not have.

    A child has the previous handlers from its start. Otherwise `multiprocessing` could
    not end its children: they would handle its SIGTERM as if they were the worker.

    Handlers are functions, never SIG_IGN, because programs that a task starts would
    inherit that.
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
        """Restore the previous handlers."""
        for number, handler in self._previous.items():
            # None means that Python did not set it.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous.clear()

    def _hold_signals(self) -> None:
        # A signal may arrive before the child has run any code.
        signals = self._previous.keys()
        self._masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)

    def _release_signals(self) -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, self._masks.before)

    def _leave_to_parent(self) -> None:
        self.restore()
        self._release_signals()


def keep_from_children(descriptor: int) -> None:
    """Close a descriptor in children, since others wait until no process has it open.

    It must stay open in this process until that ends.
    """

    def let_go() -> None:
        # The number must stay in use: objects in the child still refer to it.
        with open(os.devnull, "r+b", buffering=0) as nothing:  # noqa: PTH123 -- no path here
            os.dup2(nothing.fileno(), descriptor, inheritable=False)

    os.register_at_fork(after_in_child=let_go)


def heed_interrupts() -> None:
    """Let SIGINT interrupt programs that this process starts.

    They would ignore SIGINT if this process does, as when a script started it with `&`.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class TaskCall:
    """Wraps a call of the task's code; a child that is forked in it ends with the call.

    The child ends as a program does: with the code of its `sys.exit`, or a traceback.
    """

    def __enter__(self) -> None:
        """Note which process makes the call."""
        self._pid = os.getpid()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the process if it is a child."""
        if os.getpid() != self._pid:
            _end_child(value)


class TaskSteps:
    """Awaits the task's coroutine; a child that a step forks ends with that step.

    The child cannot use the event loop, which it shares with the worker.
    """

    def __init__(self, coroutine: Awaitable[Any]) -> None:
        """Take the steps of `coroutine`."""
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
        """Close the coroutine."""
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
                msg = "a child process that a coroutine forked cannot await"
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
    # Not sys.exit(), which would run the worker's own cleanup.
    os._exit(code)


def _exit_code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    if isinstance(error.code, int):
        return error.code & 0xFF
    print(error.code, file=sys.stderr)  # noqa: T201 -- as Python does at the end of a program
    return 1


def flush_prints() -> None:
    """Flush standard output and standard error, if they are open."""
    for stream in (sys.stdout, sys.stderr):
        # A stream that was closed before the start is None.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


# Otherwise a child would write, once more, what is in the buffers when it is forked.
os.register_at_fork(before=flush_prints)
