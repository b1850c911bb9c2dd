"""Who may talk to a worker host, and what it makes of nonsense."""

import asyncio
import contextlib
import os
import pwd
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from runs import finish, wait_until

from tigerflow.settings import Settings
from tigerflow.workers import client
from tigerflow.workers.client import HostError
from tigerflow.workers.dispatch.host import Host

COPY = """
    class Work(LocalTask):
        def run(context, input_file, output_file):
            output_file.write_text(input_file.read_text())
"""
_CONNECT = """
import socket, sys
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[1])
except OSError as error:
    print(type(error).__name__)
"""
needs_root = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("setpriv") is None,
    reason="only root can be somebody else",
)


@pytest.fixture
def run(world):
    run = world.run()
    run.add_task(COPY)
    return run


def _socket_of(run):
    (path,) = (path for path in run.runtime_files() if path.suffix == ".sock")
    return path


def _connect(run):
    with contextlib.chdir(run.path):
        return client.connect()


def test_only_the_owner_may_enter_the_directory_and_use_the_socket(run):
    run.process("a")
    path = _socket_of(run)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_uid == os.getuid()


@needs_root
def test_another_user_cannot_connect(run):
    run.process("a")
    nobody = pwd.getpwnam("nobody")
    words = ["setpriv", f"--reuid={nobody.pw_uid}", "--clear-groups"]
    python = shutil.which("python3", path="/usr/bin") or sys.executable
    done = subprocess.run(
        [*words, python, "-c", _CONNECT, str(_socket_of(run))],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "PermissionError\n"


@pytest.fixture
def places(tmp_path, monkeypatch):
    """Directories in the place of those for sockets, in order; none is there yet."""
    made = [tmp_path / "first", tmp_path / "second"]
    # The real ones are in use by all runs of this user.
    monkeypatch.setattr(client, "_places", lambda: [*map(str, made)])
    return made


@pytest.mark.parametrize("mode", [0o777, 0o750, 0o701])
def test_directory_that_others_may_enter_is_not_used(places, mode):
    first, second = places
    first.mkdir()
    first.chmod(mode)
    assert client.runtime_directory() == str(second)


@needs_root
def test_directory_of_somebody_else_is_not_used(places):
    first, second = places
    first.mkdir(mode=0o700)
    os.chown(first, 4_000_001, -1)
    assert client.runtime_directory() == str(second)


def test_link_in_place_of_the_directory_is_not_used(places, tmp_path):
    first, second = places
    (tmp_path / "mine").mkdir(mode=0o700)
    first.symlink_to(tmp_path / "mine")
    assert client.runtime_directory() == str(second)


def test_missing_private_directory_is_explained(places):
    for place in places:
        place.mkdir()
        place.chmod(0o777)
    with pytest.raises(HostError) as caught:
        client.runtime_directory()
    assert str(caught.value) == (
        f"{places[0]} is not private to you; remove it, or set "
        "XDG_RUNTIME_DIR to a directory that is"
    )


def test_socket_is_found_in_the_directory_where_it_was_made(places, run):
    first, second = places
    first.mkdir()
    first.chmod(0o777)
    with contextlib.chdir(run.path):
        path = client.socket_path()
        Path(path).touch()
        # A better place is free again.
        first.rmdir()
        assert Path(path).parent == second
        assert client.socket_path() == path
    Path(path).unlink()


def test_host_makes_again_what_a_cleaner_has_removed(world, run):
    run.add_task(COPY)
    run.add_task(COPY, "other")
    assert run.process("a") == (0, "")
    (host,) = world.processes("dispatch.host")
    with contextlib.chdir(run.path):
        path = Path(client.socket_path())
    before = {each for each in run.runtime_files() if each.suffix != ".lock"}
    assert {path, Path(f"{path}.alive")} <= before
    for each in run.runtime_files():
        each.unlink()

    wait_until(lambda: before <= set(run.runtime_files()), "they are there again")
    # The same host, with a worker that starts now.
    assert run.process("b", "other") == (0, "")
    assert world.processes("dispatch.host") == [host]
    assert run.stop() == ""


def test_host_ends_in_order_where_nothing_can_be_made_again(tmp_path, monkeypatch):
    # A socket's address must be short.
    monkeypatch.chdir(tmp_path)
    place = Path("sockets")
    place.mkdir(mode=0o700)

    def replace_the_place(host):
        shutil.rmtree(place)
        place.touch()
        host.stop()

    async def serve_and_stop():
        host = Host(client.listen(f"{place}/host.sock"), Settings())
        asyncio.get_running_loop().call_soon(replace_the_place, host)
        await host.serve()

    asyncio.run(serve_and_stop())
    assert place.is_file()


def test_client_outside_a_run_directory_says_so(world, run):
    elsewhere = world.directory / "elsewhere"
    elsewhere.mkdir()
    run.path = elsewhere
    code, said = run.process("a")
    run.path = world.directory / "run"
    assert (code, said) == (
        1,
        "tigerflow: this is not a run directory: it contains no .tigerflow\n",
    )


def test_run_directory_without_a_place_for_logs_is_explained(run):
    (run.path / ".tigerflow" / "logs").touch()
    code, said = run.process("a")
    assert code == 1
    assert said.startswith("tigerflow: cannot start the worker host: ")
    assert "Traceback" not in said
    for path in run.runtime_files():
        path.unlink()


def test_fifo_in_place_of_the_log_of_the_host_is_not_waited_for(run):
    logs = run.path / ".tigerflow" / "logs"
    logs.mkdir()
    os.mkfifo(logs / "host.log")
    code, said = run.process("a")
    assert code == 1
    assert said.startswith("tigerflow: cannot start the worker host: ")
    assert "host.log" in said
    for path in run.runtime_files():
        path.unlink()


def test_host_that_cannot_start_is_explained(world, run):
    package = world.directory / "broken" / "tigerflow"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('half an installation')")
    run.environment["PYTHONPATH"] = str(package.parent)
    assert run.process("a") == (
        1,
        "tigerflow: the worker host ends at once; see .tigerflow/logs/host.log\n",
    )
    assert "half an installation" in run.log("host")
    for path in run.runtime_files():
        path.unlink()


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0\0",
        b"\0\0\0\0",
        b"\xff\xff\xff\xff and so on",
        b"\0\0\0\x03run",
        b"\0\0\0\x0crun\0a\0b\0c\0d\0e",
        b"GET / HTTP/1.1\r\n\r\n",
    ],
)
def test_nonsense_on_a_connection_harms_no_other_client(world, run, payload):
    run.process("a")
    with _connect(run) as connection:
        connection.sendall(payload)
    assert run.process("b") == (0, "")
    assert len(world.processes("dispatch.host")) == 1


def test_silent_client_does_not_delay_the_end(world, run):
    run.process("a")
    connection = _connect(run)
    assert run.stop() == ""
    wait_until(lambda: not world.processes("dispatch.host"))
    connection.close()


def test_stale_socket_of_a_killed_host_is_replaced(world, run):
    run.process("a")
    (host,) = world.processes("dispatch.host")
    os.kill(host, 9)
    wait_until(lambda: not world.processes("workers."))
    assert _socket_of(run).exists()
    clients = [run.start(stem) for stem in "bcdef"]
    assert [finish(each) for each in clients] == [(0, "")] * 5
    assert len(world.processes("dispatch.host")) == 1


def test_module_in_the_run_directory_is_not_imported_as_ours(run):
    (run.path / "tigerflow.py").write_text("raise SystemExit('not this one')")
    (run.path / "socket.py").write_text("raise SystemExit('nor this')")
    assert run.process("a") == (0, "")


def test_slurm_job_has_a_host_of_its_own(world, run):
    run.process("a")
    run.environment["SLURM_JOB_ID"] = "4711"
    assert run.process("b") == (0, "")
    assert len(world.processes("dispatch.host")) == 2
    run.end_owner()
    wait_until(lambda: not world.processes("tigerflow"))
    assert _all_sockets(run) == []


def _all_sockets(run):
    with contextlib.chdir(run.path):
        path = Path(client.socket_path())
    return list(path.parent.glob(f"{path.stem}*"))


def test_file_after_a_new_compilation_gets_a_worker_with_the_new_task(run):
    run.process("a")
    run.add_task(COPY.replace("input_file.read_text()", "'new code'"), threads=2)
    assert run.process("b") == (0, "")
    assert run.output("b").read_text() == "new code"
