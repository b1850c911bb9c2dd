"""What may be asked of a running service from any thread: snapshot, stop, kill."""

import asyncio
import contextlib
import os
import select
import time
from dataclasses import dataclass

from tigerflow.engine.forks import Forks
from tigerflow.engine.window import WindowRunner
from tigerflow.files import remove_temporaries_of
from tigerflow.rundir.layout import STATE
from tigerflow.rundir.lock import RunLock
from tigerflow.service.loop import Loop
from tigerflow.service.signals import hold
from tigerflow.service.snapshot import Snapshot, take_snapshot
from tigerflow.workers.dispatch.host import Host

#: How long processes that were killed are waited for; the kernel takes no time for it.
KILLED_S = 5.0


@dataclass(frozen=True)
class Controls:
    """What may be asked of a running service, from any thread."""

    #: Of asyncio, in whose thread `loop` runs.
    events: asyncio.AbstractEventLoop
    loop: Loop
    host: Host
    windows: WindowRunner
    forks: Forks
    lock: RunLock

    def snapshot(self) -> Snapshot:
        """Return how far it is; for the thread of the loop only."""
        return take_snapshot(self.loop, self.host)

    def stop(self) -> None:
        """Finish the files in progress, then end."""
        with contextlib.suppress(RuntimeError):
            self.events.call_soon_threadsafe(self.loop.stop)

    def kill(self) -> None:
        """End all workers and windows at once, so that the process can end too.

        For a thread of its own: the loop may hang. The files in progress stay undone.
        """
        # Otherwise it might start others, or make again what is removed here.
        hold(self.events)
        pids = [*self.windows.kill(), *self.host.kill()]
        _wait_for_ends(pids)
        for directory in self.loop.parts.plan.directories:
            for pid in pids:
                with contextlib.suppress(OSError):
                    remove_temporaries_of(directory, pid)
        # What the loop was storing, which may be at work still.
        remove_temporaries_of(STATE, os.getpid())
        for clean_up in (self.forks.abandon, self.host.abandon, self.lock.release):
            with contextlib.suppress(OSError):
                clean_up()


def _wait_for_ends(pids: list[int]) -> None:
    """Wait until processes that were killed are dead, though nobody may reap them."""
    deadline = time.monotonic() + KILLED_S
    for pid in pids:
        # Pythons that are built for old systems, as conda's are, cannot wait so.
        with contextlib.suppress(OSError, AttributeError):
            end = os.pidfd_open(pid)
            poll = select.poll()
            poll.register(end, select.POLLIN)
            poll.poll(max(0, deadline - time.monotonic()) * 1000)
            os.close(end)
