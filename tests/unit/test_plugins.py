"""What becomes of the jobs of an interrupted submission."""

import json
import os
import shlex
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from types import SimpleNamespace

import pytest

from tigerflow.engine import live_jobs, plugins
from tigerflow.engine.slurm_plugin import number_said


class Exited(BaseException):
    """Stands for the end of the process."""


class Executor:
    """What the jobs are cancelled by; like the Slurm plugin, it submits in a thread."""

    def __init__(self, directory):
        self.tmpdir = directory / "tmp"
        self.cancelled = []
        self._job_submission_executor = ThreadPoolExecutor(1)

    def submit(self, function, *arguments):
        return self._job_submission_executor.submit(function, *arguments)

    def cancel_jobs(self, infos):
        self.cancelled += [info.external_jobid for info in infos]


@pytest.fixture
def executor(tmp_path, monkeypatch):
    def leave(_code):
        raise Exited

    monkeypatch.setattr(live_jobs.os, "_exit", leave)
    return Executor(tmp_path)


@pytest.fixture
def ends():
    reader, writer = Pipe(duplex=False)
    yield reader, writer
    reader.close()
    writer.close()


def job(directory, name, number):
    place = directory / name
    place.mkdir(exist_ok=True)
    snakemakes = SimpleNamespace(output=[str(place / "ended")])
    return SimpleNamespace(job=snakemakes, external_jobid=number)


def events(reader):
    found = []
    while reader.poll():
        event = json.loads(reader.recv_bytes())
        found.append((event["job"], event["kind"], event["is_killed"]))
    return found


def test_jobs_are_reported_from_queue_to_end(tmp_path, executor, ends):
    reader, writer = ends
    jobs = live_jobs.LiveJobs(writer)
    first, second = job(tmp_path, "a", "7"), job(tmp_path, "b", "8")

    jobs.submitted(executor, first)
    jobs.submitted(executor, second)
    jobs.ended(first, "finished", "")
    jobs.ended(second, "failed", "SLURM status is: 'CANCELLED by 0'")

    assert events(reader) == [
        ("a", "submitted", False),
        ("b", "submitted", False),
        ("a", "finished", False),
        ("b", "failed", True),
    ]
    assert (tmp_path / "b" / "number").read_text() == "8"


def test_an_interrupt_cancels_the_jobs_that_have_not_ended(tmp_path, executor, ends):
    jobs = live_jobs.LiveJobs(ends[1])
    for name, number in (("a", "7"), ("b", "8"), ("c", "9")):
        jobs.submitted(executor, job(tmp_path, name, number))
    jobs.ended(job(tmp_path, "b", "8"), "finished", "")

    with pytest.raises(Exited):
        jobs.cancel_all(executor)

    assert executor.cancelled == ["7", "9"]


def test_an_interrupt_waits_for_a_job_that_is_being_submitted(tmp_path, executor, ends):
    jobs = live_jobs.LiveJobs(ends[1])
    begun, go = threading.Event(), threading.Event()

    def submit():
        begun.set()
        go.wait(60)
        jobs.submitted(executor, job(tmp_path, "a", "7"))

    executor.submit(submit)
    never = executor.submit(jobs.submitted, executor, job(tmp_path, "b", "8"))
    begun.wait(60)
    # It goes on only once the interrupt has taken the others back.
    never.add_done_callback(lambda _: go.set())

    with pytest.raises(Exited):
        jobs.cancel_all(executor)

    assert never.cancelled()
    assert executor.cancelled == ["7"]


def test_jobs_are_cancelled_when_no_one_listens(tmp_path, executor, ends):
    reader, writer = ends
    jobs = live_jobs.LiveJobs(writer)
    reader.close()

    jobs.submitted(executor, job(tmp_path, "a", "7"))
    with pytest.raises(Exited):
        jobs.cancel_all(executor)

    assert executor.cancelled == ["7"]


_REJECTED = """\
SLURM sbatch failed. The error message was 'sbatch: error: invalid partition: nosuch
sbatch: error: Batch job submission failed: Invalid partition name specified'.
    sbatch call:
        sbatch --parsable -p nosuch
"""
_UNKNOWN_OPTION = """\
SLURM sbatch failed. The error message was 'sbatch: unrecognized option '--partion=main'
Try "sbatch --help" for more information'.
    sbatch call:
        sbatch --parsable --partion=main
"""
_NO_ACCOUNT = """\
Job submission failed with exception: The given account nosuch appears to be invalid. \
Available accounts:
lab, other
"""


@pytest.mark.parametrize(
    ("said", "plain"),
    [
        (
            _REJECTED,
            (
                "invalid partition: nosuch; "
                "Batch job submission failed: Invalid partition name specified"
            ),
        ),
        (
            _UNKNOWN_OPTION,
            (
                "unrecognized option '--partion=main'; "
                'Try "sbatch --help" for more information'
            ),
        ),
        (
            "[Errno 2] No such file or directory: 'sacctmgr'",
            (
                "there is no Slurm here (no sacctmgr); "
                "start TigerFlow on a login node of the cluster"
            ),
        ),
        (
            _NO_ACCOUNT,
            (
                "The given account nosuch appears to be invalid. "
                "Available accounts: lab, other"
            ),
        ),
        ("SLURM-job '7' failed.", "SLURM-job '7' failed"),
    ],
    ids=["rejected", "option", "no slurm", "no account", "failed"],
)
def test_failure_is_reported_in_the_schedulers_own_words(
    tmp_path, executor, ends, said, plain
):
    jobs = live_jobs.LiveJobs(ends[1])
    jobs.submitted(executor, job(tmp_path, "a", "7"))
    jobs.ended(job(tmp_path, "a", "7"), "failed", said)
    ends[0].recv_bytes()
    assert json.loads(ends[0].recv_bytes())["text"] == plain


_SAID_ON_NODE = "StepId=7.batch exceeded memory limit (2 > 1)"


@pytest.mark.parametrize(
    "speaker",
    ["slurmstepd-n1:", "[2026-01-01T00:00:00.123]", "[Jan 01 00:00:00]"],
    ids=["22.05", "26.05", "26.05 with LogTimeFormat=short"],
)
def test_failure_is_reported_with_slurms_words_from_the_node(tmp_path, ends, speaker):
    log = tmp_path / "7.log"
    log.write_text(
        "of the worker\n"
        "[train] error: of the worker\n"
        f"{speaker} error: *** JOB 7 ON n1 CANCELLED AT 2026-01-01T00:00:00 ***\n"
        f"{speaker} error: {_SAID_ON_NODE}\n"
        f"{speaker} error: Exceeded job memory limit\n"
    )
    info = job(tmp_path, "a", "7")
    live_jobs.LiveJobs(ends[1]).ended(info, "failed", "it failed.", [str(log)])
    live_jobs.LiveJobs(ends[1]).ended(info, "failed", "it failed.", ["/no/such/log"])
    told = [json.loads(ends[0].recv_bytes())["text"] for _ in range(2)]
    assert told == [f"it failed; {_SAID_ON_NODE}", "it failed"]


@pytest.mark.parametrize(
    ("words", "is_outage"),
    [
        ("Unable to contact slurm controller (connect failure)", True),
        ("Socket timed out on send/recv operation", True),
        ("Job violates accounting/QOS policy (job submit limit, ...)", True),
        ("Required partition not available (inactive or drain)", True),
        ("QOSMaxSubmitJobPerUserLimit\nsbatch: error: Job violates (job submit", True),
        ("QOSMaxWallDurationPerJobLimit\nsbatch: error: Job violates (job sub", False),
        ("QOSMinGRES\nsbatch: error: Job violates (job submit limit, ...)", False),
        ("Only 3 jobs are allowed per user (current job count: 3)", True),
        ("Invalid partition name specified", False),
        ("Requested node configuration is not available", False),
    ],
)
def test_lasting_refusals_are_told_apart_from_passing_ones(
    tmp_path, ends, words, is_outage
):
    jobs = live_jobs.LiveJobs(ends[1])
    said = f"The error message was 'sbatch: error: {words}'."
    jobs.ended(job(tmp_path, "a", None), "failed", said)
    assert json.loads(ends[0].recv_bytes())["is_outage"] == is_outage


def test_one_job_is_cancelled_also_when_it_is_submitted_later(tmp_path, executor, ends):
    jobs = live_jobs.LiveJobs(ends[1])
    jobs.submitted(executor, job(tmp_path, "a", "7"))
    jobs.submitted(executor, job(tmp_path, "b", "8"))
    jobs.cancel("b")
    jobs.cancel("c")
    assert executor.cancelled == ["8"]
    jobs.submitted(executor, job(tmp_path, "c", "9"))
    assert executor.cancelled == ["8", "9"]


def test_job_that_the_plugin_takes_for_running_is_reported_when_it_has_ended(
    tmp_path, executor, ends
):
    reported = []
    executor.report_job_success = lambda info: reported.append(info.external_jobid)
    executor.report_job_error = lambda info, said: reported.append(
        (info.external_jobid, said)
    )
    jobs = live_jobs.LiveJobs(ends[1])
    for name, number in (("a", "7"), ("b", "8"), ("c", "9")):
        jobs.submitted(executor, job(tmp_path, name, number))
    jobs.end("a", "CANCELLED")
    jobs.end("b", "COMPLETED")

    assert jobs.is_urgent.is_set()
    jobs.report_ends(executor)

    assert reported == [("7", "SLURM status is: 'CANCELLED'."), "8"]


@pytest.mark.parametrize(
    "said",
    [
        "7\n",
        "7;cluster\n",
        "Welcome to cluster 2024, 512 nodes\n7\n",
        "2024\n7;cluster\nbudget left: 12 h\n",
    ],
)
def test_number_of_a_job_is_found_among_what_a_site_prints(said):
    assert number_said("Welcome", said) == "7"


def test_missing_job_number_is_reported_with_the_printed_text():
    with pytest.raises(ValueError, match="no job number, but: 'taken as job 7'"):
        number_said("taken", "taken as job 7\n")


def test_plugin_that_makes_arrays_gets_one_job_at_a_time():
    submitted = []
    executor = SimpleNamespace(run_jobs=submitted.append)

    plugins._prepare(executor, [])
    executor.run_jobs(["a", "b"])

    assert submitted == [["a"], ["b"]]


@pytest.mark.parametrize("number", [15, 10, 12])
def test_job_shell_waits_for_its_command_despite_signals(tmp_path, number):
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    suffix = "exit 0 || exit 1"
    executor = SimpleNamespace(
        get_job_exec_prefix=lambda _: f"cd {shlex.quote(str(tmp_path))}",
        get_job_exec_suffix=lambda _: suffix,
    )
    command = plugins._command(executor, SimpleNamespace(shellcmd="exec cat fifo"))

    with subprocess.Popen(["sh", "-c", command]) as shell:
        # Returns when the command runs.
        with fifo.open("wb"):
            shell.send_signal(number)
        assert shell.wait(60) == 0
