"""Pretended hosts: each with a host name and process ids of its own."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

#: More than anything here takes, on a machine that does much else.
DEADLINE_S = 240

_INIT = Path(__file__).with_name("namespace_init.py")
_NAMESPACE = ["unshare", "--fork", "--kill-child", "--pid", "--mount-proc", "--uts"]

#: A shell that leaves a command in the background, with its output in a file.
_LEAVE = ["sh", "-c", 'log=$1; shift; setsid "$@" </dev/null >>"$log" 2>&1 &', "sh"]


class ClusterError(Exception):
    """Something of the cluster does not work."""


class Host:
    """A host of the cluster in `directory`; what runs on it ends with it."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self._directory = directory

    @property
    def pid(self) -> int | None:
        """The id of its process 1; None when it does not run."""
        found = _processes_of(self._directory, self.name)
        return next((pid for pid, program in found if program == sys.executable), None)

    def start(self) -> None:
        """Start it; it can be used when it is up."""
        # It is found again by its command line: there is no moment when it cannot be.
        init = [sys.executable, "-I", "-S", _INIT, self._directory, self.name]
        run(*_LEAVE, self._directory / "log" / self.name, *_NAMESPACE, *init)

    def until_up(self) -> None:
        wait_until(self._is_up, f"host {self.name} is up")

    def kill(self) -> None:
        """End it, and all that runs on it, as a loss of power does."""
        kill_hosts(self._directory, self.name)

    def run(self, *command: object, **more: Any) -> str:
        """Run a command on it to its end; return what it printed."""
        target = ["nsenter", "--target", self.pid, "--pid", "--mount", "--uts"]
        return run(*target, *command, **more)

    def start_daemon(self, *command: object, env: Mapping[str, str]) -> None:
        """Start a command that stays in the foreground, and leave it alone."""
        log = self._directory / "log" / f"{self.name}.{command[0]}"
        self.run(*_LEAVE, log, *command, env=env)

    def runs(self, program: str) -> bool:
        """Tell whether a daemon of this name runs on it."""
        return self.pid is not None and succeeds(self.run, "pgrep", "-x", program)

    def signal(self, program: str, name: str) -> None:
        """Send a signal to the daemon of this name."""
        self.run("pkill", f"-{name}", "-x", program)

    def _is_up(self) -> bool:
        return self.pid is not None and self.run("hostname").strip() == self.name


def can_make_hosts() -> bool:
    """Tell whether we may: in a container, for one, root may not do all."""
    return succeeds(run, *_NAMESPACE, "true")


def kill_hosts(directory: Path, name: str | None = None) -> None:
    """End the hosts of a cluster, whoever started them; or the one of this name."""
    while found := list(_processes_of(directory, name)):
        for pid, _program in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)


def run(*command: object, **more: Any) -> str:
    """Run a command; return what it printed.

    Raises:
        ClusterError: it failed; with what it said.
    """
    words = list(map(str, command))
    done = subprocess.run(
        words,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        timeout=DEADLINE_S,
        **({"input": ""} | more),
    )
    if done.returncode != 0:
        msg = f"{' '.join(words)} ended with {done.returncode}: {done.stdout}"
        raise ClusterError(msg)
    return done.stdout


def succeeds(call: Callable[..., object], *arguments: object) -> bool:
    """Tell whether a call raises no ClusterError."""
    try:
        call(*arguments)
    except ClusterError:
        return False
    return True


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """Return the condition's value once it is true."""
    end = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        if time.monotonic() > end:
            msg = f"still not true: {what}"
            raise ClusterError(msg)
        time.sleep(0.02)
    return value


def _processes_of(directory: Path, name: str | None) -> Iterator[tuple[int, str]]:
    """Find hosts' first processes, and those that start them; ids and programs."""
    wanted = [str(_INIT), str(directory)] + ([] if name is None else [name])
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_text(errors="replace").split("\0")
            if words[-4:][: len(wanted)] == wanted and _is_alive(path.parent):
                yield int(path.parent.name), words[0]


def _is_alive(process: Path) -> bool:
    state = (process / "stat").read_text().rpartition(")")[2].split()[0]
    return state not in "ZX"
