"""Requests to a running service (stop, stop at once, retry), as lines in a file.

The service creates the file when it starts. On a network file system, a host may
remember for a minute that a file was missing, but it sees new lines when it opens one:
see nfs(5).
"""

import contextlib
import secrets
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tigerflow.files import append_to, open_regular, read_regular

#: More bytes than the answers of one service have.
_ANSWERS_LIMIT = 1 << 20

_REQUESTS, _ANSWERS = "requests", "answers"


class Request(StrEnum):
    """What can be asked."""

    #: To finish the files in progress, and end.
    STOP = "stop"
    #: To give up the files in progress, kill all workers, and end.
    STOP_AT_ONCE = "stop-at-once"
    #: To take up files whose errors are gone.
    RETRY = "retry"


@dataclass(frozen=True)
class Asked:
    """A request, and what it is answered by."""

    request: Request
    number: str


class Requests:
    """Those to the service of one run directory, which reads them."""

    def __init__(self, state: Path) -> None:
        """Read those in the state directory of a run."""
        self._path = state / _REQUESTS
        self._answers = state / _ANSWERS
        self._read = 0

    def begin(self) -> None:
        """Obey what is asked from now on; what an earlier service was asked is over.

        Raises:
            OSError: the files cannot be made.
        """
        with append_to(self._path) as file:
            self._read = file.tell()
        append_to(self._answers).close()

    def take(self) -> list[Asked]:
        """Return what has been asked since the last time."""
        try:
            with open(self._path, "rb", buffering=0, opener=open_regular) as file:
                file.seek(self._read)
                data = file.read()
        except OSError:
            # The file server does not answer just now: there is a next look.
            return []
        whole, newline, _ = data.rpartition(b"\n")
        self._read += len(whole) + len(newline)
        asked = []
        for line in whole.decode("ascii", "replace").splitlines():
            word, _, number = line.partition(" ")
            # A newer version may ask for more.
            with contextlib.suppress(ValueError):
                asked.append(Asked(Request(word), number))
        return asked

    def answer(self, asked: Asked) -> None:
        """Tell who has asked that it is being done."""
        # Where that cannot be stored, they say that they had no answer.
        with contextlib.suppress(OSError), append_to(self._answers) as file:
            file.write(f"{asked.number}\n".encode("ascii"))


def ask(state: Path, request: Request) -> str:
    """Ask something of the service of a run; return the request's number.

    Raises:
        OSError: that cannot be stored.
    """
    number = secrets.token_hex(6)
    with append_to(state / _REQUESTS) as file:
        file.write(f"{request} {number}\n".encode("ascii"))
    return number


def is_answered(state: Path, number: str) -> bool:
    """Tell whether the service does what it was asked."""
    try:
        return number in read_regular(state / _ANSWERS, _ANSWERS_LIMIT)[0].split()
    except OSError:
        return False
