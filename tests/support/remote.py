"""A directory of a file server as one host sees it, and what can go wrong with it.

    with remote_directory(there, here, cache_s=30) as mount: ...

A passthrough through FUSE, without a library: the protocol is that of fuse(4) and the
kernel's `linux/fuse.h`. Needs root and /dev/fuse. Each mount of a directory stands for
one host, and is a process of its own. As the client of nfs(5) does, it remembers for
some time what it was told of entries, attributes and absences; opening a file asks
again for that file, and opening a directory for what is in it. Changes by others bring
no events.
"""

# By descriptors, which pathlib has not; and the protocol has as many kinds of requests:
# ruff: noqa: C901, PLR0911, PTH101, PTH116, PTH208

import ctypes
import errno
import os
import select
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

#: Settings of a service whose inputs only scans find: they come more often.
SCANS = {"TIGERFLOW_PIPELINE_POLL_INTERVAL": "1"}

#: How long the process of a mount may take for an answer.
PATIENCE_S = 60

_ROOT = 1
_DIRECT_IO = 1
_BIG_WRITES = 1 << 5
_DETACH = 2
_REQUEST = struct.Struct("<IIQQ16x")
_SETATTR = struct.Struct("<I12xQ8xQQ8xIIxxxxIxxxxII4x")
_SET_MODE, _SET_UID, _SET_GID, _SET_SIZE = 1, 2, 4, 8
_SET_ATIME, _SET_MTIME, _ATIME_NOW, _MTIME_NOW = 16, 32, 128, 256

_libc = ctypes.CDLL(None, use_errno=True)


class _Code(IntEnum):
    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    SETATTR = 4
    READLINK = 5
    SYMLINK = 6
    MKNOD = 8
    MKDIR = 9
    UNLINK = 10
    RMDIR = 11
    RENAME = 12
    LINK = 13
    OPEN = 14
    READ = 15
    WRITE = 16
    STATFS = 17
    RELEASE = 18
    FSYNC = 20
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    CREATE = 35
    INTERRUPT = 36
    BATCH_FORGET = 42
    RENAME2 = 45


_UNANSWERED = {_Code.FORGET, _Code.INTERRUPT, _Code.BATCH_FORGET}
#: What never fails: it is not the server that is asked.
_LOCAL = {_Code.INIT, _Code.RELEASE, _Code.RELEASEDIR}


@dataclass
class _Node:
    """A file that the kernel knows, by its number."""

    descriptor: int
    parent: int
    name: str
    key: tuple[int, int]
    lookups: int = 0

    @property
    def path(self) -> str:
        return f"/proc/self/fd/{self.descriptor}"


@dataclass
class _Passthrough:
    """Answers the kernel's questions about the files below one directory."""

    source: str
    cache_s: float
    #: What is answered to everything, while that is not 0.
    fault: int = 0
    #: Names of files that cannot be read, as on a disk that breaks.
    broken: set[str] = field(default_factory=set)
    #: Cleared while nothing is answered.
    answers: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        descriptor = os.open(self.source, os.O_PATH)
        root = _Node(descriptor, _ROOT, "", _key(os.stat(descriptor)))
        self._nodes = {_ROOT: root}
        self._numbers = {root.key: _ROOT}
        self._last = _ROOT
        #: What is remembered: until when, and the number or None for an absence.
        self._entries: dict[tuple[int, str], tuple[float, int | None]] = {}
        self._attributes: dict[int, tuple[float, os.stat_result]] = {}
        self._lists: dict[int, list[bytes]] = {}
        #: When a directory was last seen to change.
        self._changes: dict[int, int] = {}
        self.answers.set()

    def serve(self, device: int) -> None:
        """Answer until the file system is unmounted."""
        with suppress(OSError):
            while True:
                request = os.read(device, 1 << 20)
                self.answers.wait()
                _, code, unique, node = _REQUEST.unpack_from(request)
                if code in _UNANSWERED:
                    self._forget(code, node, request[40:])
                    continue
                try:
                    answer, error = self._answer(code, node, request[40:]), 0
                except OSError as failure:
                    answer, error = b"", -(failure.errno or errno.EIO)
                with suppress(FileNotFoundError):  # who asked is gone
                    head = struct.pack("<IiQ", 16 + len(answer), error, unique)
                    os.write(device, head + answer)

    def _answer(self, code: int, number: int, body: bytes) -> bytes:
        if self.fault and code not in _LOCAL:
            raise OSError(self.fault, "broken")
        match code:
            case _Code.INIT:
                words = (7, 31, 1 << 16, _BIG_WRITES, 16, 12, 1 << 16, 1)
                return struct.pack("<4I2H2I36x", *words)
            case _Code.LOOKUP:
                return self._entry(self._look_up(number, *_names(body)))
            case _Code.GETATTR:
                return self._attribute_answer(self._attribute(number))
            case _Code.SETATTR:
                self._set_attributes(self._nodes[number], body)
                return self._attribute_answer(self._ask(number))
            case _Code.READLINK:
                descriptor = self._nodes[number].descriptor
                return os.fsencode(os.readlink("", dir_fd=descriptor))
            case _Code.STATFS:
                return _file_system(os.statvfs(self._nodes[number].descriptor))
            case _Code.OPEN | _Code.READ | _Code.WRITE | _Code.RELEASE | _Code.FSYNC:
                return self._answer_about_file(code, number, body)
            case _Code.OPENDIR | _Code.READDIR | _Code.RELEASEDIR:
                return self._answer_about_list(code, number, body)
        return self._change(code, number, body)

    # What is known of the server

    def _look_up(self, parent: int, name: str) -> int:
        until, number = self._entries.get((parent, name), (0.0, None))
        is_known = number is None or number in self._nodes
        if not (is_known and time.monotonic() < until):
            number = self._ask_for(parent, name)
        if number is None:
            raise OSError(errno.ENOENT, name)
        return number

    def _ask_for(self, parent: int, name: str) -> int | None:
        """Ask the server for an entry, and remember what it says."""
        until = time.monotonic() + self.cache_s
        self._check_directory(parent)
        place = self._nodes[parent].descriptor
        self._changes.setdefault(parent, os.stat(place).st_mtime_ns)
        try:
            descriptor = os.open(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=place)
        except FileNotFoundError:
            self._entries[parent, name] = (until, None)
            return None
        key = _key(os.stat(descriptor))
        number = self._numbers.get(key)
        if number is None:
            number = self._last = self._last + 1
            self._numbers[key] = number
            self._nodes[number] = _Node(descriptor, parent, name, key)
        else:
            os.close(descriptor)
            self._nodes[number].parent, self._nodes[number].name = parent, name
        self._entries[parent, name] = (until, number)
        self._ask(number)
        return number

    def _check_directory(self, number: int) -> None:
        """Refuse a directory that is gone; the kernel looks for another of its name."""
        node = self._nodes[number]
        if not os.stat(node.descriptor).st_nlink:
            self._entries.pop((node.parent, node.name), None)
            raise OSError(errno.ESTALE, node.name)

    def _attribute(self, number: int) -> os.stat_result:
        until, status = self._attributes.get(number, (0.0, None))
        if status is None or time.monotonic() >= until:
            return self._ask(number)
        return status

    def _ask(self, number: int) -> os.stat_result:
        status = os.stat(self._nodes[number].descriptor)
        self._attributes[number] = (time.monotonic() + self.cache_s, status)
        return status

    def _revalidate(self, number: int) -> None:
        """Ask again for a file that is being opened; refuse one that was replaced."""
        node = self._nodes[number]
        self._ask(number)
        place = self._nodes.get(node.parent)
        if number == _ROOT or place is None:
            return
        try:
            now = _key(
                os.stat(node.name, dir_fd=place.descriptor, follow_symlinks=False)
            )
        except FileNotFoundError:
            now = None
        if now != node.key:
            # The kernel looks the name up again.
            self._entries.pop((node.parent, node.name), None)
            raise OSError(errno.ESTALE, node.name)

    def _revalidate_list(self, number: int) -> None:
        """Forget what is known of a directory's entries if they have changed."""
        self._check_directory(number)
        changed = self._ask(number).st_mtime_ns
        if self._changes.get(number) != changed:
            self._changes[number] = changed
            for place in [place for place in self._entries if place[0] == number]:
                del self._entries[place]

    def _forget(self, code: int, number: int, body: bytes) -> None:
        if code == _Code.FORGET:
            pairs = [(number, *struct.unpack_from("<Q", body))]
        elif code == _Code.BATCH_FORGET:
            pairs = list(struct.iter_unpack("<QQ", body[8:]))
        else:
            return
        for each, count in pairs:
            node = self._nodes[each]
            node.lookups -= count
            if node.lookups <= 0 and each != _ROOT:
                os.close(node.descriptor)
                del self._nodes[each], self._numbers[node.key]
                self._attributes.pop(each, None)
                self._changes.pop(each, None)

    # Answers

    def _entry(self, number: int) -> bytes:
        self._nodes[number].lookups += 1
        # The kernel is to ask each time: what is remembered is remembered here.
        return struct.pack("<Q32x", number) + _packed(self._attribute(number))

    def _attribute_answer(self, status: os.stat_result) -> bytes:
        return bytes(16) + _packed(status)

    def _set_attributes(self, node: _Node, body: bytes) -> None:
        valid, size, atime, mtime, atime_ns, mtime_ns, mode, uid, gid = (
            _SETATTR.unpack_from(body)
        )
        if valid & _SET_MODE:
            os.chmod(node.path, stat.S_IMODE(mode))
        if valid & (_SET_UID | _SET_GID):
            new_uid = uid if valid & _SET_UID else -1
            new_gid = gid if valid & _SET_GID else -1
            os.chown(node.path, new_uid, new_gid)
        if valid & _SET_SIZE:
            os.truncate(node.path, size)
        if valid & (_SET_ATIME | _SET_MTIME):
            now, before = time.time_ns(), os.stat(node.descriptor)
            times = [before.st_atime_ns, before.st_mtime_ns]
            if valid & _SET_ATIME:
                is_now = valid & _ATIME_NOW
                times[0] = now if is_now else atime * 10**9 + atime_ns
            if valid & _SET_MTIME:
                is_now = valid & _MTIME_NOW
                times[1] = now if is_now else mtime * 10**9 + mtime_ns
            os.utime(node.path, ns=(times[0], times[1]))

    def _answer_about_file(self, code: int, number: int, body: bytes) -> bytes:
        match code:
            case _Code.OPEN:
                self._revalidate(number)
                flags = struct.unpack_from("<I", body)[0] & ~os.O_NOFOLLOW
                descriptor = os.open(self._nodes[number].path, flags)
                return struct.pack("<QI4x", descriptor, _DIRECT_IO)
            case _Code.READ:
                if self._nodes[number].name in self.broken:
                    raise OSError(errno.EIO, "broken")
                descriptor, offset, size = struct.unpack_from("<QQI", body)
                return os.pread(descriptor, size, offset)
            case _Code.WRITE:
                descriptor, offset, size = struct.unpack_from("<QQI", body)
                written = os.pwrite(descriptor, body[40 : 40 + size], offset)
                self._ask(number)
                return struct.pack("<I4x", written)
            case _Code.FSYNC:
                os.fsync(*struct.unpack_from("<Q", body))
            case _:
                os.close(*struct.unpack_from("<Q", body))
        return b""

    def _answer_about_list(self, code: int, number: int, body: bytes) -> bytes:
        if code == _Code.OPENDIR:
            self._revalidate_list(number)
            handle = os.dup(self._nodes[number].descriptor)
            return struct.pack("<QI4x", handle, 0)
        handle, offset, size = struct.unpack_from("<QQI", body)
        if code == _Code.RELEASEDIR:
            os.close(handle)
            self._lists.pop(handle, None)
            return b""
        if not offset:
            names = os.listdir(f"/proc/self/fd/{handle}")
            self._lists[handle] = [os.fsencode(name) for name in names]
        found = b""
        for position, name in enumerate(self._lists[handle][offset:], start=offset + 1):
            entry = struct.pack("<QQII", 1, position, len(name), 0) + name
            entry += bytes(-len(entry) % 8)
            if len(found) + len(entry) > size:
                break
            found += entry
        return found

    def _change(self, code: int, number: int, body: bytes) -> bytes:
        """Change what is in a directory; this host knows of it at once."""
        self._check_directory(number)
        place = self._nodes[number].descriptor
        match code:
            case _Code.CREATE:
                flags, mode = struct.unpack_from("<II", body)
                [name] = _names(body[16:])
                handle = os.open(name, flags | os.O_CREAT, mode & 0o7777, dir_fd=place)
                opened = struct.pack("<QI4x", handle, _DIRECT_IO)
                return self._made(number, name) + opened
            case _Code.MKNOD:
                mode, device = struct.unpack_from("<II", body)
                [name] = _names(body[16:])
                os.mknod(name, mode, device, dir_fd=place)
            case _Code.MKDIR:
                [name] = _names(body[8:])
                os.mkdir(name, struct.unpack_from("<I", body)[0], dir_fd=place)
            case _Code.SYMLINK:
                name, target = _names(body)
                os.symlink(target, name, dir_fd=place)
            case _Code.LINK:
                [name] = _names(body[8:])
                old = self._nodes[struct.unpack_from("<Q", body)[0]].path
                os.link(old, name, dst_dir_fd=place, follow_symlinks=True)
            case _Code.UNLINK | _Code.RMDIR:
                [name] = _names(body)
                remove = os.rmdir if code == _Code.RMDIR else os.unlink
                remove(name, dir_fd=place)
                return self._gone(number, name)
            case _Code.RENAME | _Code.RENAME2:
                return self._rename(code, number, body)
            case _:
                raise OSError(errno.ENOSYS, "not needed")
        return self._made(number, name)

    def _rename(self, code: int, number: int, body: bytes) -> bytes:
        other = struct.unpack_from("<Q", body)[0]
        if code == _Code.RENAME2 and struct.unpack_from("<8xI", body)[0]:
            raise OSError(errno.EINVAL, "no flags")
        old, new = _names(body[8 if code == _Code.RENAME else 16 :])
        places = self._nodes[number].descriptor, self._nodes[other].descriptor
        os.rename(old, new, src_dir_fd=places[0], dst_dir_fd=places[1])
        self._gone(number, old)
        self._ask_for(other, new)
        self._ask(other)
        return b""

    def _made(self, parent: int, name: str) -> bytes:
        self._ask(parent)
        number = self._ask_for(parent, name)
        if number is None:
            raise OSError(errno.ENOENT, name)
        return self._entry(number)

    def _gone(self, parent: int, name: str) -> bytes:
        self._ask(parent)
        self._ask_for(parent, name)
        return b""


def _names(body: bytes) -> list[str]:
    return [os.fsdecode(name) for name in body.rstrip(b"\0").split(b"\0")]


def _key(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _packed(status: os.stat_result) -> bytes:
    times = (status.st_atime_ns, status.st_mtime_ns, status.st_ctime_ns)
    return struct.pack(
        "<6Q10I",
        status.st_ino,
        status.st_size,
        status.st_blocks,
        *(time // 10**9 for time in times),
        *(time % 10**9 for time in times),
        status.st_mode,
        status.st_nlink,
        status.st_uid,
        status.st_gid,
        status.st_rdev,
        4096,
        0,
    )


def _file_system(found: os.statvfs_result) -> bytes:
    return struct.pack(
        "<5Q3I28x",
        *(found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree),
        *(found.f_bsize, found.f_namemax, found.f_frsize),
    )


def _serve(source: str, point: str, cache_s: str) -> None:
    """Mount, and do what is said on the standard input until that ends."""
    os.umask(0)
    try:
        device = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        print(f"there is no FUSE here: {error}", flush=True)
        return
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other"
    words = (b"tests", os.fsencode(point), b"fuse.tests", 0, options.encode())
    passthrough = _Passthrough(source, float(cache_s))
    if _libc.mount(*words):
        print(f"cannot mount: {os.strerror(ctypes.get_errno())}", flush=True)
        return
    serving = threading.Thread(target=passthrough.serve, args=(device,), daemon=True)
    serving.start()
    try:
        print("mounted", flush=True)
        for line in sys.stdin:
            _obey(passthrough, *line.rstrip("\n").split(" ", 1))
            print("done", flush=True)
    finally:
        _libc.umount2(os.fsencode(point), _DETACH)


def _obey(passthrough: _Passthrough, verb: str, word: str = "") -> None:
    match verb:
        case "fail":
            passthrough.fault = int(word)
        case "hang":
            passthrough.answers.clear()
        case "break":
            passthrough.broken.add(word)
        case "heal":
            passthrough.fault = 0
            passthrough.broken.clear()
            passthrough.answers.set()


class RemoteDirectory:
    """The mount of a directory on one host."""

    def __init__(self, source: Path, point: Path, cache_s: float) -> None:
        words = [sys.executable, __file__, str(source), str(point), str(cache_s)]
        self._process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        #: Why it is not there, if it is not.
        said = self._hear()
        self.problem = None if said == "mounted" else said

    def fail(self, number: int) -> None:
        """Answer with this error number whatever is asked, until `heal`."""
        self._say(f"fail {number}")

    def hang(self) -> None:
        """Answer nothing until `heal`."""
        self._say("hang")

    def break_file(self, name: str) -> None:
        """Let nobody read the files of this name until `heal`."""
        self._say(f"break {name}")

    def heal(self) -> None:
        """Be well again."""
        self._say("heal")

    def close(self) -> None:
        """Unmount."""
        with suppress(BrokenPipeError):
            self.heal()
        self._process.communicate()

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        self._hear()

    def _hear(self) -> str:
        assert self._process.stdout is not None
        assert select.select([self._process.stdout], [], [], PATIENCE_S)[0]
        return self._process.stdout.readline().rstrip("\n")


@contextmanager
def remote_directory(
    source: Path, point: Path, cache_s: float = 1
) -> Iterator[RemoteDirectory]:
    """Show `source` at `point` as the file system of a type that brings no events."""
    import pytest  # noqa: PLC0415 -- not in the process of the mount

    mount = RemoteDirectory(source, point, cache_s)
    try:
        if mount.problem is not None:
            pytest.skip(mount.problem)
        yield mount
    finally:
        mount.close()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
