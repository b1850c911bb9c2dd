"""Which directories other hosts may change, and how late this host sees what they do.

By what Linux says is mounted, and by the options of nfs(5).
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path

#: For how long, in seconds, a host may remember how a file on NFS was: acregmin of
#: nfs(5), or acregmax where opening a file does not ask the server (nocto).
ACREGMIN_S, ACREGMAX_S = 3.0, 60.0

# inotify(7): remote changes are not seen. Lustre, GPFS and the like are the same.
_REMOTE_FILE_SYSTEMS = frozenset(
    "nfs nfs4 lustre gpfs cifs smb3 smbfs beegfs ceph afs 9p panfs wekafs".split(),  # noqa: SIM905 -- readable
)

#: Where Linux lists what is mounted; it writes a space as backslash, 0, 4, 0.
MOUNTS = Path("/proc/mounts")
_OCTAL = re.compile(rb"\\([0-7]{3})")


def remembered_for_s(directory: Path, mounts: Path = MOUNTS) -> float | None:
    """Return for how many seconds this host may show how a file was before a change.

    None where this host alone changes files, so that it gets an event for each change.
    """
    kind, options = _mount_of(directory, mounts)
    if kind in _REMOTE_FILE_SYSTEMS or kind.startswith("fuse."):
        return _remembered_s(options)
    return None


def _mount_of(directory: Path, mounts: Path) -> tuple[str, list[str]]:
    """Return the type of the file system that a directory is on, and its options."""
    try:
        lines = mounts.read_bytes().splitlines()
    except OSError:
        return "", []
    real = os.fsencode(os.path.realpath(directory))
    best, kind, options = b"", "", b""
    for line in lines:
        _, point, name, words, *_ = line.split(b" ")
        point = _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), point)
        inside = real == point or real.startswith(point.rstrip(b"/") + b"/")
        if inside and len(point) >= len(best):
            best, kind, options = point, name.decode(), words
    return kind, options.decode(errors="replace").split(",")


def _remembered_s(options: Iterable[str]) -> float:
    """Return for how long a host may show how a file was that is being written.

    Of what is not said, that of NFS without options.
    """
    given = dict(option.partition("=")[::2] for option in options)
    option, default_s = "acregmin", ACREGMIN_S
    if "nocto" in given:
        option, default_s = "acregmax", ACREGMAX_S
    try:
        return float(given.get("actimeo") or given.get(option) or default_s)
    except ValueError:
        return default_s
