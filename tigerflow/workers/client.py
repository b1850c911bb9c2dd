"""Hand one file to its task's worker, wait, and exit: what a rule runs for each file.

    python -I -S client.py WORKFLOW_DIR RUN_PID TASK INPUT OUTPUT

Runs in the run directory, starts the run's worker host when there is none, and ends
with 0 or 1. It starts once per file, so it imports as little as it can, nothing of the
package, and speaks a protocol that needs no parser: a frame is four bytes of length
(big endian), then fields separated by NUL, the one byte that no argument can hold.

Clients, hosts and the executor write and read frames with the classes here. A
connection begins with a request, which the host accepts or refuses with the reason.
Then each `RunRequest` gets a `Reply`, in any order, and a `StopRequest` a `Stopped`.

The module is long since it must stay one file: a program that is run with `-I -S` finds
nothing beside itself.
"""

# pathlib takes longer to import than all the rest:
# ruff: noqa: PTH101, PTH102, PTH103, PTH108, PTH116, PTH123

import os
import select
import signal
import socket
import stat
import sys
from io import BufferedWriter

#: How often to try again when the host that was found is just ending.
TRIES = 20

#: How long to wait, in tenths of a second, for a host that must exist: a cleaner of
#: /tmp may have removed its socket, and it makes another.
BACK_DS = 100

#: The longest `XDG_RUNTIME_DIR` in which the names of sockets are short enough, in
#: characters.
_LONGEST_PLACE = 40

#: How many clients may wait to be accepted; Snakemake may start hundreds at once.
BACKLOG = 1024

#: The module to start as the host; its arguments may follow.
HOST = ("tigerflow.workers.dispatch.host",)

#: Names, in a scheduler's job, the process that the job lasts for: a Snakemake.
JOB = "TIGERFLOW_JOB"

#: Bytes of a frame before its payload.
HEAD = 4

#: Bytes of the longest payload. No frame of ours is as long: a path has up to 4096
#: bytes, and messages are cut.
FRAME_LIMIT = 1 << 20

#: Characters of a message that are sent.
MESSAGE_LIMIT = 20_000

#: Digits of a process id, which is below 2**31.
PID_DIGITS = 10

#: The first word of a host that accepts a request, and of one that does not.
ACCEPTED, REFUSED = b"accepted", b"refused"

#: Why a Snakemake that the user started is refused.
BESIDE = "a TigerFlow service is running in the output directory; stop it first"

_DIED = "the worker host died; see .tigerflow/logs/host.log"

_OTHER_FORM = (
    "the worker host answers in an unknown form, as one of another version of "
    "TigerFlow does; wait until it has ended, then run this again"
)

Fields = list[bytes]


class HostError(Exception):
    """The worker host cannot be reached or started; the text says why."""


class RefusedError(HostError):
    """The worker host is part of a service; the text says so."""


class FrameError(Exception):
    """What came over a connection does not have the expected form."""


class RunRequest:
    """Run one file: the workflow, Snakemake's process id, the task, and the paths."""

    # Not a dataclass: that takes longer to import than all the rest.

    def __init__(self, number: bytes, words: Fields) -> None:
        """Number a file; `words` are the arguments of this program."""
        self.number = number
        self.words = words

    def fields(self) -> Fields:
        """Return the fields of its frame."""
        return [b"run", self.number, *self.words]

    @classmethod
    def of(cls, fields: Fields) -> "RunRequest":
        """Return the request of a frame.

        Raises:
            FrameError: it is none.
        """
        kind, number, *words = fields if len(fields) == 7 else (b"", b"")  # noqa: PLR2004 -- those of `fields`
        if kind != b"run" or not is_process_id(words[1]):
            msg = f"not a request to run a file: {fields[:2]!r}"
            raise FrameError(msg)
        return cls(number, words)


class AttendRequest:
    """Keep a host until a process, a Snakemake, has ended."""

    def __init__(self, pid: int) -> None:
        """Name the process."""
        self.pid = pid

    def fields(self) -> Fields:
        """Return the fields of its frame."""
        return [b"attend", str(self.pid).encode()]


class StopRequest:
    """End all workers, and the host."""

    def fields(self) -> Fields:
        """Return the fields of its frame."""
        return [b"stop"]


def request_of(fields: Fields) -> "RunRequest | AttendRequest | StopRequest":
    """Return the request of a frame.

    Raises:
        FrameError: the frame is not such a request.
    """
    if fields[:1] == [b"stop"]:
        return StopRequest()
    if fields[:1] == [b"attend"] and is_process_id(fields[-1]):
        return AttendRequest(int(fields[-1]))
    return RunRequest.of(fields)


def refusal(reason: str) -> Fields:
    """Return the fields by which a host refuses a request."""
    return [REFUSED, reason.encode()]


class Stopped:
    """A host has ended its workers."""

    def __init__(self, problems: list[str]) -> None:
        """Name what went wrong at their teardown."""
        self.problems = problems

    def fields(self) -> Fields:
        """Return the fields of its frame."""
        return [b"stopped", *map(os.fsencode, self.problems)]

    @classmethod
    def of(cls, fields: Fields) -> "Stopped":
        """Return what a frame says."""
        return cls([field.decode(errors="replace") for field in fields[1:]])


class Reply:
    """What became of the file of one request."""

    def __init__(
        self, number: bytes, fate: str, message: str = "", started: str = ""
    ) -> None:
        """State the fate, a message, and when `run` was called if it was."""
        self.number = number
        self.fate = fate
        self.message = message
        self.started = started

    @property
    def is_done(self) -> bool:
        """Whether the file has its result."""
        return self.fate == "done"

    def fields(self) -> Fields:
        """Return the fields of its frame."""
        message = self.message[:MESSAGE_LIMIT].encode(errors="backslashreplace")
        texts = [self.fate.encode(), message.replace(b"\0", b""), self.started.encode()]
        return [texts[0], self.number, *texts[1:]]

    @classmethod
    def of(cls, fields: Fields) -> "Reply":
        """Return the reply of a frame.

        Raises:
            FrameError: it is none.
        """
        if len(fields) != 4:  # noqa: PLR2004 -- those of `fields`
            msg = f"not a reply: {fields[:2]!r}"
            raise FrameError(msg)
        fate, message, started = (
            fields[place].decode(errors="backslashreplace") for place in (0, 2, 3)
        )
        return cls(fields[1], fate, message, started)


def main(arguments: list[str]) -> int:
    """Process one file; return the exit code."""
    request = RunRequest(b"", [os.fsencode(word) for word in arguments])
    try:
        with open_session([request.fields()]) as connection:
            reply = receive_reply(connection)
    except HostError as error:
        print(f"tigerflow: {error}", file=sys.stderr)  # noqa: T201 -- Snakemake shows it
        return 1
    if reply.is_done:
        return 0
    print(f"tigerflow: {reply.message}", file=sys.stderr)  # noqa: T201 -- Snakemake shows it
    return 1


def attend() -> socket.socket:
    """Keep a host for as long as this process lives, or until the host is stopped.

    It is started if need be; return the connection, to be kept.

    Raises:
        HostError: there is no host, and none can be started.
    """
    return open_session([AttendRequest(os.getpid()).fields()])


def stop() -> list[str]:
    """Stop the current run directory's host; return what went wrong at teardown."""
    try:
        connection = _try_session([StopRequest().fields()], None)
        if connection is None:
            return []
        with connection:
            stopped = Stopped.of(_receive(connection))
    except RefusedError:
        # Its workers belong to a service, not to this run.
        return []
    except HostError as error:
        return [str(error)]
    return stopped.problems


def open_session(
    requests: list[Fields], host: tuple[str, ...] | None = HOST
) -> socket.socket:
    """Send requests to the run's host, started if need be; return the connection.

    The host has accepted the first request, and takes all of them before those of later
    connections. More may follow on the connection: each `RunRequest` has a number, and
    its `Reply` has the same, once the file is finished. When a connection closes, the
    host gives up the files that it has asked for.

    Raises:
        HostError: there is no host, and none can be started, or `host` is None.
    """
    connection = _try_session(requests, host)
    for _ in range(0 if host else BACK_DS):
        if connection is not None:
            break
        select.select([], [], [], 0.1)
        connection = _try_session(requests, host)
    if connection is None:
        stays = "ends at once" if host else "is gone"
        msg = f"the worker host {stays}; see .tigerflow/logs/host.log"
        raise HostError(msg)
    return connection


def receive_reply(connection: socket.socket) -> Reply:
    """Return the next reply of a host.

    Raises:
        HostError: the host died, or is of another version.
    """
    fields = _receive(connection)
    try:
        return Reply.of(fields)
    except FrameError as error:
        raise HostError(_OTHER_FORM) from error


def _receive(connection: socket.socket) -> Fields:
    try:
        fields = receive(connection)
    except FrameError as error:
        raise HostError(_OTHER_FORM) from error
    except OSError:
        fields = []
    if not fields:
        raise HostError(_DIED)
    return fields


def _try_session(
    requests: list[Fields], host: tuple[str, ...] | None
) -> socket.socket | None:
    for _ in range(TRIES):
        connection = connect() or (_start_host(host) if host else None)
        if connection is None:
            return None
        try:
            send(connection, *requests)
            if _is_accepted(receive(connection)):
                return connection
        except OSError:
            pass
        except FrameError as error:
            connection.close()
            raise HostError(_OTHER_FORM) from error
        except HostError:
            connection.close()
            raise
        # It was just ending: start the next one.
        connection.close()
    return None


def _is_accepted(answer: Fields) -> bool:
    """Return whether a host takes a request; False if it is ending."""
    if answer[:1] == [REFUSED]:
        raise RefusedError(b" ".join(answer[1:]).decode(errors="backslashreplace"))
    if answer and answer[0] != ACCEPTED:
        raise HostError(_OTHER_FORM)
    return bool(answer)


def connect() -> socket.socket | None:
    """Return a connection to the host of the current run directory, or None.

    Raises:
        HostError: the socket's directory is not private.
    """
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect(socket_path())
    except (FileNotFoundError, ConnectionRefusedError):
        connection.close()
        return None
    return connection


def socket_path() -> str:
    """Return where the host of the current run directory listens, on this machine.

    The name is made of the device and inode of `.tigerflow`, so it is the same for
    every path to the run directory. A scheduler's job has a host of its own. The path
    is short enough for a socket: 108 bytes with the final NUL, unix(7).
    """
    try:
        status = os.stat(".tigerflow")
    except OSError as error:
        msg = "this is not a run directory: it contains no .tigerflow"
        raise HostError(msg) from error
    job = [os.environ[name] for name in ("SLURM_JOB_ID", JOB) if name in os.environ]
    name = "-".join([f"{status.st_dev:x}", f"{status.st_ino:x}", *job]) + ".sock"
    for place in _places():
        # A host stays where it is, even if an earlier place is free by now.
        if is_private(place) and os.path.lexists(path := f"{place}/{name}"):
            return path
    return f"{runtime_directory()}/{name}"


def runtime_directory() -> str:
    """Return the directory of this user's sockets, which no one else can enter.

    Raises:
        HostError: each place belongs to others, or can be entered by them.
    """
    for place in _places():
        try:  # noqa: SIM105 -- contextlib takes long to import
            os.mkdir(place, 0o700)
        except OSError:
            pass
        if is_private(place):
            return place
    first, *_ = _places()
    msg = (
        f"{first} is not private to you; remove it, or set "
        "XDG_RUNTIME_DIR to a directory that is"
    )
    raise HostError(msg)


def _places() -> list[str]:
    """Return where the directory of sockets may be, on this host.

    `/run/user` is not the first, because it is removed with the last login, and a
    service goes on. Anyone can create a directory in the other places beforehand.
    """
    user = os.getuid()
    places = [f"/tmp/tigerflow-{user}"]  # noqa: S108 -- checked before it is used
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    # Names in it must fit into the address of a socket: 108 bytes.
    if runtime.startswith("/") and len(runtime) <= _LONGEST_PLACE:
        places.append(f"{runtime}/tigerflow")
    places.append(f"/run/user/{user}/tigerflow")
    others = ("/var/tmp", "/dev/shm")  # noqa: S108 -- the same
    return places + [f"{other}/tigerflow-{user}" for other in others]


def is_private(place: str) -> bool:
    """Return whether a directory is this user's, and no one else can enter it."""
    try:
        status = os.lstat(place)
    except OSError:
        return False
    is_closed = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
    return is_closed and status.st_uid == os.getuid()


def send(connection: socket.socket, *frames: Fields) -> None:
    """Send a frame of each of these fields, all at once."""
    connection.sendall(b"".join(map(frame, frames)))


def receive(connection: socket.socket) -> Fields:
    """Return the next frame's fields, or none when the other side has closed.

    Raises:
        FrameError: what arrives is not a frame.
    """
    head = _receive_exactly(connection, HEAD)
    return fields_of(_receive_exactly(connection, payload_size(head))) if head else []


def frame(fields: Fields) -> bytes:
    """Return a frame as it is sent."""
    payload = b"\0".join(fields)
    return len(payload).to_bytes(HEAD, "big") + payload


def payload_size(head: bytes) -> int:
    """Return how many bytes follow the first ones of a frame.

    Raises:
        FrameError: no frame has that many.
    """
    size = int.from_bytes(head, "big")
    if size > FRAME_LIMIT:
        msg = f"not a frame: it begins with {head!r}"
        raise FrameError(msg)
    return size


def fields_of(payload: bytes) -> Fields:
    """Return the fields of a frame."""
    return payload.split(b"\0") if payload else []


def is_process_id(field: bytes) -> bool:
    """Return whether a field is a process id, as Linux has them."""
    return field.isdigit() and len(field) <= PID_DIGITS and 0 < int(field) < 1 << 31


def _receive_exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            return b""
        data += more
    return data


def locked(path: str) -> BufferedWriter:
    """Lock the file at `path`, wait for that if need be, and return it open.

    Whoever holds the lock may remove the file: those who wait lock the next one.
    """
    import fcntl  # noqa: PLC0415 -- only the first client of a run comes here

    while True:
        file = open(path, "wb")  # noqa: SIM115 -- the caller closes it
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            if os.path.samestat(os.stat(path), os.fstat(file.fileno())):
                return file
        except FileNotFoundError:
            pass
        file.close()


def claim() -> socket.socket | None:
    """Return a listener in the place of the run's host, or None if there is a host.

    Raises:
        HostError: the socket cannot be made.
    """
    path = socket_path()
    try:
        with locked(f"{path}.lock"):
            other = connect()
            if other is None:
                return listen(path)
            other.close()
    except OSError as error:
        msg = f"cannot listen for clients: {error}"
        raise HostError(msg) from error
    return None


def _start_host(host: tuple[str, ...]) -> socket.socket:
    """Start a host and return a connection to it, or to one that was quicker.

    The socket listens before the host runs: a client that connects gets its answer
    later, and no client has to poll until the host is up.
    """
    path = socket_path()
    try:
        with locked(f"{path}.lock"):
            connection = connect()
            if connection is not None:
                return connection
            with listen(path) as listener:
                _run_host(listener.fileno(), *host)
                # While it listens here too: a host may have ended by now, and says why.
                connection = connect()
    except OSError as error:
        msg = f"cannot start the worker host: {error}"
        raise HostError(msg) from error
    if connection is None:
        msg = "the worker host did not start; see .tigerflow/logs/host.log"
        raise HostError(msg)
    return connection


def listen(path: str) -> socket.socket:
    """Return a listener at a path; replace what is there."""
    if os.path.lexists(path):
        os.unlink(path)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path)
    os.chmod(path, 0o600)
    listener.listen(BACKLOG)
    return listener


def _run_host(listener: int, module: str, *words: str) -> None:
    import subprocess  # noqa: PLC0415 -- only the first client of a run comes here

    os.makedirs(".tigerflow/logs", exist_ok=True)
    # Somebody may have put a FIFO there, which would block, or a link.
    carefully = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | carefully
    with open(os.open(".tigerflow/logs/host.log", flags, 0o666), "ab") as log:
        subprocess.Popen(
            # -P: a module in the run directory must not be imported as one of ours.
            [sys.executable, "-P", "-m", module, str(listener), *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[listener],
            # Ctrl-C in the terminal is Snakemake's: it ends, and the host sees that.
            start_new_session=True,
        )


if __name__ == "__main__":
    # Ctrl-C reaches all clients of a run: each ends at once, without a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(main(sys.argv[1:]))
