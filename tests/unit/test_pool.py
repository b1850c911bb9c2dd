"""The pool of a task, with workers that a test plays."""

import asyncio
import errno
import itertools
import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from playing import SETTINGS, TASK, settle

from tigerflow.errors import OutputDirectoryError
from tigerflow.tasks.file_job import FileJob
from tigerflow.workers.dispatch.link import Ending, LaunchError, NoRoomError
from tigerflow.workers.dispatch.pace import REMEMBERED
from tigerflow.workers.dispatch.pool import TaskPool
from tigerflow.workers.dispatch.starts import MOST_EVICTIONS
from tigerflow.workers.protocol import (
    Answer,
    Fate,
    FileRequest,
    HandedBack,
    LeaveReason,
    Left,
    Ready,
    Recall,
    SetupFailed,
    Started,
)

#: Far more than anything takes here.
DEADLINE_S = 60

CANCELLED = Ending("was lost: cancelled", is_killed=True)
PREEMPTED = Ending("was lost (PREEMPTED)", is_killed=True, is_evicted=True)
UNREACHABLE = Ending(
    "Unable to contact slurm controller",
    is_killed=False,
    is_outage=True,
    has_started=False,
)

ENDED_AT_ONCE = Ending(
    "no such file", is_killed=False, has_started=False, was_taken=True, node="n4"
)


class FakeLink:
    """A worker that says what the test has it say."""

    pid = None
    log_start = 0
    notice_s = 0.0

    def __init__(self, directory):
        self.log = directory / "log"
        self.sent = []
        self.is_stopped = False
        self.is_killed = False
        self.is_gone = asyncio.Event()
        self.is_gone.set()
        self._messages = asyncio.Queue()
        self._ending = asyncio.get_running_loop().create_future()

    def send(self, message):
        self.sent.append(message)

    async def receive(self):
        while (message := await self._messages.get()) is not None:
            yield message

    def stop(self):
        self.is_stopped = True

    def kill(self):
        self.is_killed = True

    async def wait(self):
        return await self._ending

    async def gone(self):
        await self.is_gone.wait()

    def remove_temporaries(self, directory):
        pass

    # --- For the test.

    async def say(self, *messages):
        for message in messages:
            self._messages.put_nowait(message)
        await settle()

    async def start(self, for_s=None):
        """Be ready; the wall time is over in so many seconds."""
        ends_at = None if for_s is None else time.time() + for_s
        await self.say(Started("n1", 1, "1", ends_at), Ready())

    async def finish(self, seconds=0.1):
        """Do the file that was asked for first."""
        request = next(each for each in self.sent if isinstance(each, FileRequest))
        self.sent.remove(request)
        await self.say(Answer(request.id, Fate.DONE, "", "now", seconds))

    async def hand_back(self, ids):
        self.sent = [each for each in self.sent if getattr(each, "id", 0) not in ids]
        await self.say(HandedBack(ids))

    @property
    def calls(self):
        """The stems of each call that was asked for and not done."""
        calls, ended = [], True
        for request in self.sent:
            if isinstance(request, FileRequest):
                calls += [[]] * ended
                calls[-1] = [*calls[-1], Path(request.input).stem]
                ended = not request.more
        return calls

    async def finish_call(self, seconds=0.1):
        """Do all files of the call that was asked for first."""
        for _ in self.calls[0]:
            await self.finish(seconds)

    async def end(self, ending=None):
        self._messages.put_nowait(None)
        self._ending.set_result(ending or Ending("exit code 0", is_killed=False))
        await settle()

    async def leave(self, why):
        await self.say(Left(why))
        await self.end()


class FakeLauncher:
    def __init__(self, directory):
        self._directory = directory
        self.links = []
        self.avoided = []
        self.trouble = None

    async def launch(self):
        if self.trouble is not None:
            raise self.trouble
        self.links.append(FakeLink(self._directory))
        return self.links[-1]

    def avoid(self, node):
        self.avoided.append(node)

    async def close(self):
        pass


class PoolBench:
    def __init__(self, directory, settings=SETTINGS, retries=2, **told):
        (directory / "work").mkdir(exist_ok=True)
        self.directory = directory
        self.launcher = FakeLauncher(directory)
        task = replace(TASK, **told)
        #: What the pool has said of its workers.
        self.news = []
        self.pool = TaskPool(
            *(task, directory, settings, self.launcher, retries),
            on_worker=lambda *news: self.news.append(news),
        )

    @property
    def links(self):
        return self.launcher.links

    async def ask(self, *stems, places=()):
        """Ask for files; return the answers to come."""
        answers = [
            asyncio.create_task(self.pool.process(self._job(stem), place))
            for stem, place in itertools.zip_longest(stems, places)
        ]
        await settle()
        return answers

    @staticmethod
    def timeouts():
        """The timers of files that are worked on."""
        timers = asyncio.get_running_loop()._scheduled
        return [
            timer
            for timer in timers
            if not timer.cancelled() and "_end_late" in str(timer)
        ]

    def next_timeout_s(self):
        """How long the only timeout still runs."""
        [timer] = self.timeouts()
        return timer.when() - asyncio.get_running_loop().time()

    async def let_timeout_pass(self):
        [timer] = self.timeouts()
        timer._run()
        await settle()

    async def let_start_pause_pass(self):
        """Start workers as if the pause after a failed start were over."""
        for timer in list(asyncio.get_running_loop()._scheduled):
            if not timer.cancelled() and "_end_start_pause" in str(timer):
                timer._run()
                timer.cancel()
        await settle()

    async def let_patience_pass(self):
        """Look at workers with calls ahead as if much time had passed."""
        for worker in self.pool._workforce.members:
            worker.began -= 60
        for timer in list(asyncio.get_running_loop()._scheduled):
            if not timer.cancelled() and "_see_ahead" in str(timer):
                timer._run()
                timer.cancel()
        await settle()

    def record(self, stem):
        path = self.directory / "work" / f"{stem}.err"
        return json.loads(path.read_text())

    @staticmethod
    def _job(stem):
        output, error = Path(f"work/{stem}.out"), Path(f"work/{stem}.err")
        return FileJob(Path(f"{stem}.txt"), output, error)


@pytest.fixture
def bench(tmp_path):
    return PoolBench(tmp_path)


def in_loop(function):
    """Run a test that is a coroutine."""

    def run(bench):
        # One that waits for an answer in vain fails.
        asyncio.run(asyncio.wait_for(function(bench), DEADLINE_S))

    run.__name__ = function.__name__
    return run


@in_loop
async def test_workers_are_as_many_as_files_wait_up_to_the_limit(bench):
    bench = PoolBench(bench.directory, workers=3)
    await bench.ask("a")
    assert len(bench.links) == 1
    await bench.ask("b", "c", "d", "e")
    assert len(bench.links) == 3


@in_loop
async def test_file_with_an_earlier_place_is_begun_before_those_that_wait(bench):
    bench = PoolBench(bench.directory, remote=False)
    await bench.ask("a", "b", places=[2, 4])
    await bench.ask("c", "d", "e", places=[3, 1, 4])
    [link] = bench.links
    await link.start()
    begun = []
    for _ in range(5):
        begun += link.calls[0]
        # So long that no other is handed over ahead.
        await link.finish(seconds=60)
    assert begun == ["d", "a", "c", "b", "e"]


@in_loop
async def test_cancelled_worker_gives_its_file_to_another(bench):
    [answer] = await bench.ask("a")
    await bench.links[0].start(for_s=1000)
    await bench.links[0].leave(LeaveReason.ENDED)
    await bench.links[1].start()
    await bench.links[1].finish()
    assert (await answer).fate is Fate.DONE


@in_loop
async def test_worker_takes_a_place_until_its_job_is_gone(bench):
    await bench.ask("a")
    await bench.links[0].start(for_s=1000)
    bench.links[0].is_gone.clear()
    await bench.links[0].leave(LeaveReason.ENDED)
    assert len(bench.links) == 1
    bench.links[0].is_gone.set()
    await settle()
    assert len(bench.links) == 2


@in_loop
async def test_file_whose_workers_the_scheduler_ends_is_blamed_late(bench):
    [answer] = await bench.ask("a")
    for number in range(MOST_EVICTIONS - 1):
        await bench.links[number].start()
        if number % 2:
            await bench.links[number].end(PREEMPTED)
        else:
            await bench.links[number].leave(LeaveReason.ENDED)
    assert not answer.done()
    await bench.links[-1].start()
    await bench.links[-1].leave(LeaveReason.ENDED)
    assert (await answer).fate is Fate.FAILED
    record = bench.record("a")
    assert record["exception_type"] == "WorkerEvicted"
    assert "its job is cancelled, preempted or requeued" in record["message"]
    assert "its scheduler has ended 20 jobs that had this file" in record["message"]


@in_loop
async def test_evictions_of_a_file_do_not_add_to_its_deaths(bench):
    [answer] = await bench.ask("a")
    for ending in (PREEMPTED, CANCELLED, PREEMPTED, CANCELLED, PREEMPTED):
        await bench.links[-1].start()
        await bench.links[-1].end(ending)
    await bench.links[-1].start()
    await bench.links[-1].finish()
    assert (await answer).fate is Fate.DONE


@in_loop
async def test_batch_under_which_the_job_is_cancelled_stays_one(bench):
    bench = PoolBench(bench.directory, batch_size=4)
    await bench.ask(*stems(3))
    await bench.links[0].start()
    await bench.links[0].leave(LeaveReason.ENDED)
    await bench.links[1].start()
    assert bench.links[1].calls == [["f00", "f01", "f02"]]


@in_loop
async def test_file_of_a_worker_that_lost_its_service_is_retried_without_blame(bench):
    [answer] = await bench.ask("a")
    for number in range(5):
        await bench.links[number].start(for_s=1000)
        await bench.links[number].leave(LeaveReason.ALONE)
    await bench.links[5].start(for_s=1000)
    await bench.links[5].finish()
    assert (await answer).fate is Fate.DONE


@in_loop
async def test_file_that_had_a_workers_whole_time_fails(bench):
    [answer] = await bench.ask("a")
    await bench.links[0].start(for_s=10)
    await bench.links[0].leave(LeaveReason.WALL_TIME)
    assert (await answer).fate is Fate.FAILED
    assert bench.record("a")["exception_type"] == "WallTimeOver"


@in_loop
async def test_file_that_meets_a_leaving_worker_goes_to_a_new_one(bench):
    await bench.ask("a")
    await bench.links[0].start(for_s=1000)
    await bench.links[0].leave(LeaveReason.WALL_TIME)
    assert len(bench.links) == 2
    await bench.links[1].start(for_s=1000)
    assert len(bench.links[1].sent) == 1


@in_loop
async def test_file_that_is_always_cut_fails_in_the_end(bench):
    [answer] = await bench.ask("a")
    for number in range(3):
        await bench.links[number].start(for_s=1000)
        await bench.links[number].leave(LeaveReason.WALL_TIME)
    assert (await answer).fate is Fate.FAILED
    assert bench.record("a")["exception_type"] == "WallTimeOver"


@in_loop
async def test_worker_with_too_little_time_left_makes_room_for_a_fresh_one(bench):
    first, second = await bench.ask("a", "b")
    await bench.links[0].start(for_s=60)
    await bench.links[0].finish(seconds=55)
    assert (await first).fate is Fate.DONE
    assert bench.links[0].is_stopped
    await bench.links[0].leave(LeaveReason.STOPPED)
    await bench.links[1].start(for_s=60)
    await bench.links[1].finish(seconds=55)
    assert (await second).fate is Fate.DONE


@in_loop
async def test_worker_that_takes_short_files_is_kept(bench):
    first, _ = await bench.ask("a", "b")
    await bench.links[0].start(for_s=60)
    await bench.links[0].finish(seconds=5)
    assert (await first).fate is Fate.DONE
    assert not bench.links[0].is_stopped
    assert len(bench.links[0].sent) == 1


@in_loop
async def test_one_long_file_does_not_have_each_worker_leave_early_for_ever(bench):
    await bench.ask(*(f"f{number}" for number in range(40)))
    await bench.links[0].start(for_s=600)
    await bench.links[0].finish(seconds=700)
    while bench.links[-1].is_stopped and len(bench.links) < 20:
        await bench.links[-1].leave(LeaveReason.STOPPED)
        await bench.links[-1].start(for_s=600)
        await bench.links[-1].finish(seconds=30)
    assert len(bench.links) == 1 + REMEMBERED


@in_loop
async def test_worker_that_has_left_gets_no_file(bench):
    await bench.ask("a")
    await bench.links[0].start()
    await bench.links[0].finish()
    await bench.links[0].say(Left(LeaveReason.ALONE))
    await bench.ask("b")
    assert bench.links[0].sent == []
    await bench.links[0].end()
    assert len(bench.links) == 2


@in_loop
async def test_setup_that_is_cut_by_the_wall_time_stops_the_task(bench):
    [answer] = await bench.ask("a")
    await bench.links[0].say(Started("n1", 1, "1", time.time()))
    await bench.links[0].leave(LeaveReason.WALL_TIME)
    assert (await answer).fate is Fate.UNDONE
    assert (
        "its setup was not finished when its worker's wall time" in bench.pool.failure
    )
    assert len(bench.links) == 1


@in_loop
async def test_file_that_is_requested_twice_is_processed_once(bench):
    [first] = await bench.ask("a")
    await bench.links[0].start()
    # Its window has died; the next asks for the same.
    first.cancel()
    [second] = await bench.ask("a")
    assert bench.links[0].calls == [["a"]]
    await bench.links[0].finish()
    assert (await second).fate is Fate.DONE
    assert bench.links[0].calls == []
    # Later, it is another matter.
    await bench.ask("a")
    assert bench.links[0].calls == [["a"]]


@in_loop
async def test_file_that_nobody_waits_for_is_not_retried(bench):
    [answer] = await bench.ask("a")
    await bench.links[0].start()
    answer.cancel()
    await bench.links[0].end(CANCELLED)
    assert len(bench.links) == 1


@in_loop
async def test_wall_time_without_room_for_a_file_stops_the_task(bench):
    bench = PoolBench(bench.directory, wall_time=10)
    [answer] = await bench.ask("a")
    assert (await answer).fate is Fate.UNDONE
    assert (
        "its workers have 10 s of wall time, and end 10 s (TIGER" in bench.pool.failure
    )
    assert bench.links == []


@in_loop
async def test_workers_killed_in_setup_are_replaced_but_not_for_ever(bench):
    await bench.ask("a")
    for number in range(3):
        assert bench.pool.failure is None
        await bench.links[number].say(Started("n1", 1, "1", None))
        await bench.links[number].end(CANCELLED)
    assert "was lost: cancelled before it was ready" in bench.pool.failure
    assert len(bench.links) == 3


@in_loop
async def test_only_deaths_in_a_row_stop_the_task(bench):
    for _ in range(4):
        await bench.ask("a")
        await bench.links[-1].end(CANCELLED)
        await bench.links[-1].end(CANCELLED)
        await bench.links[-1].start()
        await bench.links[-1].finish()
        await bench.links[-1].leave(LeaveReason.WALL_TIME)
    assert bench.pool.failure is None


@in_loop
async def test_scheduler_that_accepts_no_jobs_for_now_is_asked_again(bench):
    [answer] = await bench.ask("a")
    for number in range(10):
        await bench.links[number].end(UNREACHABLE)
    await bench.links[10].start()
    await bench.links[10].finish()
    assert (await answer).fate is Fate.DONE


@in_loop
async def test_worker_that_never_started_is_reported_in_one_sentence(bench):
    await bench.ask("a")
    words = "Invalid partition name specified"
    await bench.links[0].end(Ending(words, is_killed=False, has_started=False))
    start = "task 'work' cannot run: its worker could not start: "
    assert bench.pool.failure.startswith(f"{start}Invalid partition name specified (")


@in_loop
async def test_setup_that_was_short_of_processes_is_retried(bench):
    [answer] = await bench.ask("a")
    await bench.links[0].say(SetupFailed("BlockingIOError", is_shortage=True))
    await bench.links[0].leave(LeaveReason.CANNOT_RUN)
    assert bench.pool.failure is None
    await bench.let_start_pause_pass()
    await bench.links[1].start()
    await bench.links[1].finish()
    assert (await answer).fate is Fate.DONE


@in_loop
async def test_failed_setup_stops_workers_that_have_yet_to_start(bench):
    bench = PoolBench(bench.directory, workers=3)
    await bench.ask("a", "b", "c")
    await bench.links[0].say(SetupFailed("ValueError: no model"))
    assert [link.is_stopped for link in bench.links] == [True] * 3


@in_loop
async def test_setup_that_fails_beside_a_ready_worker_counts_against_its_node(bench):
    bench = PoolBench(bench.directory, workers=3)
    answers = await bench.ask("a", "b", "c", "d")
    bad, good, late = bench.links
    await good.start()
    await bad.say(Started("bad", 1, "1", None, "n4"), SetupFailed("OSError: read-only"))
    await bad.leave(LeaveReason.CANNOT_RUN)
    assert bench.pool.failure is None
    assert bench.launcher.avoided == ["n4"]
    assert not late.is_stopped
    # Not at once, else one bad node would get job after job.
    assert len(bench.links) == 3
    await bench.let_start_pause_pass()
    assert len(bench.links) == 4
    for _ in answers:
        await good.finish()
    assert {(await answer).fate for answer in answers} == {Fate.DONE}


@in_loop
async def test_setup_that_fails_while_others_set_up_does_not_stop_the_task(bench):
    bench = PoolBench(bench.directory, workers=2)
    await bench.ask("a", "b")
    bad, good = bench.links
    await good.say(Started("n1", 1, "1", None))
    await bad.say(Started("n4", 1, "1", None), SetupFailed("OSError: read-only"))
    assert bench.pool.failure is None
    await good.say(Ready())
    await bad.leave(LeaveReason.CANNOT_RUN)
    assert bench.pool.failure is None


@in_loop
async def test_setup_that_fails_everywhere_stops_the_task(bench):
    bench = PoolBench(bench.directory, workers=2)
    await bench.ask("a", "b")
    for link in bench.links:
        await link.say(Started("n1", 1, "1", None))
    for link in bench.links:
        await link.say(SetupFailed("OSError: no model"))
    assert "its setup failed on n1: OSError: no model" in bench.pool.failure


@in_loop
async def test_starts_that_fail_one_after_the_other_stop_a_task_without_workers(bench):
    [answer] = await bench.ask("a")
    await bench.links[0].start()
    await bench.links[0].finish()
    await bench.links[0].leave(LeaveReason.WALL_TIME)
    assert (await answer).fate is Fate.DONE
    await bench.ask("b")
    for number in range(3):
        assert bench.pool.failure is None
        await bench.links[-1].end(ENDED_AT_ONCE)
        await bench.let_start_pause_pass()
        assert len(bench.links) == min(number + 3, 4)
    assert "its worker could not start on n4: no such file" in bench.pool.failure


@in_loop
async def test_starts_that_fail_beside_a_ready_worker_never_stop_the_task(bench):
    bench = PoolBench(bench.directory, workers=2)
    await bench.ask("a", "b")
    await bench.links[0].start()
    for _ in range(10):
        await bench.links[-1].end(ENDED_AT_ONCE)
        await bench.let_start_pause_pass()
    assert bench.pool.failure is None
    assert len(bench.links) == 12


@in_loop
async def test_job_that_ended_at_once_is_tried_on_other_nodes_first(bench):
    [answer] = await bench.ask("a")
    await bench.links[0].end(ENDED_AT_ONCE)
    assert bench.launcher.avoided == ["n4"]
    await bench.let_start_pause_pass()
    await bench.links[1].start()
    await bench.links[1].finish()
    assert (await answer).fate is Fate.DONE


@in_loop
async def test_node_that_is_lost_under_several_setups_counts_once(bench):
    bench = PoolBench(bench.directory, workers=3)
    await bench.ask("a", "b", "c")
    for link in bench.links[:3]:
        await link.say(Started("n1", 1, "1", None))
    for link in bench.links[:3]:
        await link.end(CANCELLED)
    assert bench.pool.failure is None
    assert len(bench.links) == 6


@in_loop
async def test_setups_that_the_scheduler_ends_do_not_stop_the_task(bench):
    [answer] = await bench.ask("a")
    for _ in range(6):
        await bench.links[-1].say(Started("n1", 1, "1", None))
        await bench.links[-1].leave(LeaveReason.ENDED)
        await bench.let_start_pause_pass()
    await bench.links[-1].start()
    await bench.links[-1].finish()
    assert (await answer).fate is Fate.DONE


@in_loop
async def test_worker_that_is_stopped_before_it_started_is_not_expected(bench):
    settings = replace(SETTINGS, worker_idle_timeout=0)
    bench = PoolBench(bench.directory, settings, workers=3)
    await bench.ask("a", "b")
    await bench.links[0].start()
    await bench.links[0].finish(seconds=10)
    await asyncio.sleep(0.01)
    assert bench.links[1].is_stopped
    await bench.ask("c")
    # Its end is not known yet, which may take a minute.
    assert len(bench.links) == 3


@in_loop
async def test_slow_start_stops_the_task(bench):
    settings = replace(SETTINGS, slurm_task_worker_startup_timeout=0)
    bench = PoolBench(bench.directory, settings)
    await bench.ask("a")
    await bench.links[0].say(Started("n1", 1, "1", None))
    await settle()
    assert bench.pool.failure is None or "longer than 0 s" in bench.pool.failure
    await asyncio.sleep(0.01)
    assert "its setup took longer than 0 s" in bench.pool.failure
    assert bench.links[0].is_stopped


@in_loop
async def test_job_that_is_no_longer_needed_is_cancelled_while_it_waits(bench):
    settings = replace(SETTINGS, worker_idle_timeout=0)
    bench = PoolBench(bench.directory, settings, workers=2)
    await bench.ask("a", "b", "c")
    await bench.links[0].start()
    await bench.links[0].finish(seconds=10)
    await asyncio.sleep(0.01)
    assert not bench.links[1].is_stopped
    await bench.links[0].finish(seconds=10)
    await asyncio.sleep(0.01)
    assert bench.links[1].is_stopped


@in_loop
async def test_no_room_for_mailboxes_blocks_files_and_not_the_task(bench):
    bench.launcher.trouble = NoRoomError(
        OutputDirectoryError(Path("out"), OSError(errno.ENOSPC, "no room"))
    )
    [answer] = await bench.ask("a")
    assert (await answer).fate is Fate.BLOCKED
    assert bench.pool.failure is None
    bench.launcher.trouble = None
    [answer] = await bench.ask("a")
    await bench.links[0].start()
    await bench.links[0].finish()
    assert (await answer).fate is Fate.DONE


@in_loop
async def test_worker_that_cannot_be_started_stops_the_task(bench):
    bench.launcher.trouble = LaunchError("no more processes")
    [answer] = await bench.ask("a")
    assert (await answer).fate is Fate.UNDONE
    assert "its worker cannot be started: no more processes" in bench.pool.failure


@in_loop
async def test_short_files_are_sent_ahead_and_come_back_when_the_worker_dies(bench):
    await bench.ask(*(f"f{number:02}" for number in range(40)))
    await bench.links[0].start()
    await bench.links[0].finish(seconds=0.1)
    assert len(bench.links[0].sent) == 20
    await bench.links[0].end(CANCELLED)
    await bench.links[1].start()
    # Only the one that was worked on may be to blame: it is alone now.
    assert [Path(each.input).stem for each in bench.links[1].sent] == ["f01"]
    await bench.links[1].finish(seconds=0.1)
    assert len(bench.links[1].sent) == 20


@in_loop
async def test_only_the_file_that_a_worker_is_at_is_running(bench):
    await bench.ask(*(f"f{number:02}" for number in range(40)))
    assert bench.pool.load.running == {}
    await bench.links[0].start()
    await bench.links[0].finish(seconds=0.1)
    assert len(bench.links[0].sent) == 20
    assert bench.pool.load.running == {"f01": 1}


@in_loop
async def test_all_files_of_the_calls_that_a_worker_is_at_are_running(bench):
    told = {"batch_size": 2, "concurrency_limit": 2}
    bench = PoolBench(bench.directory, **told)
    await bench.ask(*(f"f{number:02}" for number in range(40)))
    await bench.links[0].start()
    await bench.links[0].finish_call(seconds=0.01)
    assert len(bench.links[0].calls) > 2
    assert [*bench.pool.load.running] == ["f02", "f03", "f04", "f05"]


@in_loop
async def test_what_waits_behind_a_long_file_goes_to_an_idle_worker(bench):
    bench = PoolBench(bench.directory, batch_size=2, workers=2)
    await bench.ask(*stems(3))
    slow, other = bench.links
    await slow.start()
    await slow.finish_call(seconds=0.01)
    await slow.finish_call(seconds=0.01)
    await bench.ask(*stems(6))
    assert slow.calls == [["f00", "f01"], ["f02", "f03"], ["f04", "f05"]]
    await other.start()
    assert other.calls == []
    await bench.let_patience_pass()
    assert slow.sent.count(Recall()) == 1
    ahead = [each.id for each in slow.sent if isinstance(each, FileRequest)][2:]
    await slow.hand_back(ahead)
    assert slow.calls == [["f00", "f01"]]
    assert other.calls == [["f02", "f03"], ["f04", "f05"]]
    # Nor is it given others.
    await bench.ask("g", "h", "i")
    assert slow.calls == [["f00", "f01"]]


@in_loop
async def test_what_waits_behind_a_long_file_gets_another_worker(bench):
    bench = PoolBench(bench.directory, workers=2)
    await bench.ask("a")
    await bench.links[0].start()
    await bench.links[0].finish(seconds=0.01)
    await bench.ask("long", "b")
    assert len(bench.links) == 1
    await bench.let_patience_pass()
    _, ahead, _ = bench.links[0].sent[-3:]
    await bench.links[0].hand_back([ahead.id])
    await bench.links[1].start()
    assert bench.links[1].calls == [["b"]]


@in_loop
async def test_files_are_called_back_only_if_another_worker_can_take_them(bench):
    await bench.ask("a", "long", "b")
    await bench.links[0].start()
    await bench.links[0].finish(seconds=0.01)
    await bench.let_patience_pass()
    assert Recall() not in bench.links[0].sent
    assert bench.links[0].calls == [["long"], ["b"]]


def stems(count):
    return [f"f{number:02}" for number in range(count)]


@in_loop
async def test_free_worker_gets_what_waits_in_one_call(bench):
    bench = PoolBench(bench.directory, batch_size=4)
    await bench.ask(*stems(10))
    await bench.links[0].start()
    assert bench.links[0].calls == [["f00", "f01", "f02", "f03"]]
    await bench.links[0].finish_call(seconds=9)
    assert bench.links[0].calls == [["f04", "f05", "f06", "f07"]]
    await bench.links[0].finish_call(seconds=9)
    assert bench.links[0].calls == [["f08", "f09"]]


@in_loop
async def test_worker_does_not_wait_for_a_full_batch(bench):
    bench = PoolBench(bench.directory, batch_size=4)
    await bench.ask("a")
    await bench.links[0].start()
    assert bench.links[0].calls == [["a"]]
    await bench.ask("b", "c")
    # Files that come meanwhile are for the next.
    assert bench.links[0].calls == [["a"]]
    await bench.links[0].finish_call(seconds=9)
    assert bench.links[0].calls == [["b", "c"]]


@in_loop
async def test_files_that_come_at_once_go_together_to_a_free_worker(bench):
    bench = PoolBench(bench.directory, batch_size=4)
    await bench.ask("a")
    await bench.links[0].start()
    await bench.links[0].finish_call(seconds=9)
    await bench.ask("b", "c", "d")
    assert bench.links[0].calls == [["b", "c", "d"]]


@in_loop
async def test_free_workers_share_what_waits(bench):
    bench = PoolBench(bench.directory, batch_size=8, workers=2)
    await bench.ask(*stems(9))
    assert len(bench.links) == 2
    for link in bench.links:
        await link.start()
    for link in bench.links:
        await link.finish_call(seconds=9)
    await bench.ask(*stems(6))
    assert sorted(map(len, (link.calls[0] for link in bench.links))) == [3, 3]


@in_loop
async def test_workers_never_outnumber_batches(bench):
    bench = PoolBench(bench.directory, batch_size=4, workers=3)
    await bench.ask(*stems(8))
    assert len(bench.links) == 2


@in_loop
async def test_short_batches_are_sent_ahead_but_few(bench):
    bench = PoolBench(bench.directory, batch_size=40)
    await bench.ask(*stems(200))
    await bench.links[0].start()
    await bench.links[0].finish_call(seconds=0.01)
    assert list(map(len, bench.links[0].calls)) == [40, 40]


@in_loop
async def test_async_worker_has_as_many_calls_as_its_limit(bench):
    told = {"batch_size": 4, "concurrency_limit": 2, "remote": False}
    bench = PoolBench(bench.directory, **told)
    await bench.ask(*stems(20))
    await bench.links[0].start()
    assert list(map(len, bench.links[0].calls)) == [4, 4]
    assert bench.pool.is_crowded
    await bench.links[0].finish_call()
    assert list(map(len, bench.links[0].calls)) == [4, 4]
    for _ in range(2):
        await bench.links[0].finish_call()
    # All that there is is in progress.
    assert not bench.pool.is_crowded


@in_loop
async def test_batch_of_a_worker_that_dies_is_retried_file_by_file(bench):
    bench = PoolBench(bench.directory, batch_size=4, retries=0)
    answers = await bench.ask("a", "b", "poison", "c", "d")
    await bench.links[0].start()
    await bench.links[0].end(CANCELLED)
    link = bench.links[1]
    await link.start()
    assert link.calls == [["a"]]
    await link.finish(seconds=9)
    await link.finish(seconds=9)
    assert link.calls == [["poison"]]
    await link.end(CANCELLED)
    link = bench.links[2]
    await link.start()
    await link.finish(seconds=9)
    # It was not in the company of the one to blame.
    assert link.calls == [["d"]]
    await link.finish(seconds=9)
    fates = [(await answer).fate for answer in answers]
    assert fates == [Fate.DONE, Fate.DONE, Fate.FAILED, Fate.DONE, Fate.DONE]
    assert bench.record("poison")["message"] == (
        "the worker was lost: cancelled while processing poison.txt"
    )


@in_loop
async def test_batch_that_was_only_ahead_stays_one(bench):
    bench = PoolBench(bench.directory, batch_size=2)
    await bench.ask(*stems(6))
    await bench.links[0].start()
    await bench.links[0].finish_call(seconds=0.01)
    assert bench.links[0].calls == [["f02", "f03"], ["f04", "f05"]]
    await bench.links[0].end(CANCELLED)
    await bench.links[1].start()
    assert bench.links[1].calls == [["f02"], ["f03"], ["f04", "f05"]]


@in_loop
async def test_batch_that_meets_the_wall_time_stays_one_if_it_began_late(bench):
    bench = PoolBench(bench.directory, batch_size=2)
    await bench.ask("a", "b")
    await bench.links[0].start(for_s=1000)
    await bench.links[0].leave(LeaveReason.WALL_TIME)
    await bench.links[1].start(for_s=1000)
    assert bench.links[1].calls == [["a", "b"]]


@in_loop
async def test_batch_that_had_a_workers_whole_time_is_retried_file_by_file(bench):
    bench = PoolBench(bench.directory, batch_size=2)
    first, second = await bench.ask("a", "b")
    await bench.links[0].start(for_s=10)
    await bench.links[0].leave(LeaveReason.WALL_TIME)
    await bench.links[1].start(for_s=1000)
    await bench.links[1].finish(seconds=9)
    assert (await first).fate is Fate.DONE
    await bench.links[1].leave(LeaveReason.WALL_TIME)
    await bench.links[2].start(for_s=10)
    assert bench.links[2].calls == [["b"]]
    await bench.links[2].leave(LeaveReason.WALL_TIME)
    assert (await second).fate is Fate.FAILED


@in_loop
async def test_batch_has_the_timeout_for_each_of_its_files(bench):
    bench = PoolBench(bench.directory, batch_size=4, timeout=1000.0, remote=False)
    await bench.ask("a", "b", "c", "d")
    await bench.links[0].start()
    assert bench.next_timeout_s() == pytest.approx(4000, abs=60)
    await bench.links[0].finish_call(seconds=9)
    await bench.ask("e")
    assert bench.next_timeout_s() == pytest.approx(1000, abs=60)


@in_loop
async def test_batch_that_takes_too_long_is_retried_file_by_file(bench):
    bench = PoolBench(bench.directory, batch_size=3, timeout=1000.0, remote=False)
    first, second, _ = await bench.ask("a", "b", "c")
    await bench.links[0].start()
    await bench.let_timeout_pass()
    assert bench.links[0].is_stopped
    await bench.links[0].end()
    await bench.links[1].start()
    await bench.links[1].finish()
    assert (await first).fate is Fate.DONE
    assert bench.links[1].calls == [["b"]]
    await bench.let_timeout_pass()
    assert bench.links[1].is_stopped
    await bench.links[1].end()
    assert (await second).fate is Fate.FAILED
    assert bench.record("b")["exception_type"] == "TimeoutError"


@in_loop
async def test_changes_of_workers_are_reported_and_answers_name_their_worker(bench):
    [first] = await bench.ask("a")
    await bench.links[0].start()
    await bench.links[0].finish()
    await bench.links[0].end()
    [second] = await bench.ask("b")
    await bench.links[1].start()
    await bench.links[1].finish()

    assert [(await answer).worker for answer in (first, second)] == [1, 2]
    assert bench.news == [
        ("work", 1, "launched", ""),
        ("work", 1, "started", "n1"),
        ("work", 1, "ready", ""),
        ("work", 1, "ended", "exit code 0"),
        ("work", 2, "launched", ""),
        ("work", 2, "started", "n1"),
        ("work", 2, "ready", ""),
    ]


@in_loop
async def test_file_done_just_after_its_timeout_gives_up_no_other(bench):
    bench = PoolBench(bench.directory, timeout=1000.0, remote=False)
    _, _, last = await bench.ask("a", "b", "c")
    await bench.links[0].start()
    await bench.links[0].finish(seconds=0.001)
    assert bench.links[0].calls == [["b"], ["c"]]
    await bench.let_timeout_pass()
    assert bench.links[0].is_stopped
    await bench.links[0].finish(seconds=0.001)
    await bench.links[0].end()
    await bench.links[1].start()
    await bench.links[1].finish()
    assert (await last).fate is Fate.DONE


@in_loop
async def test_worker_with_an_unrequested_answer_is_killed(bench):
    await bench.ask("a")
    [link] = bench.links
    await link.start()
    assert not link.is_killed
    await link.say(Answer(4711, Fate.DONE, "", "now", 1.0))
    assert link.is_killed
