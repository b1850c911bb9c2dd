"""Files that others can trust: whole or absent, on disk, dated right, read with care.

A result is written to a temporary file beside it and then renamed; what killed
processes leave of these is removed here. One module, long as it is: each function is a
few system calls and the reason for their order, and most build on two others here,
`create_temporary` and `open_regular`.
"""

import contextlib
import errno
import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from tigerflow.errors import (
    InputDirectoryError,
    OutputDirectoryError,
    StorageError,
    is_outage,
)
from tigerflow.naming import TEMP_PREFIX, temporary_name, temporary_owner
from tigerflow.settings import Settings

#: A temporary file of another host is left alone for this long: its owner may live.
FOREIGN_TEMPORARY_AGE_S = 24 * 3600

#: What this process could not remove, as its file server did not answer.
_LEFT: set[Path] = set()

#: Room that there must be for anything to be tried again: a small result, an `.err`.
PROBE_BYTES = 16 * 1024

_NOT_TO_BE_READ = frozenset({errno.ENOENT, errno.EACCES, errno.ELOOP, errno.ENXIO})

#: What file systems say that have nothing of the kind.
_CANNOT_SYNC = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})

#: How files are opened in whose place others may have put something else.
_CAREFULLY = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW

#: The mode of a new file, before the umask.
_ANY = 0o666

#: See `readers_of`.
ALL_READERS = 0o777


def readers_of(path: Path) -> int:
    """Return a mask for modes: what they may leave to those that may read `path`.

    All, when there is no such file. Who may write is left to the umask.
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        return ALL_READERS
    group = stat.S_IRWXG if mode & stat.S_IRGRP else 0
    others = stat.S_IRWXO if mode & stat.S_IROTH else 0
    return stat.S_IRWXU | group | others


def open_as_private(path: str, flags: int) -> int:
    """Open a file that, when it is new, has no more readers than its directory.

    An `opener` for `open`.
    """
    mode = _ANY & readers_of(Path(path).parent)
    return open_regular(path, flags, mode)


def open_regular(path: str, flags: int, mode: int = _ANY) -> int:
    """Open a regular file in a place where others may have put something else.

    A FIFO would be waited for, and a link lead anywhere. An `opener` for `open`.

    Raises:
        OSError: it is no regular file, or cannot be opened.
    """
    try:
        descriptor = os.open(path, flags | _CAREFULLY, mode)
    except OSError as error:
        if error.errno == errno.ENXIO:
            # A FIFO that nobody reads.
            raise _not_regular(path) from error
        raise
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    raise _not_regular(path)


def _not_regular(path: str) -> OSError:
    name = os.path.basename(path)  # noqa: PTH119 -- a text
    return OSError(errno.EINVAL, f"{name} is not a regular file", path)


def read_regular(path: Path, limit: int) -> tuple[str, int]:
    """Return up to `limit` bytes of a file, as text, and how many it has.

    Raises:
        OSError: as of `open_regular`.
    """
    with open(path, "rb", buffering=0, opener=open_regular) as file:
        data = file.read(limit)
        return (data or b"").decode(errors="replace"), os.fstat(file.fileno()).st_size


def append_to(path: Path) -> BinaryIO:
    """Open a log as `open_as_private` does, to append to it."""
    return open(path, "ab", opener=open_as_private)


def narrow(path: Path, readers: int) -> None:
    """Take the rights to a file or directory from all but its owner and `readers`.

    One that is missing or that belongs to somebody else stays as it is.
    """
    with contextlib.suppress(OSError):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & ~readers & 0o077:
            path.chmod(mode & ~(~readers & 0o077))


def create_temporary(
    target: Path, extension: str | None = None, readers: int = ALL_READERS
) -> Path:
    """Create an empty temporary file beside `target` and return its path.

    It ends in `extension`; without that, in the last suffix of `target`. Its mode
    follows the umask, as any new file's does, within `readers`; see `readers_of`.
    """
    for left in list(_LEFT):
        discard(left)
    path = target.with_name(temporary_name(target.name, extension))
    flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC
    os.close(os.open(path, flags, _ANY & readers))
    return path


def break_hard_links(path: Path) -> None:
    """Make a file one of its own: to date or change it touches no other name of it.

    Raises:
        OSError: it cannot be copied; then it is as it was.
    """
    if path.stat().st_nlink == 1:
        return
    copy = create_temporary(path)
    try:
        shutil.copyfile(path, copy)
        sync_file(copy)
        copy.replace(path)
    except BaseException:
        discard(copy)
        raise


def write_atomic(
    path: Path, text: str, readers: int = ALL_READERS, *, sync: bool = False
) -> None:
    """Write a text file that is there whole or not at all, also after a crash.

    With `sync`, after a power cut, too. `readers` bounds its mode; see `readers_of`.
    """
    temporary = create_temporary(path, readers=readers)
    try:
        temporary.write_text(text, encoding="utf-8")
        if sync:
            sync_file(temporary)
        temporary.replace(path)
    except BaseException:
        discard(temporary)
        raise


def sync_file(path: Path) -> None:
    """Return when the content of a file is on disk, unless TIGERFLOW_FSYNC is 0.

    So a name that it gets then can never, after a power cut, be that of an empty file
    or of a part. What is no regular file, or may not be read, is left alone.

    Raises:
        OSError: the disk does not take it.
    """
    _sync(path, os.O_NOFOLLOW | os.O_NONBLOCK, _sync_content)


def sync_directory(path: Path) -> None:
    """Return when the names in a directory are on disk, unless TIGERFLOW_FSYNC is 0.

    Raises:
        OSError: the disk does not take them.
    """
    _sync(path, os.O_DIRECTORY, os.fsync)


def _sync(path: Path, flags: int, sync: Callable[[int], None]) -> None:
    if not Settings.from_environment().fsync:
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | flags)
    except OSError as error:
        if error.errno in _NOT_TO_BE_READ:
            return
        raise
    try:
        sync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)


def _sync_content(descriptor: int) -> None:
    # An empty file is whole as soon as it is there.
    if os.fstat(descriptor).st_size:
        os.fdatasync(descriptor)


def write_over(path: Path, text: str) -> None:
    """Put a text in the place of one that is as long, or into a new file.

    The file is neither replaced nor cut: that would take room, and its readers know its
    handle.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, text.encode("ascii"))
    finally:
        os.close(descriptor)


def storage_problem(directory: Path) -> OSError | None:
    """Try to store a small result; return why that is impossible, or None."""
    try:
        path = create_temporary(directory / "probe")
    except OSError as error:
        return error
    try:
        path.write_bytes(bytes(PROBE_BYTES))
    except OSError as error:
        return error
    finally:
        discard(path)
    return None


def listing_problem(directory: Path) -> OSError | None:
    """Return why what is in a directory cannot be seen or reached, or None."""
    try:
        with os.scandir(directory) as entries:
            next(entries, None)
        os.stat(f"{directory}/.")  # noqa: PTH116 -- keeps the dot
    except OSError as error:
        return error
    return None


def trouble_with(
    input_dir: Path, output_dir: Path, state_dir: Path
) -> StorageError | None:
    """Return why inputs cannot be read or results not be stored; None if both can.

    Args:
        input_dir: the directory of the inputs, which is listed.
        output_dir: the directory of the results, which the error names.
        state_dir: where a file is written to find out; below `output_dir`, or the same.
    """
    if (problem := storage_problem(state_dir)) is not None:
        return OutputDirectoryError(output_dir, problem)
    if (problem := listing_problem(input_dir)) is not None:
        return InputDirectoryError(input_dir, problem)
    return None


def write_json(path: Path, value: Mapping[str, Any], *, sync: bool = False) -> None:
    """Write one JSON object, indented for readers; lone surrogates are escaped."""
    write_atomic(path, json.dumps(value, indent=2) + "\n", sync=sync)


def discard(path: Path) -> None:
    """Remove a temporary file, or what a task put in its place, where possible.

    While the file server does not answer, it is not: then it is tried again later.
    """
    _LEFT.discard(path)
    try:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    except OSError as error:
        if is_outage(error):
            _LEFT.add(path)


def date_not_before(path: Path, other: Path) -> None:
    """Date a file no earlier than `other`, where both are there and that is allowed.

    So that no result is older than its input: that may come from a clock that is ahead,
    or have its time in finer steps than the file system of the result.
    """
    with contextlib.suppress(OSError):
        date_not_before_ns(path, other.stat().st_mtime_ns)


def date_not_before_ns(path: Path, earliest: int) -> None:
    """Date a file no earlier than that, in ns since the epoch.

    Raises:
        OSError: it is gone, or belongs to somebody else.
    """
    if path.stat().st_mtime_ns < earliest:
        second = 1_000_000_000
        whole = -(-earliest // second) * second
        os.utime(path, ns=(whole, whole))


def see_anew(path: Path) -> bool:
    """Have this host see a file that another has made or changed; tell whether it does.

    It may remember that there was none, or what was there before. By nfs(5), opening a
    file asks the server about it, and opening a directory about the entries in it.
    """
    if _can_be_opened(path):
        return True
    with contextlib.suppress(OSError), os.scandir(path.parent) as entries:
        # Not all of them, unless it takes that: there may be very many.
        next(entries, None)
    if _can_be_opened(path):
        return True
    with contextlib.suppress(OSError):
        os.listdir(path.parent)  # noqa: PTH208 -- thousands
    return _can_be_opened(path)


def see_gone(path: Path) -> bool:
    """Have this host see that another has removed a file; tell whether it does."""
    return not _can_be_opened(path)


def _can_be_opened(path: Path) -> bool:
    try:
        # What is no regular file might wait for somebody at its other end.
        os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def remove_abandoned_temporaries(directory: Path) -> None:
    """Remove the temporary files of processes that are gone.

    Call it before this process makes any: in a container, its predecessor may have
    had the same process id.

    Raises:
        OutputDirectoryError: the directory cannot be listed.
    """
    try:
        _remove_temporaries(directory, _is_abandoned)
    except OSError as error:
        raise OutputDirectoryError(directory, error) from error


def remove_temporaries_of(directory: Path, pid: int, host: str | None = None) -> None:
    """Remove the temporary files of a process that ends or has ended.

    It was on `host`; without that, on this one.
    """
    owner = (True, pid)
    # Gone with its directory: nothing is left to remove.
    with contextlib.suppress(OSError):
        _remove_temporaries(
            directory, lambda entry: temporary_owner(entry.name, host) == owner
        )


def _remove_temporaries(
    directory: Path,
    chosen: Callable[[os.DirEntry[str]], bool],
) -> None:
    with os.scandir(directory) as entries:
        paths = [
            Path(entry.path)
            for entry in entries
            if TEMP_PREFIX in entry.name and chosen(entry)
        ]
    for path in paths:
        discard(path)


def _is_abandoned(entry: os.DirEntry[str]) -> bool:
    owner = temporary_owner(entry.name)
    if owner is not None and owner[0]:
        return owner[1] == os.getpid() or not process_is_alive(owner[1])
    with contextlib.suppress(OSError):
        return time.time() - entry.stat().st_mtime > FOREIGN_TEMPORARY_AGE_S
    return False


def process_is_alive(pid: int) -> bool:
    """Tell whether a process of this id runs on this host."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
