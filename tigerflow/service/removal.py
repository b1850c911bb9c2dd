"""Delete an input after processing, unless a newer version has taken its name.

The name first moves into a directory of ours beside it, where nothing can replace the
file while it is checked. It is opened, which asks the file server, and deleted if it is
the version that was processed; otherwise it is moved back. After a crash, the next
start moves back what is left there.
"""

import contextlib
import errno
import hashlib
import os
from pathlib import Path

from tigerflow.log import logger
from tigerflow.naming import printable
from tigerflow.rundir.signatures import Signature, signature_of

#: Begins the name of such a directory, which ends in what its run directory is.
_PREFIX = ".tigerflow-removed-"

#: Where there are no hard links: vfat, some file systems in user space.
_NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK})


class InputRemoval:
    """Removes inputs of one run."""

    def __init__(self, input_dir: Path, run_dir: Path) -> None:
        """Remove files of `input_dir` for the run in `run_dir`."""
        self._input_dir = input_dir
        digest = hashlib.blake2b(os.fsencode(run_dir.resolve()), digest_size=6)
        self._place = input_dir / f"{_PREFIX}{digest.hexdigest()}"

    def remove(self, name: str, signature: Signature) -> None:
        """Remove a file if it is the one of that signature.

        Raises:
            OSError: it cannot be removed.
        """
        path = self._input_dir / name
        if _signature(path) != signature:
            return
        link = signature_of(path.lstat()) if path.is_symlink() else None
        self._place.mkdir(mode=0o700, exist_ok=True)
        moved = self._place / name
        path.rename(moved)
        # From there, a link may lead elsewhere.
        now = _signature(moved) if link is None else signature_of(moved.lstat())
        if now == (signature if link is None else link):
            moved.unlink()
        else:
            _put_back(moved, path)
        self._clear()

    def recover(self) -> None:
        """Put back what a crash has left half removed."""
        try:
            left = list(self._place.iterdir())
        except OSError:
            # None was made, or the directory cannot be read: that will be said.
            return
        for moved in left:
            try:
                _put_back(moved, self._input_dir / moved.name)
            except OSError as error:
                where = printable(str(moved))
                logger.warning("Cannot restore input file {}: {}", where, error)
        self._clear()

    def _clear(self) -> None:
        """Leave nothing of ours among the inputs."""
        with contextlib.suppress(OSError):
            self._place.rmdir()


def _signature(path: Path) -> Signature | None:
    """Return that of the file itself, not of what this host remembers of the name."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        # Gone, or not ours to read: then nobody has processed it.
        return None
    try:
        return signature_of(os.fstat(descriptor))
    finally:
        os.close(descriptor)


def _put_back(moved: Path, path: Path) -> None:
    """Give a file its name again, unless a later one has it, which replaces it."""
    try:
        os.link(moved, path, follow_symlinks=False)
    except FileExistsError:
        pass
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if not os.path.lexists(path):
            moved.rename(path)
            return
    moved.unlink()
