"""The fork server: a process with Snakemake imported, whose children run it.

Snakemake's imports take a second. A child that is forked has them at once, and ends
with what it did, so that nothing leaks from one to the next.
"""

import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable
from multiprocessing import connection, forkserver, util
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tigerflow.files import open_as_private
from tigerflow.shortage import is_shortage


class ForkError(Exception):
    """A child could not be started just now."""

    @property
    def is_shortage(self) -> bool:
        """Whether the system is short of what the child needs."""
        return self.__cause__ is not None and is_shortage(self.__cause__)


class Forks:
    """Starts children of a fork server; there is one in a process."""

    def __init__(self, scratch: Path) -> None:
        """Keep the server's socket in the directory `scratch`, which is ours."""
        self._scratch = scratch
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["tigerflow.engine.preload"])

    def __enter__(self) -> Self:
        """Start the server, which imports Snakemake while other things happen."""
        _keep_current_directory_out()
        shutil.rmtree(self._scratch, ignore_errors=True)
        self._scratch.mkdir(mode=0o700)
        # No public way: by default it makes a directory that a SIGKILL would leave.
        config = multiprocessing.current_process()._config  # type: ignore[attr-defined] # noqa: SLF001
        config["tempdir"] = str(self._scratch)
        # One that cannot be started just now is started with its first child.
        with contextlib.suppress(OSError):
            forkserver.ensure_running()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the server; its children have ended."""
        # No public way: it ends by itself with this process, but others wait for that.
        with contextlib.suppress(OSError):
            forkserver._forkserver._stop()  # type: ignore[attr-defined] # noqa: SLF001
        shutil.rmtree(self._scratch, ignore_errors=True)

    def start(
        self, target: Callable[..., None], arguments: tuple[Any, ...], name: str
    ) -> BaseProcess:
        """Start a child; its `sentinel` is ready at its end.

        Raises:
            ForkError: the server just died, or no process can be made.
        """
        self._renew()
        process = self._context.Process(target=target, args=arguments, name=name)
        try:
            process.start()
        except (OSError, EOFError) as error:
            msg = f"cannot start a {name}: {error!r}"
            raise ForkError(msg) from error
        return process

    def _renew(self) -> None:
        """Have another server when a cleaner of /tmp has taken the socket of this."""
        # No public way.
        server: Any = forkserver._forkserver  # noqa: SLF001
        address = server._forkserver_address  # noqa: SLF001
        if address is None or Path(address).exists():
            return
        # By itself it would only end with its children.
        kill(server._forkserver_pid)  # noqa: SLF001
        # At last, it fails to remove the socket.
        with contextlib.suppress(OSError):
            server._stop()  # noqa: SLF001
        self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)

    def abandon(self) -> None:
        """Kill the server and wait for nothing: this process ends at once."""
        pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined] # noqa: SLF001
        if pid is not None:
            kill(pid)
        shutil.rmtree(self._scratch, ignore_errors=True)


def _keep_current_directory_out() -> None:
    """Have the Pythons that `multiprocessing` starts take no module from there.

    The server's is the run directory, where any file may be named as a module is.
    """
    # No public way. It returns what they get of this Python's own options.
    options = util._args_from_interpreter_flags  # type: ignore[attr-defined] # noqa: SLF001
    if "-P" not in (words := options()):
        util._args_from_interpreter_flags = lambda: [*words, "-P"]  # type: ignore[attr-defined] # noqa: SLF001


def kill(pid: int, signum: int = signal.SIGKILL) -> None:
    """Send a signal to a process, if it is still there."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signum)


def until_parent_ends() -> None:
    """In a child: wait for the end of the process that asked for it."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101 -- this is a child of it
    connection.wait([parent.sentinel])


def write_to(log: Path) -> None:
    """In a child: have all that it writes go to a log; end where that cannot be."""
    try:
        descriptor = open_as_private(str(log), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    except OSError as error:
        sys.exit(f"Cannot write to {str(log)!r}: {error.strerror}")
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
