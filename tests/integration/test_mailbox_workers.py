"""Workers behind mailboxes do what those behind sockets do: the same tests, again."""

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import test_children
import test_task_logging
import test_worker_deaths
import test_workers
from mounts import small_disk
from runs import Run, World, finish, wait_until

_PATH = Path(__file__).parents[1] / "support" / "mailboxes"

#: What has nothing to do with how a worker is reached.
_APART = {
    "test_answers_of_a_worker_that_died_are_heard_though_more_is_sent_to_it",
    "test_any_run_directory_works",
    "test_clients_that_start_at_once_share_one_host",
    "test_command_of_a_task_leaves_its_loggers_alone",
    "test_context_is_frozen_in_run",
    "test_endless_message_of_an_exception_harms_nothing",
    "test_failed_file_has_an_err_until_it_succeeds",
    "test_host_that_gets_sigterm_tears_down",
    "test_interrupted_client_prints_no_traceback",
    "test_local_task_has_one_file_at_a_time_however_many_wait",
    "test_module_that_cannot_be_used_is_explained",
    "test_one_run_directory_by_two_paths_shares_the_worker",
    "test_params_that_no_longer_fit_the_module_are_named",
    "test_python_without_an_activated_environment_is_ours",
    "test_run_directories_share_no_worker",
    "test_second_run_keeps_the_host_when_the_first_ends",
    "test_segfault_shows_where_in_the_task_it_was",
    "test_setup_that_raised_is_retried_after_the_run_was_killed",
    "test_setup_that_raised_is_retried_by_the_next_run",
    "test_stop_without_a_host_or_a_file_does_nothing",
    "test_worker_is_started_once_there_are_descriptors_again",
    "test_workflow_without_the_task_is_explained",
    # In a job, it is its scheduler that ends a worker: see below.
    "test_worker_that_gets_sigterm_tears_down",
}

for _module in (test_children, test_task_logging, test_workers, test_worker_deaths):
    for _name, _test in vars(_module).items():
        if _name.startswith("test_") and _name not in _APART:
            globals()[_name] = _test


class _MailboxRun(Run):
    def log(self, task: str = "work") -> str:
        """Return what the workers of a task have printed, also those that live."""
        state = self.path / ".tigerflow"
        logs = [state / "logs" / f"{task}.log"]
        logs += state.glob(f"mailboxes/{task}/*/*/log")
        return "".join(path.read_text() for path in logs if path.exists())


class _MailboxWorld(World):
    def run(self, name: str = "run", **environment: str) -> Run:
        run = _MailboxRun(self.directory / name, self.environment(**environment))
        self.runs.append(run)
        return run

    def environment(self, **more: str) -> dict[str, str]:
        quick = {"TIGERFLOW_WORKER_LOST_TIMEOUT": "6"}
        return super().environment(PYTHONPATH=str(_PATH), **quick | more)


@pytest.fixture(autouse=True)
def world(tmp_path: Path) -> Iterator[World]:
    with _MailboxWorld(tmp_path) as made:
        yield made


#: Its failure is told in more than the page of a file that a full disk still has.
LONG_ANSWER = """
    class Work(LocalTask):
        def setup(context): note("setup")
        def run(context, input_file, output_file):
            note(f"run {input_file.stem}")
            if input_file.stem == "long":
                wait_for("go")
                raise ValueError("\\u2713" * 2000)
"""


def _fill(directory):
    """Take all the room; return the file that has it."""
    filler = directory / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(bytes(1024)):
            pass
    return filler


def test_full_disk_under_the_mailboxes_only_delays_an_answer(world):
    run = world.run()
    run.add_task(LONG_ANSWER)
    mailboxes = run.path / ".tigerflow" / "mailboxes"
    with small_disk(mailboxes, 256):
        client = run.start("long")
        run.until_noted("run long")
        filler = _fill(mailboxes)
        (run.path / "go").touch()
        wait_until(run.error("long").exists, "the worker is through")
        # For longer than anybody who shows no sign of life is waited for.
        (pulse,) = mailboxes.glob("work/*/0/pulse")
        for _ in range(6):
            before = pulse.read_bytes()
            wait_until(lambda b=before: pulse.read_bytes() != b, "it lives")
        assert client.poll() is None
        filler.unlink()
        code, said = finish(client)
        assert (code, said.count("✓")) == (1, 1000 - len("ValueError: "))
        assert run.process("b") == (0, "")
        assert run.noted() == ["setup", "run long", "run b"]
        run.end_owner()
        wait_until(lambda: not world.processes("tigerflow"), "all have ended")


def test_no_room_for_a_mailbox_blames_no_file(world):
    run = world.run()
    run.add_task(test_worker_deaths.WAITING)
    mailboxes = run.path / ".tigerflow" / "mailboxes"
    with small_disk(mailboxes, 16):
        filler = _fill(mailboxes)
        code, said = run.process("a")
        assert code == 1
        assert "Cannot write to output directory" in said
        assert run.names() == []
        filler.unlink()
        assert run.process("a") == (0, "")
        run.end_owner()
        wait_until(lambda: not world.processes("tigerflow"), "all have ended")


def _signal_job(world, number):
    """Send a signal to all processes of a job, as Grid Engine does."""
    for word in ("process.job", "process.remote"):
        for pid in world.processes(word):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_worker_that_is_warned_of_its_end_tears_down_and_blames_no_file(world, number):
    run = world.run(TIGERFLOW_WORKER_ATTEMPTS="1")
    run.add_task(test_worker_deaths.WAITING)
    client = run.start("wait")
    wait_until(lambda: run.noted("run wait "), "it runs")
    _signal_job(world, number)
    wait_until(lambda: len(run.noted("run wait ")) == 2, "it is tried again")
    assert run.noted("teardown") == ["teardown"]
    (run.path / "go").touch()
    assert finish(client) == (0, "")
    assert run.names() == ["wait.out"]


def test_worker_continues_after_a_warning_of_suspension(world):
    run = world.run()
    run.add_task(test_worker_deaths.WAITING)
    client = run.start("wait")
    wait_until(lambda: run.noted("run wait "), "it runs")
    _signal_job(world, signal.SIGUSR1)
    (run.path / "go").touch()
    assert finish(client) == (0, "")
    assert run.process("next") == (0, "")
    assert run.noted("setup") == ["setup"]
