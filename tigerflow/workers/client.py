"""What a rule runs for each file: hand it to the task's worker, wait, exit.

    python -I -S client.py WORKFLOW_DIR RUN_PID TASK INPUT OUTPUT

Runs in the run directory, starts the run's worker host when there is none, and ends
with 0 or 1. It is started once a file, so it imports the least it can, nothing of the
package, and speaks a protocol that needs no parser: a frame is four bytes of length
(big endian), then fields separated by NUL, the one byte that no argument can hold.
"""

# pathlib takes longer to import than all the rest:
# ruff: noqa: PTH101, PTH102, PTH103, PTH108, PTH116, PTH123

import os
import signal
import socket
import stat
import sys
from io import BufferedWriter

#: How often a host that ends just now is replaced by a new one before giving up.
TRIES = 20

#: Clients that may wait to be let in; Snakemake may start hundreds at once.
BACKLOG = 1024

#: The module that is a host, which this starts; words for it may follow.
HOST = ("tigerflow.workers.host",)

#: In a scheduler's job: the process that it lasts for, a Snakemake.
JOB = "TIGERFLOW_JOB"

Fields = list[bytes]


class HostError(Exception):
    """The worker host cannot be reached or started; the text says why."""


def main(arguments: list[str]) -> int:
    """Process one file; return the exit code."""
    words = [os.fsencode(word) for word in arguments]
    try:
        with open_session([b"run", b"", *words]) as connection:
            answer = receive_answer(connection)
    except HostError as error:
        print(f"tigerflow: {error}", file=sys.stderr)  # noqa: T201 -- Snakemake shows it
        return 1
    if answer[0] == b"done":
        return 0
    message = answer[2].decode(errors="backslashreplace")
    print(f"tigerflow: {message}", file=sys.stderr)  # noqa: T201 -- Snakemake shows it
    return 1


def attend() -> socket.socket:
    """Have a host for as long as this process lives, or until it is told to stop.

    It is started if need be; return the connection, to be kept.

    Raises:
        HostError: there is no host, and none can be started.
    """
    return open_session([b"attend", str(os.getpid()).encode()])


def stop() -> list[str]:
    """Stop the current run directory's host; return what went wrong at teardown."""
    try:
        connection = _try_session([b"stop"], None)
        if connection is None:
            return []
        with connection:
            answer = receive_answer(connection)
    except HostError as error:
        return [str(error)]
    return [field.decode(errors="replace") for field in answer[1:]]


def open_session(request: Fields, host: tuple[str, ...] | None = HOST) -> socket.socket:
    """Send a request to the run's host, started if need be; return the connection.

    The host has accepted the request. More may follow on the connection, each `run`
    with a number of its own; answers come as the files are finished, and have it too.
    A host gives up what a connection asked for when it is closed.

    Raises:
        HostError: there is no host, and none can or, without `host`, shall be started.
    """
    connection = _try_session(request, host)
    if connection is None:
        stays = "does not stay up" if host else "is gone"
        msg = f"the worker host {stays}; see .tigerflow/logs/host.log"
        raise HostError(msg)
    return connection


def receive_answer(connection: socket.socket) -> Fields:
    """Return the next answer: the fate, the number, a message, when `run` was called.

    Raises:
        HostError: the host died.
    """
    try:
        answer = receive(connection)
    except ConnectionResetError:
        answer = []
    if not answer:
        msg = "the worker host died; see .tigerflow/logs/host.log"
        raise HostError(msg)
    return answer


def _try_session(request: Fields, host: tuple[str, ...] | None) -> socket.socket | None:
    for _ in range(TRIES):
        connection = connect() or (_start_host(host) if host else None)
        if connection is None:
            return None
        try:
            send(connection, request)
            if receive(connection):
                return connection
        except OSError:
            pass
        # It was just closing down: the next one starts afresh.
        connection.close()
    return None


def connect() -> socket.socket | None:
    """Return a connection to the host of the current run directory, or None.

    Raises:
        HostError: the socket's directory is not ours alone.
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

    Device and inode of its `.tigerflow` name a run directory, whatever path leads to
    it; inside a scheduler's job, the job has a host of its own. The path is short
    enough for a socket: 108 bytes with the final NUL, unix(7).
    """
    try:
        status = os.stat(".tigerflow")
    except OSError as error:
        msg = "this is not a run directory: there is no .tigerflow in it"
        raise HostError(msg) from error
    job = [os.environ[name] for name in ("SLURM_JOB_ID", JOB) if name in os.environ]
    name = "-".join([f"{status.st_dev:x}", f"{status.st_ino:x}", *job])
    return f"{runtime_directory()}/{name}.sock"


def runtime_directory() -> str:
    """Return the directory of this user's sockets, which no one else can enter.

    Raises:
        HostError: it belongs to somebody else, or others may enter it.
    """
    path = f"/tmp/tigerflow-{os.getuid()}"  # noqa: S108 -- checked right below
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        msg = f"cannot make {path}: {error.strerror}"
        raise HostError(msg) from error
    status = os.lstat(path)
    private = stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077
    if not private or status.st_uid != os.getuid():
        msg = f"{path} is not a directory of yours alone; remove it"
        raise HostError(msg)
    return path


def send(connection: socket.socket, fields: Fields) -> None:
    """Send one frame."""
    payload = b"\0".join(fields)
    connection.sendall(len(payload).to_bytes(4, "big") + payload)


def receive(connection: socket.socket) -> Fields:
    """Return the next frame's fields, or none when the other side has closed."""
    head = _receive_exactly(connection, 4)
    payload = _receive_exactly(connection, int.from_bytes(head, "big")) if head else b""
    return payload.split(b"\0") if payload else []


def _receive_exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            return b""
        data += more
    return data


def locked(path: str) -> BufferedWriter:
    """Wait until this process alone has the file of that name, and return it open.

    Whoever has it may remove it: those who wait then lock the next one of the name.
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
                return _listen(path)
            other.close()
    except OSError as error:
        msg = f"cannot listen for clients: {error}"
        raise HostError(msg) from error
    return None


def _start_host(host: tuple[str, ...]) -> socket.socket:
    """Start a host and return a connection to it, or to one that was quicker.

    The socket listens before the host runs: whoever connects is heard in the end, and
    nobody has to wait and look whether it is up.
    """
    path = socket_path()
    try:
        with locked(f"{path}.lock"):
            connection = connect()
            if connection is not None:
                return connection
            with _listen(path) as listener:
                _run_host(listener.fileno(), *host)
            connection = connect()
    except OSError as error:
        msg = f"cannot start the worker host: {error}"
        raise HostError(msg) from error
    if connection is None:
        msg = "the worker host did not start; see .tigerflow/logs/host.log"
        raise HostError(msg)
    return connection


def _listen(path: str) -> socket.socket:
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
    with open(".tigerflow/logs/host.log", "ab") as log:
        subprocess.Popen(
            # -P: a module in the run directory must not pass for one of ours.
            [sys.executable, "-P", "-m", module, str(listener), *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[listener],
            # Ctrl-C in the terminal is Snakemake's: it ends, and the host sees that.
            start_new_session=True,
        )


if __name__ == "__main__":
    # Ctrl-C reaches all clients of a run: none has more to say than that it ends.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(main(sys.argv[1:]))
