"""Two hosts that share directories of a file server, each with what it remembers.

A host is a mount namespace with a name of its own. What a test sees is what the server
has.
"""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from remote import RemoteDirectory, remote_directory

#: Where Python finds what replaces a scheduler.
MAILBOXES = Path(__file__).parent / "mailboxes"

_ENTER = """
set -e
name=$1 count=$2
shift 2
hostname "$name"
while [ "$count" -gt 0 ]; do
    mount --bind "$1" "$2"
    shift 2
    count=$((count - 1))
done
cd "$PWD"
exec "$@"
"""


@dataclass(frozen=True)
class Host:
    """One of the hosts."""

    name: str
    #: By directory: where its view of it is mounted, and that mount.
    mounts: dict[Path, tuple[Path, RemoteDirectory]]

    @property
    def prefix(self) -> list[str]:
        """Return the words that have a command run on this host."""
        places = [
            str(path)
            for directory, (point, _) in self.mounts.items()
            for path in (point, directory)
        ]
        words = [self.name, str(len(self.mounts)), *places]
        return ["unshare", "--mount", "--uts", "sh", "-c", _ENTER, "sh", *words]

    def fail(self, number: int) -> None:
        """Let all that it asks the server fail, until `heal`."""
        for _, mount in self.mounts.values():
            mount.fail(number)

    def hang(self) -> None:
        """Let it have no answer from the server until `heal`."""
        for _, mount in self.mounts.values():
            mount.hang()

    def heal(self) -> None:
        """Let the server answer again."""
        for _, mount in self.mounts.values():
            mount.heal()


@contextmanager
def two_hosts(
    place: Path, shared: Sequence[Path], cache_s: float
) -> Iterator[tuple[Host, Host]]:
    """Have two hosts that share these directories, and what they need in `place`."""
    with ExitStack() as stack:
        hosts = []
        for name in ("one", "two"):
            mounts = {}
            for directory in shared:
                directory.mkdir(exist_ok=True)
                point = place / f"host {name}" / directory.name
                point.mkdir(parents=True)
                mount = remote_directory(directory, point, cache_s)
                mounts[directory] = (point, stack.enter_context(mount))
            hosts.append(Host(name, mounts))
        _check_namespaces(hosts[0])
        yield hosts[0], hosts[1]


def _check_namespaces(host: Host) -> None:
    done = subprocess.run(
        [*host.prefix, "true"], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"there can be no second host: {done.stderr.strip()}")


def jobs_on(host: Host) -> dict[str, str]:
    """Return the environment of a service on one host whose jobs run on another."""
    path = os.pathsep.join([str(MAILBOXES), os.environ.get("PYTHONPATH", "")])
    words = json.dumps(host.prefix)
    return {"PYTHONPATH": path.rstrip(os.pathsep), "TEST_SECOND_HOST": words}
