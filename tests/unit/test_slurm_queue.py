"""What is asked of Slurm, by programs that a test plays, and what follows from it."""

import ast
import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

import tigerflow
from tigerflow.workers.dispatch import slurm_follow, slurm_watch
from tigerflow.workers.dispatch.slurm import Queue, QueuedJob
from tigerflow.workers.dispatch.slurm_follow import AdoptedJob, Follower
from tigerflow.workers.dispatch.slurm_watch import SlurmWatch

DEADLINE_S = 60


@pytest.fixture
def programs(monkeypatch, tmp_path):
    """Programs of Slurm's that print files, if there are any, and note their words."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for name in ("squeue", "sacct", "scancel"):
        path = tmp_path / name
        path.write_text('#!/bin/sh\necho "$*" >> "$0.calls"\ncat "$0.says"\n')
        path.chmod(0o755)
    (tmp_path / "scancel.says").touch()
    return tmp_path


def says(programs, name, *lines):
    """Have a program print these lines; without any, it fails."""
    path = programs / f"{name}.says"
    path.write_text("".join(f"{line}\n" for line in lines))
    if not lines:
        path.unlink()


def calls(programs, name):
    path = programs / f"{name}.calls"
    return path.read_text().splitlines() if path.exists() else []


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, DEADLINE_S))


def test_jobs_are_found_by_their_numbers_and_our_names(programs):
    says(
        programs,
        "squeue",
        "CLUSTER: c1",
        "7|7|RUNNING|n1|None|rule_work_wildcards_aaaa",
        "9|8_1|PENDING||Priority|rule_work_wildcards_bbbb|x",
        "10|10|CANCELLED||None|rule_work_wildcards_cccc",
    )

    async def look():
        queue = Queue()
        jobs = await queue.look()
        found = [await queue.find(name) for name in ("bbbb", "cccc", "dddd")]
        return jobs, found

    jobs, [waiting, cancelled, unknown] = run(look())
    assert {number: job.state for number, job in jobs.items()} == {
        "7": "RUNNING",
        "9": "PENDING",
        "8_1": "PENDING",
        "10": "CANCELLED",
    }
    assert (waiting.number, cancelled, unknown) == ("9", None, None)


def test_questions_at_the_same_time_share_one_answer(programs):
    says(programs, "squeue", "7|7|RUNNING|n1|None|")

    async def ask():
        queue = Queue()
        await asyncio.gather(*(queue.look() for _ in range(20)))
        await queue.look(max_age_s=60)

    run(ask())
    # Who asks while one is on its way cannot take its answer.
    assert len(calls(programs, "squeue")) <= 2


def test_settings_of_the_user_for_squeue_leave_no_job_out(programs, monkeypatch):
    monkeypatch.setenv("SQUEUE_PARTITION", "other")
    (programs / "squeue").write_text(
        "#!/bin/sh\n[ -z \"$SQUEUE_PARTITION\" ] && echo '7|7|RUNNING|n1|None|'\n"
    )
    assert "7" in run(Queue().look())


def test_slurm_that_does_not_answer_says_nothing_of_jobs(programs):
    says(programs, "squeue")
    assert run(Queue().look()) is None


def test_state_in_the_database_is_cut_at_the_first_blank(programs):
    says(
        programs,
        "sacct",
        "7|CANCELLED by 1000|None assigned|0:0",
        "8|RUNNING|n1|0:0",
        "9|FAILED|n4|0:53",
    )
    ended = run(Queue().ended(["7", "8", "9"]))
    assert ended.keys() == {"7", "9"}
    assert ended["7"].end("a").is_evicted
    assert ended["7"].node == ""
    assert not ended["9"].end("a").is_killed
    assert ended["9"].end("a").node == "n4"
    assert "cannot open the output directory" in ended["9"].end("a").text


def test_job_that_ended_is_explained_by_its_node_and_its_log(programs, tmp_path):
    log = tmp_path / "a b" / "7.log"
    log.parent.mkdir()
    log.write_text("python3: No such file or directory\n")
    (programs / "scontrol").write_text(
        f"#!/bin/sh\necho 'JobId=7 JobName=x JobState=FAILED Reason=NonZeroExitCode "
        f"ExitCode=127:0 NodeList=n4 TRES=cpu=1 StdOut={tmp_path}/a b/%j.log Power='\n"
    )
    (programs / "scontrol").chmod(0o755)
    told = run(Queue().explain("7"))
    assert (told.state, told.node) == ("FAILED", "n4")
    said = "python3: No such file or directory"
    assert told.end("a").text == f"Slurm job 7 is FAILED; its log ends with: {said}"


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("FAILED", "; its node cannot open the output directory; is it mounted there?"),
        # It has not begun.
        ("CANCELLED", ""),
    ],
)
def test_job_that_failed_without_a_log_is_explained_by_that(programs, state, told):
    # As Slurm 24.11 has it; 22.05 says ExitCode=0:53.
    (programs / "scontrol").write_text(
        f"#!/bin/sh\necho 'JobId=7 JobState={state} Reason=NonZeroExitCode "
        f"ExitCode=1:0 NodeList=n4 StdOut={programs}/gone/%j.log Power='\n"
    )
    (programs / "scontrol").chmod(0o755)
    ended = run(Queue().explain("7")).end("a")
    assert ended.text == f"Slurm job 7 is {state}{told}"


def test_job_that_slurm_has_forgotten_is_explained_by_the_database(programs):
    (programs / "scontrol").write_text("#!/bin/sh\nexit 1\n")
    (programs / "scontrol").chmod(0o755)
    says(programs, "sacct", "7|FAILED|n4|0:53")
    assert run(Queue().explain("7")).node == "n4"


def follow(*looks, was_seen=False):
    follower = Follower("7", was_seen=was_seen)
    return [follower.judge(queue, ended) for queue, ended in looks]


WAITING = {"7": QueuedJob("7", "PENDING")}
CANCELLED = {"7": QueuedJob("7", "CANCELLED")}
STRANGE = {"7": QueuedJob("7", "STAGE_OUT")}


def test_job_lives_while_the_queue_lists_it_in_any_state():
    assert follow((WAITING, {}), (STRANGE, {})) == [None, None]


def test_job_is_over_when_the_queue_or_the_database_says_so():
    assert follow((CANCELLED, {})) == [CANCELLED["7"]]
    assert follow(({}, CANCELLED)) == [CANCELLED["7"]]


def test_job_that_the_queue_has_forgotten_is_over_also_without_accounting():
    looks = follow((WAITING, {}), ({}, {}), ({}, {}))
    assert looks == [None, None, QueuedJob("7", "")]
    assert follow(({}, {}), ({}, {}), was_seen=True)[1] == QueuedJob("7", "")


def test_number_that_this_slurm_never_had_is_left_to_the_plugin():
    assert follow(*[({}, {})] * 5) == [None] * 5


class FakeJob:
    """A job that waits."""

    name = "aaaa"
    number = "7"
    is_silent = True
    has_begun = is_over = False

    def __init__(self):
        self.gone = asyncio.Event()
        self.ends = []

    def cancel(self):
        self.ends.append("cancelled")

    def see_end(self, event, state):
        self.ends.append((event.kind, event.is_evicted, state))
        self.gone.set()


@pytest.fixture
def _quick(monkeypatch):
    for module in (slurm_follow, slurm_watch):
        monkeypatch.setattr(module, "LOOK_S", 0.01)
        monkeypatch.setattr(module, "SOON_S", 0.01)


@pytest.mark.usefixtures("_quick")
def test_job_that_is_cancelled_while_it_waits_is_seen_to_end(programs):
    says(programs, "squeue", "1|1|RUNNING|n1|None|")
    says(programs, "sacct", "7|CANCELLED by 1000|None assigned|0:0")

    async def wait():
        watch, job = SlurmWatch(), FakeJob()
        watch.watch(job, is_in_slurm=True)
        await job.gone.wait()
        return job.ends

    assert run(wait()) == [("failed", True, "CANCELLED")]


@pytest.mark.usefixtures("_quick")
def test_job_that_waits_again_was_requeued(programs):
    says(programs, "squeue", "7|7|PENDING||BeginTime|")

    async def wait():
        watch, job = SlurmWatch(), FakeJob()
        job.has_begun = True
        watch.watch(job, is_in_slurm=False)
        await job.gone.wait()
        return job.ends

    assert run(wait()) == ["cancelled", ("failed", True, "CANCELLED")]


@pytest.mark.usefixtures("_quick")
def test_job_with_live_workers_is_not_asked_about(programs):
    says(programs, "squeue", "1|1|RUNNING|n1|None|")
    says(programs, "sacct", "8|CANCELLED by 1000|None assigned|0:0")

    async def wait():
        watch, busy, waiting = SlurmWatch(), FakeJob(), FakeJob()
        busy.is_silent, waiting.number = False, "8"
        for job in (busy, waiting):
            watch.watch(job, is_in_slurm=True)
        await waiting.gone.wait()
        await watch.close()
        return busy.ends

    assert run(wait()) == []
    assert all("7" not in call.split("=")[-1] for call in calls(programs, "sacct"))


@pytest.mark.usefixtures("_quick")
def test_job_that_appears_after_its_submission_failed_is_cancelled(programs):
    says(programs, "squeue", "9|9|PENDING||None|rule_work_wildcards_aaaa")

    async def wait():
        watch = SlurmWatch()
        watch.doubt("aaaa")
        await watch.close()

    run(wait())
    assert calls(programs, "scancel") == ["9"]


@pytest.mark.usefixtures("_quick")
def test_adopted_job_is_followed_to_its_end(programs):
    says(programs, "squeue", "7|7|PENDING||None|rule_work_wildcards_aaaa")
    says(programs, "sacct", "7|CANCELLED by 0|None assigned|0:0")

    async def follow_it():
        adopted = AdoptedJob(Queue(), "aaaa", "7")
        kinds = []
        async for event in adopted.events():
            kinds.append((event.kind, event.is_evicted))
            if event.kind == "submitted":
                adopted.cancel()
                says(programs, "squeue", "1|1|RUNNING|n1|None|")
        return kinds

    ends = [("submitted", False), ("failed", True), ("ended", False)]
    assert run(follow_it()) == ends
    assert calls(programs, "scancel") == ["7"]


def test_without_slurm_nothing_is_watched(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))

    async def watch():
        watch = SlurmWatch()
        watch.watch(SimpleNamespace(number="7"), is_in_slurm=True)
        watch.doubt("aaaa")
        assert watch._run is None
        assert await watch.queue.explain("7") is None

    run(watch())


def test_slurms_commands_are_run_by_one_module_alone():
    package = Path(tigerflow.__file__).parent
    named = {
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant)
        and node.value in {"squeue", "sacct", "scancel", "scontrol", "sbatch"}
    }
    assert named == {
        "workers/dispatch/slurm.py",
        # Looks whether there is an sbatch.
        "engine/executor.py",
        # Puts its own in their place, so that the plugin submits nothing.
        "engine/rehearsal.py",
    }
