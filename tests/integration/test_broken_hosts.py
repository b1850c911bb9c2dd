"""What clients and the executor make of a worker host that answers wrongly."""

import contextlib
import socket
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from flows import Flow

from tigerflow.workers import client

COPY = """
    class Work(LocalTask):
        def run(context, input_file, output_file):
            output_file.write_text(input_file.read_text())
"""

DIED = "tigerflow: the worker host died; see .tigerflow/logs/host.log"
OTHER_FORM = "tigerflow: the worker host answers in an unknown form"
ACCEPTED = client.frame([client.ACCEPTED])


class WrongHost:
    """Listens in the place of a run directory's host.

    It accepts what it is asked, and answers with bytes, given the file's number.
    """

    def __init__(self, run_dir: Path, answer: Callable[[bytes], bytes]) -> None:
        with contextlib.chdir(run_dir):
            listener = client.claim()
            self._socket = Path(client.socket_path())
        assert listener is not None
        self._listener = listener
        self._answer = answer
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection, contextlib.suppress(OSError):
                    *_, number = client.receive(connection)[:2]
                    connection.sendall(self._answer(number))
                    connection.shutdown(socket.SHUT_WR)
                    # Its end is that of the client.
                    connection.recv(1)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()
        for path in (self._socket, Path(f"{self._socket}.lock")):
            path.unlink(missing_ok=True)


def _framed(*fields: bytes) -> bytes:
    return ACCEPTED + client.frame([*fields])


ANSWERS = {
    "nothing": (lambda _: ACCEPTED, DIED),
    "half a frame": (lambda _: ACCEPTED + b"\0\0\0\x10done", DIED),
    "no frame": (lambda _: ACCEPTED + b"HTTP/1.1 400 Bad Request", OTHER_FORM),
    "no frame at once": (lambda _: b"HTTP/1.1 400 Bad Request", OTHER_FORM),
    "as another version": (lambda n: _framed(b"undone", n, b"not now"), OTHER_FORM),
    "with an unknown word": (lambda _: client.frame([b"welcome"]), OTHER_FORM),
    "with a refusal": (
        lambda _: client.frame([client.REFUSED, b"not now"]),
        "tigerflow: not now",
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_client_fails_its_file_when_the_host_answers(world, name):
    answer, sentence = ANSWERS[name]
    run = world.run()
    run.add_task(COPY)
    host = WrongHost(run.path, answer)
    try:
        code, said = run.process("a")
    finally:
        host.close()
    assert (code, said.count("\n")) == (1, 1)
    assert sentence in said


EXECUTOR_ANSWERS = ANSWERS | {
    "of an unknown file": (lambda _: _framed(b"done", b"4711", b"", b""), DIED),
    "with a time that is none": (
        lambda n: _framed(b"done", n, b"", b"yesterday"),
        "tigerflow: internal error: ValueError",
    ),
}


@pytest.mark.parametrize("name", EXECUTOR_ANSWERS)
def test_executor_ends_the_run_when_the_host_answers(world, name):
    answer, sentence = EXECUTOR_ANSWERS[name]
    flow = Flow(world)
    flow.add_module(COPY)
    flow.add_inputs("a")
    flow.compile({"name": "work"})
    host = WrongHost(flow.out, answer)
    try:
        code, said = flow.snakemake("--executor", "tigerflow")
    finally:
        host.close()
    assert code == 1
    assert sentence in said
    assert "Traceback" not in said
    assert flow.names("work") == []
