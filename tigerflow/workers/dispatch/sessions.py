"""The connections of clients and executors to a worker host."""

import asyncio
import os
import socket
import struct
from pathlib import Path
from typing import Protocol

from tigerflow.log import logger
from tigerflow.naming import printable
from tigerflow.workers import client
from tigerflow.workers.protocol import Answer, Fate

#: How long clients that do not read their answer are waited for at the end.
LAST_ANSWER_S = 1


class RequestHandler(Protocol):
    """What a host does with the requests of its clients."""

    @property
    def is_stopping(self) -> bool:
        """Whether it takes no requests any more."""

    def refusal_of(self, pid: int) -> str | None:
        """Return why a process may send no request, or None."""

    async def wait_for_turn(self, pid: int) -> None:
        """Return when a process may send its files."""

    def watch_run(self, pid: int) -> None:
        """Stay until a process, a Snakemake, has ended."""

    async def process(
        self, workflow_dir: Path, task: str, input_file: str, output_file: str
    ) -> Answer:
        """Process one file and return what became of it."""

    async def stop_and_wait(self) -> list[str]:
        """Stop all workers and wait; return what went wrong at teardown."""

    async def wait_for_stop(self) -> None:
        """Return when it begins to stop."""


class Sessions:
    """Serves those who connect to the sockets of a host."""

    def __init__(self, host: RequestHandler) -> None:
        """Have `host` do what they ask for; only its owner's processes are heard."""
        self._host = host
        self._servers: list[asyncio.Server] = []
        self._open: set[asyncio.Task[None]] = set()

    @property
    def is_idle(self) -> bool:
        """Whether nobody is connected."""
        return not self._open

    async def listen(self, listener: socket.socket) -> None:
        """Serve those who connect to a listener, too."""
        server = await asyncio.start_unix_server(
            self._talk, sock=listener, backlog=client.BACKLOG
        )
        self._servers.append(server)

    def stop_listening(self) -> None:
        """Let nobody else connect."""
        for server in self._servers:
            server.close()

    async def close(self) -> None:
        """Return when those who are connected have their answers, or soon."""
        if self._open:
            await asyncio.wait(self._open, timeout=LAST_ANSWER_S)

    async def _talk(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        current = asyncio.current_task()
        assert current is not None  # noqa: S101 -- in a coroutine there is one
        self._open.add(current)
        try:
            pid, uid = _peer(writer)
            if uid == os.getuid():
                await self._answer(pid, reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, client.FrameError):
            pass
        except Exception:  # noqa: BLE001 -- the client sees the end of its connection
            logger.exception("Ended the connection of a client")
        finally:
            self._open.discard(current)
            writer.close()

    async def _answer(
        self,
        pid: int,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        request = client.request_of(await _receive(reader))
        reason = self._host.refusal_of(pid)
        if reason is not None:
            _send(writer, client.refusal(reason))
            await writer.drain()
        elif isinstance(request, client.StopRequest):
            _send(writer, [client.ACCEPTED])
            problems = await self._host.stop_and_wait()
            _send(writer, client.Stopped(problems).fields())
            await writer.drain()
        elif self._host.is_stopping:
            # The client starts the next host.
            return
        elif isinstance(request, client.AttendRequest):
            _send(writer, [client.ACCEPTED])
            self._host.watch_run(request.pid)
            await self._host.wait_for_stop()
        else:
            await self._host.wait_for_turn(pid)
            _send(writer, [client.ACCEPTED])
            await self._serve(request, reader, writer)

    async def _serve(
        self,
        request: client.RunRequest,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        """Run the files that a connection asks for, until it is closed."""
        works: set[asyncio.Task[None]] = set()
        try:
            while True:
                work = asyncio.create_task(self._run(request, writer))
                works.add(work)
                work.add_done_callback(works.discard)
                request = client.RunRequest.of(await _receive(reader))
        finally:
            # Nobody waits for these any more.
            for work in works:
                work.cancel()

    async def _run(
        self, request: client.RunRequest, writer: asyncio.StreamWriter
    ) -> None:
        workflow_dir, run, task, *paths = map(os.fsdecode, request.words)
        try:
            self._host.watch_run(int(run))
            answer = await self._host.process(Path(workflow_dir), task, *paths)
        except Exception as error:  # noqa: BLE001 -- whatever it is, somebody waits for an answer
            logger.exception("No answer for {}", printable(paths[0]))
            answer = Answer(0, Fate.UNDONE, f"internal error: {error!r}")
        reply = client.Reply(
            request.number, answer.fate.value, answer.message, answer.started
        )
        _send(writer, reply.fields())


def _peer(writer: asyncio.StreamWriter) -> tuple[int, int]:
    """Return the other side's process and user id: struct ucred of unix(7)."""
    connection = writer.get_extra_info("socket")
    size = struct.calcsize("3i")
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    pid, uid, _ = struct.unpack("3i", raw)
    return pid, uid


async def _receive(reader: asyncio.StreamReader) -> client.Fields:
    size = client.payload_size(await reader.readexactly(client.HEAD))
    return client.fields_of(await reader.readexactly(size))


def _send(writer: asyncio.StreamWriter, fields: client.Fields) -> None:
    writer.write(client.frame(fields))
