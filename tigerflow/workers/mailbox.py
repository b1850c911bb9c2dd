"""Exchange messages in files, between hosts that share nothing but a file system.

A mailbox is a directory that only its owner may enter. Its `inbox` has the messages of
the pool and its `outbox` those of the worker, one JSON message per line. Each file has
one writer, which opens it, appends whole lines and closes it; its reader opens it again
for each look. So the close-to-open consistency of nfs(5) is enough: nothing is locked,
and no directory is listed.
"""

import contextlib
import os
import pwd
import shutil
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from tigerflow.files import append_to, see_anew, write_over
from tigerflow.log import logger
from tigerflow.rundir.layout import (
    MAILBOX_EXIT,
    MAILBOX_INBOX,
    MAILBOX_LOG,
    MAILBOX_OUTBOX,
    MAILBOX_PULSE,
    MAILBOXES,
    PULSE,
    exit_text,
    job_begun,
)
from tigerflow.workers.protocol import Message, decode, encode
from tigerflow.workers.pulse import Pulse

_FILES = (MAILBOX_INBOX, MAILBOX_OUTBOX, MAILBOX_LOG, MAILBOX_PULSE, MAILBOX_EXIT)

#: Seconds to wait before a message that could not be stored is tried again.
STORAGE_PAUSE_S = 2.0

#: Held while one worker's prints are appended to the log of its task.
_KEEPING = threading.Lock()


class Sender:
    """Appends messages to one file."""

    def __init__(self, path: Path) -> None:
        """Append to `path`; nobody else does."""
        self._path = path
        self._unsent = b""

    def post(self, message: Message) -> None:
        """Add a message to those that `flush` sends."""
        self._unsent += encode(message)

    def flush(self) -> None:
        """Send what is unsent; keep what a full disk does not take for the next time.

        Raises:
            OSError: not everything could be sent.
        """
        if not self._unsent:
            return
        with self._path.open("ab", buffering=0) as file:
            while self._unsent:
                taken = file.write(self._unsent)
                self._unsent = self._unsent[taken:]


class Receiver:
    """Reads the messages that somebody appends to one file."""

    def __init__(self, path: Path) -> None:
        """Read `path` from its start; it need not exist yet."""
        self._path = path
        self._read = 0

    def receive(self) -> list[Message]:
        """Return the messages that came since the last look; none if there are none.

        A last line that is incomplete is left for the next look.
        """
        try:
            with self._path.open("rb", buffering=0) as file:
                file.seek(self._read)
                data = file.read()
        except OSError:
            # Not there yet, or the file server does not answer: the next look will see.
            return []
        whole, newline, _ = data.rpartition(b"\n")
        self._read += len(whole) + len(newline)
        return [*self._decode(whole.splitlines())]

    def _decode(self, lines: Sequence[bytes]) -> Iterator[Message]:
        for line in lines:
            try:
                yield decode(line)
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                # Torn by a full disk, perhaps; those after it are whole.
                logger.warning("{} contains a line that is not a message", self._path)


def make_mailbox(path: Path) -> None:
    """Make a mailbox, and the directories above it, that only their owner may enter."""
    _make_private(path.parents[2], exist_ok=True)
    _make_private(path.parents[1], exist_ok=True)
    _make_private(path.parent, exist_ok=True)
    _make_private(path)
    for name in _FILES:
        (path / name).touch(mode=0o600)
        # The umask may have removed bits.
        (path / name).chmod(0o600)
    # A reader must not wait for a name to appear: see `tigerflow.rundir.requests`.
    write_over(path / MAILBOX_EXIT, exit_text(""))
    Pulse(path / MAILBOX_PULSE).beat()


def owner_of_others(run_dir: Path) -> str | None:
    """Return who owns a run directory's mailboxes, unless this user may use them."""
    try:
        uid = (run_dir / MAILBOXES).stat().st_uid
    except OSError:
        return None
    if os.geteuid() in {uid, 0}:
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def remove_empty_mailboxes(run_dir: Path) -> None:
    """Remove directories without a mailbox: another user may run here next."""
    place = run_dir / MAILBOXES
    with contextlib.suppress(OSError):
        (run_dir / PULSE).unlink()
    for directory in [*place.glob("*"), place]:
        # One that is not empty has mailboxes of jobs that may still run.
        with contextlib.suppress(OSError):
            directory.rmdir()


def _make_private(path: Path, *, exist_ok: bool = False) -> None:
    path.mkdir(parents=True, exist_ok=exist_ok)
    path.chmod(0o700)


def exit_code(mailbox: Path) -> int | None:
    """Return the worker's exit code, as `Popen.returncode`; None while it lives."""
    try:
        return int((mailbox / MAILBOX_EXIT).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def has_begun(job: Path) -> bool:
    """Return whether a job of workers has begun, on whatever host."""
    return see_anew(job_begun(job))


def keep_prints(mailbox: Path, log: Path) -> None:
    """Append what a worker has printed to its task's log, if there is room."""
    with contextlib.suppress(OSError), _KEEPING:
        log.parent.mkdir(parents=True, exist_ok=True)
        with (mailbox / MAILBOX_LOG).open("rb") as printed, append_to(log) as target:
            shutil.copyfileobj(printed, target)
