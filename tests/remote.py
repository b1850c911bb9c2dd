"""A directory of another machine, as this one sees it: changes there bring no events.

A read-only view on a directory through FUSE, without a library: the protocol is that of
fuse(4) and the kernel's `linux/fuse.h`. Needs root and /dev/fuse.
"""

import ctypes
import errno
import os
import stat
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from enum import IntEnum
from pathlib import Path

import pytest


class _Code(IntEnum):
    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    OPEN = 14
    READ = 15
    STATFS = 17
    RELEASE = 18
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    INTERRUPT = 36
    BATCH_FORGET = 42


_UNANSWERED = {_Code.FORGET, _Code.INTERRUPT, _Code.BATCH_FORGET}
_REQUEST = struct.Struct("<IIQQ16x")
_ROOT = 1
#: For how many seconds the kernel need not ask again, as network file systems do it.
_VALID_S = 1
_DIRECT_IO = 1
_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


class RemoteDirectory:
    """Answers the kernel's questions about the files of one directory."""

    def __init__(self, source: Path) -> None:
        self._source = source
        #: Names of files that cannot be read, as on a disk that breaks.
        self.broken: set[str] = set()
        # A file that takes the place of another is another node.
        self._nodes: dict[tuple[str, int], int] = {}
        self._names: dict[int, str] = {_ROOT: "."}

    def serve(self, device: int) -> None:
        """Answer until the file system is unmounted."""
        with suppress(OSError):
            while True:
                request = os.read(device, 1 << 20)
                _, code, unique, node = _REQUEST.unpack_from(request)
                if code in _UNANSWERED:
                    continue
                try:
                    answer, error = self._answer(code, node, request[40:]), 0
                except OSError as failure:
                    answer, error = b"", -(failure.errno or errno.EIO)
                with suppress(FileNotFoundError):  # who asked is gone
                    head = struct.pack("<IiQ", 16 + len(answer), error, unique)
                    os.write(device, head + answer)

    def _answer(self, code: int, node: int, body: bytes) -> bytes:
        match code:
            case _Code.INIT:
                return struct.pack("<4I2H2I36x", 7, 31, 1 << 16, 0, 16, 12, 1 << 16, 1)
            case _Code.LOOKUP:
                return self._look_up(os.fsdecode(body.rstrip(b"\0")))
            case _Code.OPENDIR:
                return bytes(16)
            case _Code.READDIR:
                return self._list(*struct.unpack_from("<8xQI", body))
            case _Code.STATFS:
                return bytes(80)
        return self._answer_about(code, self._names[node], body)

    def _answer_about(self, code: int, name: str, body: bytes) -> bytes:
        path = self._source / name
        match code:
            case _Code.GETATTR:
                return struct.pack("<Q8x", _VALID_S) + _attributes(path.stat())
            case _Code.OPEN:
                descriptor = os.open(path, os.O_RDONLY)
                return struct.pack("<QI4x", descriptor, _DIRECT_IO)
            case _Code.READ if name in self.broken:
                raise OSError(errno.EIO, "broken")
            case _Code.READ:
                descriptor, offset, size = struct.unpack_from("<QQI", body)
                return os.pread(descriptor, size, offset)
            case _Code.RELEASE:
                os.close(*struct.unpack_from("<Q", body))
                return b""
        raise OSError(errno.ENOSYS, "not for readers")

    def _look_up(self, name: str) -> bytes:
        status = (self._source / name).stat()
        new = len(self._names) + 1
        node = self._nodes.setdefault((name, status.st_ino), new)
        self._names[node] = name
        valid = struct.pack("<QQQQ8x", node, 0, _VALID_S, _VALID_S)
        return valid + _attributes(status)

    def _list(self, offset: int, size: int) -> bytes:
        found = b""
        names = sorted(os.fsencode(path.name) for path in self._source.iterdir())
        for position, name in enumerate(names[offset:], start=offset + 1):
            entry = struct.pack("<QQII", 1, position, len(name), 0) + name
            entry += bytes(-len(entry) % 8)
            if len(found) + len(entry) > size:
                break
            found += entry
        return found


def _attributes(status: os.stat_result) -> bytes:
    times = (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns)
    return struct.pack(
        "<6Q10I",
        status.st_ino,
        status.st_size,
        -(-status.st_size // 512),
        *(time // 10**9 for time in times),
        *(time % 10**9 for time in times),
        status.st_mode & (stat.S_IFMT(status.st_mode) | 0o555),
        1,
        status.st_uid,
        status.st_gid,
        0,
        4096,
        0,
    )


@contextmanager
def remote_directory(source: Path, point: Path) -> Iterator[RemoteDirectory]:
    """Show `source` at `point` as the file system of a type that brings no events."""
    try:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        pytest.skip(f"there is no FUSE here: {error}")
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0"
    words = (b"tests", os.fsencode(point), b"fuse.tests", 0, options.encode())
    if _libc.mount(*words):
        os.close(device)
        pytest.skip(f"cannot mount: {os.strerror(ctypes.get_errno())}")
    directory = RemoteDirectory(source)
    serving = threading.Thread(target=directory.serve, args=(device,), daemon=True)
    serving.start()
    try:
        yield directory
    finally:
        _libc.umount2(os.fsencode(point), _DETACH)
        os.close(device)
