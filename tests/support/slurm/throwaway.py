"""A Slurm that is made in seconds and leaves nothing."""

import contextlib
import os
import pwd
import secrets
import shutil
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from slurm import configuration
from slurm.configuration import ACCOUNTS, HEAD, NODES
from slurm.hosts import Host, can_make_hosts, kill_hosts, run, succeeds, wait_until

#: One for each checkout, and short: it has sockets. A start ends what was there.
DIRECTORY = Path(f"/tmp/tigerflow-slurm-{zlib.crc32(__file__.encode()):08x}")

_PROGRAMS = (
    "munged",
    "mariadb",
    "mariadbd",
    "mariadb-install-db",
    "slurmdbd",
    "slurmctld",
    "slurmd",
    "sbatch",
    "unshare",
    "nsenter",
    "useradd",
    "userdel",
    "pkill",
)

#: Speed; nothing of it needs to survive.
_MARIADB = (
    "--no-defaults",
    "--user=root",
    "--innodb-log-file-size=8M",
    "--innodb-flush-log-at-trx-commit=0",
    "--innodb-flush-method=nosync",
    "--innodb-doublewrite=0",
    "--performance-schema=0",
)


def what_is_missing() -> str | None:
    """Say why there can be no cluster here, and how to get one; or nothing."""
    if os.geteuid() != 0:
        return "a Slurm for tests needs root: sudo make test"
    path = _environment()["PATH"]
    missing = [name for name in _PROGRAMS if not shutil.which(name, path=path)]
    if missing:
        install = "sh tests/system-packages.sh slurm"
        return f"a Slurm for tests needs {', '.join(missing)}: {install}"
    if not can_make_hosts():
        return "a Slurm for tests needs namespaces: run the container as privileged"
    return None


class Cluster:
    """A Slurm with four nodes, accounting and a database, all in `directory`.

    Its controllers run on the host `head`, and each node is a host of its own.
    """

    def __init__(self, directory: Path = DIRECTORY) -> None:
        self.directory = directory
        #: An ordinary user, whom `add_guest` makes and `stop` removes.
        self.guest = f"tigerflow-{zlib.crc32(str(directory).encode()):08x}"
        self.head = Host(directory, HEAD)
        self.nodes = {name: Host(directory, name) for name in NODES}
        self._claims = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def variables(self) -> dict[str, str]:
        """What Slurm's commands need in their environment to find this cluster."""
        return {"SLURM_CONF": str(self.directory / "etc" / "slurm.conf")}

    @property
    def environment(self) -> dict[str, str]:
        """The environment of one who logs in to this cluster."""
        return _environment() | self.variables

    @property
    def is_running(self) -> bool:
        return self.head.pid is not None

    def start(self) -> None:
        """Start it anew; what is left of one in this directory goes first."""
        self.stop()
        try:
            self._make_directory()
            for host in (self.head, *self.nodes.values()):
                host.start()
            self.head.until_up()
            self._start_munge()
            self._start_database()
            self.start_slurmdbd()
            self._make_accounts()
            self.start_slurmctld()
            for name in NODES:
                self.start_slurmd(name)
            wait_until(self._all_are_idle, "all nodes are idle")
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Remove it, whatever of it there is."""
        kill_hosts(self.directory)
        self._claims.close()
        if self._has_guest():
            run("userdel", self.guest)
        if self.directory.exists():
            shutil.rmtree(self.directory)

    def call(self, *command: object, **more: Any) -> str:
        """Run a command as one who is logged in; return what it printed."""
        return run(*command, env=self.environment, **more)

    def submit(self, *options: object, command: str, **more: Any) -> str:
        """Submit a job; return its id."""
        words = ["sbatch", "--parsable", *options, "--wrap", command]
        return self.call(*words, **more).strip()

    def jobs(self) -> list[str]:
        """Return the ids of the jobs that wait or run, the first submitted first."""
        said = self.call("squeue", "--noheader", "--format=%A")
        return sorted(said.split(), key=int)

    def details(self, job: str) -> dict[str, str]:
        """Return what slurmctld has of a job that waits or runs, or just did."""
        said = self.call("scontrol", "--oneliner", "show", "job", job)
        pairs = (word.partition("=") for word in said.split())
        # Older ones write gres:gpu.
        return {name: value.replace("gres:", "gres/") for name, _, value in pairs}

    @contextlib.contextmanager
    def reservation(self, name: str, node: str) -> Iterator[None]:
        """Keep a node for the jobs that ask for a reservation."""
        words = ("users=root", "starttime=now", "duration=UNLIMITED", f"nodes={node}")
        self.call(
            "scontrol", "create", "reservation", f"reservationname={name}", *words
        )
        try:
            yield
        finally:
            # With jobs in it, it cannot go.
            if jobs := self.jobs():
                self.call("scancel", *jobs)
            wait_until(lambda: not self.jobs(), "no job is left")
            self.call("scontrol", "delete", f"reservationname={name}")

    @contextlib.contextmanager
    def qos(self, name: str, *limits: str) -> Iterator[None]:
        """Have a quality of service with limits, which all may use."""
        self._administer("add", "qos", name, *limits)
        self._administer("modify", "user", "root", "set", f"qos+={name}")
        try:
            # Slurm learns of it a moment later.
            look = ("sbatch", "--test-only", f"--qos={name}", "--time=1", "--wrap=true")
            wait_until(lambda: succeeds(self.call, *look), f"there is a QOS {name}")
            yield
        finally:
            if jobs := self.jobs():
                self.call("scancel", *jobs)
            wait_until(lambda: not self.jobs(), "no job is left")
            self._administer("delete", "qos", name)

    def state(self, job: str) -> str:
        """Return the state of a job as the database has it; "" when it has none."""
        words = ["sacct", "--noheader", "--parsable2", "--allocations"]
        return self.call(*words, "--format=State", "--jobs", job).strip()

    # --- Trouble, and the end of it.

    def start_slurmd(self, name: str) -> None:
        """Start a node's daemon, and the node when it is down."""
        node = self.nodes[name]
        if node.pid is None:
            node.start()
        node.until_up()
        node.start_daemon("slurmd", "-D", "-N", name, env=self.environment)

    def stop_slurmd(self, name: str) -> None:
        """Stop a node's daemon; the processes of its jobs go on."""
        node = self.nodes[name]
        node.signal("slurmd", "KILL")
        wait_until(lambda: not node.runs("slurmd"), f"slurmd of {name} has ended")

    def crash(self, name: str) -> None:
        """Take the power from a node."""
        self.nodes[name].kill()

    @contextlib.contextmanager
    def hidden(self, name: str, directory: Path) -> Iterator[None]:
        """Have a node not see a directory, as if its file system were not mounted."""
        self.nodes[name].run("mount", "-t", "tmpfs", "none", directory)
        try:
            yield
        finally:
            self.nodes[name].run("umount", directory)

    def start_slurmctld(self) -> None:
        self.head.start_daemon("slurmctld", "-D", env=self.environment)
        wait_until(lambda: succeeds(self.call, "scontrol", "ping"), "slurmctld answers")

    def stop_slurmctld(self) -> None:
        self.head.signal("slurmctld", "TERM")
        wait_until(lambda: not self.head.runs("slurmctld"), "slurmctld has ended")

    def restart_slurmctld(self) -> None:
        self.stop_slurmctld()
        self.start_slurmctld()

    def start_slurmdbd(self) -> None:
        # No setting of slurmdbd names the database's socket.
        env = self.environment | {"MYSQL_UNIX_PORT": str(self._database_socket)}
        self.head.start_daemon("slurmdbd", "-D", env=env)
        look = ("sacctmgr", "--noheader", "list", "cluster")
        wait_until(lambda: succeeds(self.call, *look), "slurmdbd answers")

    def stop_slurmdbd(self) -> None:
        self.head.signal("slurmdbd", "KILL")
        wait_until(lambda: not self.head.runs("slurmdbd"), "slurmdbd has ended")

    def restore(self) -> None:
        """End all trouble and all jobs, whoever made them."""
        if not self.head.runs("slurmdbd"):
            self.start_slurmdbd()
        if not self.head.runs("slurmctld"):
            self.start_slurmctld()
        for name, node in self.nodes.items():
            if not node.runs("slurmd"):
                self.start_slurmd(name)
        if jobs := self.jobs():
            self.call("scancel", *jobs)
        wait_until(lambda: not self.jobs() and self._all_are_idle(), "all is quiet")

    # --- Another user.

    def add_guest(self) -> str:
        """Make another user of the cluster; return the name."""
        run("useradd", "--no-create-home", "--shell", "/bin/sh", self.guest)
        self._administer("add", "user", self.guest, f"account={ACCOUNTS[0]}")
        return self.guest

    def remove_guest(self) -> None:
        """Remove that user, who has no process any more."""
        self._administer("delete", "user", self.guest)
        run("userdel", self.guest)

    def _has_guest(self) -> bool:
        return any(entry.pw_name == self.guest for entry in pwd.getpwall())

    # --- Steps of the start.

    def _make_directory(self) -> None:
        # Others may pass: guests are users of the cluster too.
        parts = ("etc", "munge", "ctld", "spool", "dev", "log", "database", "tmp")
        for part in ("", *parts):
            (self.directory / part).mkdir()
        null = Path("/dev/null").stat().st_rdev
        for file in configuration.gpu_files(self.directory):
            os.mknod(file, stat.S_IFCHR | 0o666, null)
        ports = configuration.Ports.claim(self._claims)
        configuration.write(self.directory, ports, self._version())

    def _start_munge(self) -> None:
        munge = self.directory / "munge"
        key = munge / "key"
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
        options = {
            "key-file": key,
            "socket": munge / "socket",
            "pid-file": munge / "pid",
            "log-file": self.directory / "log" / "munge",
            "seed-file": munge / "seed",
        }
        words = [f"--{name}={value}" for name, value in options.items()]
        self.head.start_daemon("munged", "--foreground", *words, env=self.environment)
        wait_until((munge / "socket").exists, "munged listens")

    def _start_database(self) -> None:
        # It names temporary files by its process id: on each head, the same.
        places = (
            f"--datadir={self.directory}/database",
            f"--tmpdir={self.directory}/tmp",
        )
        self.head.run(
            "mariadb-install-db",
            *_MARIADB,
            *places,
            "--skip-test-db",
            "--skip-name-resolve",
            "--auth-root-authentication-method=normal",
            env=self.environment,
        )
        self.head.start_daemon(
            "mariadbd",
            *_MARIADB,
            *places,
            f"--socket={self._database_socket}",
            "--skip-networking",
            env=self.environment,
        )
        wait_until(self._database_socket.exists, "the database listens")
        # Newer ones of slurmdbd do not make it themselves.
        create = ("--execute=CREATE DATABASE IF NOT EXISTS slurm",)
        words = ("mariadb", "--user=root", f"--socket={self._database_socket}", *create)
        wait_until(lambda: succeeds(self.call, *words), "there is a database")

    def _make_accounts(self) -> None:
        file = self.directory / "etc" / "accounts"
        file.write_text(configuration.accounts())
        self._administer("add", "qos", configuration.QOS)
        self._administer("load", f"file={file}")

    def _administer(self, *words: str) -> None:
        """Change what the database has of accounts and users."""
        self.call("sacctmgr", "--immediate", *words)

    # --- Looks.

    def _version(self) -> tuple[int, int]:
        """Return the version of Slurm, such as (22, 5)."""
        # slurm-wlm 22.05.8
        numbers = self.call("slurmd", "-V").split()[1].split(".")
        return int(numbers[0]), int(numbers[1])

    @property
    def _database_socket(self) -> Path:
        return self.directory / "database" / "socket"

    def _all_are_idle(self) -> bool:
        states = self.call("sinfo", "--noheader", "--Node", "--format=%T")
        return set(states.split()) == {"idle"}


def _environment() -> dict[str, str]:
    """The environment, without another cluster, and with administrators' programs."""
    ours = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SLURM_", "SBATCH_", "SACCT_", "SQUEUE_"))
    }
    return ours | {"PATH": f"{ours['PATH']}:/usr/local/sbin:/usr/sbin:/sbin"}
