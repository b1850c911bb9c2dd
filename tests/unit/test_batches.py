"""A task's `run_batch`, called by a server with files that a test hands out."""

import asyncio
import errno
import json
import os
import threading
from pathlib import Path

import pytest
from runs import DEADLINE_S

from tigerflow.errors import TaskDefinitionError, TigerflowError
from tigerflow.tasks import LocalAsyncTask, LocalTask, SlurmTask, execution
from tigerflow.tasks.base import check_definition
from tigerflow.tasks.execution import Batch, Interrupted
from tigerflow.tasks.file_job import FileJob
from tigerflow.tasks.file_loop import FileLoop
from tigerflow.tasks.strays import Strays


class Source:
    """Hands out batches of jobs, and remembers what it is told."""

    def __init__(self, *batches):
        self._batches = [*batches]
        self.started_files = []
        self.done = []
        self.failed = {}
        self.broken_files = []

    def batch(self, limit):
        return self._batches.pop(0)[:limit] if self._batches else []

    def on_stop(self, callback):
        pass

    def stop(self):
        self._batches.clear()

    def patience_s(self):
        return None

    def started(self, job):
        self.started_files.append(job.input.stem)

    def finished(self, job, result):
        assert job is result.job
        assert result.started <= result.finished
        if result.failure is None:
            self.done.append(job.input.stem)
        else:
            self.failed[job.input.stem] = result.failure.summary

    def broken(self, job, error):
        self.broken_files.append((job.input.stem, type(error).__name__))


class Silence:
    """A lifecycle that nobody follows."""

    def setting_up(self):
        pass

    def set_up(self):
        pass

    def shutting_down(self):
        pass


class Desk:
    def __init__(self, directory):
        self.path = directory
        (directory / "in").mkdir()
        (directory / "out").mkdir()

    def job(self, stem):
        source = self.path / "in" / f"{stem}.txt"
        source.write_text(stem)
        out = self.path / "out"
        return FileJob(source, out / f"{stem}.out", out / f"{stem}.err")

    def serve(self, task, *batches, size=32, timeout_s=None):
        """Serve batches of stems; return the source."""
        source = Source(*([self.job(stem) for stem in batch] for batch in batches))
        server = FileLoop(task, "work", {}, batch_size=size, timeout_s=timeout_s)
        server.serve(source, Silence())
        return source

    def results(self):
        return {
            path.name: path.read_text()
            for path in sorted((self.path / "out").iterdir())
            if path.suffix != ".err"
        }

    def left(self):
        return sorted(path.name for path in (self.path / "out").iterdir())

    def record(self, stem):
        return json.loads((self.path / "out" / f"{stem}.err").read_text())


@pytest.fixture
def desk(weird_tmp_path):
    return Desk(weird_tmp_path)


@pytest.fixture
def calls():
    """The stems of each call."""
    return []


def batch_task(calls, run_batch, base=LocalTask, **more):
    """Return a task that notes its calls; `run_batch` gets the pairs."""

    def noted(_context, pairs):
        calls.append([source.stem for source, _ in pairs])
        return run_batch(pairs)

    async def noted_async(_context, pairs):
        calls.append([source.stem for source, _ in pairs])
        return await run_batch(pairs)

    body = noted_async if base is LocalAsyncTask else noted
    return type("Work", (base,), {"run_batch": staticmethod(body), **more})


def copy_all(pairs):
    for source, output in pairs:
        output.write_text(source.read_text().upper())


def nothing(_context, _pairs):
    pass


def just_context(_context):
    pass


def fail_on_bad(pairs):
    """Write something, then fail if there is a bad one among them."""
    for source, output in pairs:
        output.write_text("half")
        print("looking at", source.stem)
    if bad := [source.stem for source, _ in pairs if source.stem.startswith("bad")]:
        msg = f"cannot read {bad[0]}"
        raise ValueError(msg)
    copy_all(pairs)


async def copy_async(pairs):
    await asyncio.sleep(0)
    copy_all(pairs)


@pytest.mark.parametrize(
    ("base", "body"),
    [(LocalTask, copy_all), (SlurmTask, copy_all), (LocalAsyncTask, copy_async)],
)
def test_a_call_has_the_files_that_wait(desk, calls, base, body):
    source = desk.serve(batch_task(calls, body, base), ["a", "b"], ["c"])

    assert calls == [["a", "b"], ["c"]]
    assert desk.results() == {"a.out": "A", "b.out": "B", "c.out": "C"}
    assert source.started_files == source.done == ["a", "b", "c"]


def test_call_holds_at_most_its_limit_of_files(desk, calls):
    desk.serve(batch_task(calls, copy_all), ["a", "b", "c"], size=2)

    assert calls == [["a", "b"]]


def test_a_pair_is_an_input_and_a_temporary_in_the_output_directory(desk, calls):
    seen = []

    def look(pairs):
        for source, output in pairs:
            seen.append((source.name, output.read_text(), output.suffix))
            seen.append(output.name.startswith(".~tf_"))

    desk.serve(batch_task(calls, look), ["a", "b"])

    assert seen == [("a.txt", "", ".out"), True, ("b.txt", "", ".out"), True]
    assert desk.results() == {"a.out": "", "b.out": ""}


def test_a_success_removes_the_error_of_an_earlier_try(desk, calls):
    for stem in ("a", "b"):
        desk.job(stem).error.write_text("{}")

    desk.serve(batch_task(calls, copy_all), ["a", "b"])

    assert desk.left() == ["a.out", "b.out"]


def test_a_single_file_goes_to_run_if_defined(desk, calls):
    def run(_context, source, output):
        output.write_text(f"run {source.stem}")
        return "whatever it likes"

    task = batch_task(calls, copy_all, run=staticmethod(run))
    desk.serve(task, ["a"], ["b", "c"])

    assert calls == [["b", "c"]]
    assert desk.results() == {"a.out": "run a", "b.out": "B", "c.out": "C"}


def test_when_a_call_raises_only_the_guilty_fail(desk, calls):
    source = desk.serve(batch_task(calls, fail_on_bad), ["a", "bad", "c"])

    assert calls == [["a", "bad", "c"], ["a"], ["bad"], ["c"]]
    assert desk.results() == {"a.out": "A", "c.out": "C"}
    assert source.failed == {"bad": "ValueError: cannot read bad"}
    assert desk.record("bad")["printed"] == "looking at bad\n"
    assert desk.record("bad")["traceback"].endswith("ValueError: cannot read bad\n")
    assert desk.left() == ["a.out", "bad.err", "c.out"]


def test_files_of_a_failed_call_go_to_run_if_defined(desk, calls):
    def run(_context, source, output):
        if source.stem == "bad":
            raise KeyError(source.stem)
        output.write_text("run")

    task = batch_task(calls, fail_on_bad, run=staticmethod(run))
    source = desk.serve(task, ["a", "bad"])

    assert desk.results() == {"a.out": "run"}
    assert source.failed == {"bad": "KeyError: 'bad'"}


@pytest.mark.parametrize("exception", [SystemExit(3), KeyboardInterrupt, MemoryError])
def test_whatever_a_call_raises_stops_no_other_file(desk, calls, exception):
    def body(pairs):
        if len(pairs) > 1:
            raise exception
        copy_all(pairs)

    source = desk.serve(batch_task(calls, body), ["a", "b"])

    assert source.done == ["a", "b"]


async def fail_one_async(pairs):
    async def one(source, output):
        if source.stem == "bad":
            msg = "not this one"
            raise ValueError(msg)
        output.write_text(source.stem)

    return await asyncio.gather(*(one(*pair) for pair in pairs), return_exceptions=True)


def fail_one(pairs):
    for source, output in pairs:
        output.write_text(source.stem)
    return [ValueError("not this one") if s.stem == "bad" else None for s, _ in pairs]


@pytest.mark.parametrize(
    ("base", "body"), [(LocalTask, fail_one), (LocalAsyncTask, fail_one_async)]
)
def test_a_returned_exception_fails_its_pair(desk, calls, base, body):
    source = desk.serve(batch_task(calls, body, base), ["a", "bad", "c"], ["bad"])

    assert calls == [["a", "bad", "c"], ["bad"]]
    assert desk.results() == {"a.out": "a", "c.out": "c"}
    assert source.failed == {"bad": "ValueError: not this one"}
    assert "tigerflow" not in desk.record("bad")["traceback"]


@pytest.mark.parametrize(
    ("returned", "found"),
    [
        ([None], "1 results for 2 pairs"),
        ([None, "done"], "a result of type str"),
        (["done", "done"], "a result of type str"),
        (3, "a value of type int"),
        ({"a": None, "b": None, "c": None}, "a value of type dict"),
        ("ab", "a value of type str"),
        ([None, ValueError], "a result of type type"),
    ],
)
def test_unknown_return_value_is_not_a_success(desk, returned, found):
    with Strays() as strays:
        batch = Batch("work", [desk.job("a"), desk.job("b")], strays)
        with batch.attempt():
            batch.returned = returned

    assert str(batch.raised) == (
        f"run_batch returned {found}; it must return None, or a list with None or "
        "an exception for each pair"
    )
    assert desk.left() == []


def test_a_wrong_result_is_described(desk, calls):
    source = desk.serve(batch_task(calls, lambda _pairs: ["done"]), ["a"])

    start = "BatchResultError: run_batch returned a result of type str; it must return"
    assert source.failed["a"].startswith(start)
    # Raised by us, at no place in the task's code.
    assert desk.record("a")["traceback"] == ""


@pytest.mark.parametrize("base", [LocalTask, LocalAsyncTask])
def test_an_output_under_another_name_fails_its_pair_alone(desk, calls, base):
    def write(pairs):
        copy_all(pairs)
        pairs[1][1].with_suffix(".srt").touch()

    async def write_async(pairs):
        write(pairs)

    body = write if base is LocalTask else write_async
    source = desk.serve(batch_task(calls, body, base), ["a", "b", "c"])

    assert source.done == ["a", "c"]
    assert source.failed["b"].startswith("StrayOutputError: run left '.~tf_")
    assert desk.left() == ["a.out", "b.err", "c.out"]


def test_an_output_that_was_taken_away_fails_its_pair_alone(desk, calls):
    def body(pairs):
        copy_all(pairs)
        pairs[1][1].unlink()

    source = desk.serve(batch_task(calls, body), ["a", "b", "c"])

    assert calls == [["a", "b", "c"]]
    assert source.done == ["a", "c"]
    assert source.failed.keys() == {"b"}


@pytest.mark.parametrize("returns", [False, True])
def test_full_storage_is_blamed_on_no_file(desk, calls, returns, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(execution, "storage_problem", lambda _directory: full)

    def body(pairs):
        copy_all(pairs)
        if returns:
            return [None, full, None]
        raise full

    source = desk.serve(batch_task(calls, body), ["a", "b", "c"])

    assert calls == [["a", "b", "c"]]
    assert source.done == (["a"] if returns else [])
    broken = ["b", "c"] if returns else ["a", "b", "c"]
    assert source.broken_files == [(stem, "OutputDirectoryError") for stem in broken]
    assert desk.left() == ["a.out"] * returns


def test_an_interrupt_leaves_all_files_undone(desk, calls):
    def body(pairs):
        copy_all(pairs)
        raise Interrupted(15)

    with pytest.raises(Interrupted):
        desk.serve(batch_task(calls, body), ["a", "b"])

    assert desk.left() == []


def test_a_coroutine_has_the_timeout_for_each_of_its_files(desk, calls):
    async def body(pairs):
        if any(source.stem == "slow" for source, _ in pairs):
            await asyncio.sleep(20)
        copy_all(pairs)

    task = batch_task(calls, body, LocalAsyncTask)
    source = desk.serve(task, ["a", "slow", "c"], timeout_s=0.05)

    assert calls == [["a", "slow", "c"], ["a"], ["slow"], ["c"]]
    assert source.done == ["a", "c"]
    message = "TimeoutError: run took longer than the timeout of 0.05 s"
    assert source.failed == {"slow": message}


def test_a_coroutine_that_cancels_the_task_it_runs_in_fails_its_file_alone(desk):
    class Work(LocalAsyncTask):
        @staticmethod
        async def run(_context, source, output):
            if source.stem == "a":
                asyncio.current_task().cancel()
                await asyncio.Event().wait()
            output.write_text(source.stem)

    source = Source([desk.job("a")], [desk.job("b")])
    FileLoop(Work, "work", {}).serve(source, Silence())

    assert source.failed == {"a": "CancelledError"}
    assert desk.results() == {"b.out": "b"}


def test_a_task_without_run_batch_has_files_that_came_together_one_by_one(desk):
    class Work(LocalTask):
        @staticmethod
        def run(_context, source, output):
            output.write_text(source.stem)

    source = Source([desk.job("a"), desk.job("b")])
    # Whoever hands out files may have been told of another version of the module.
    source.batch = lambda _limit: source._batches.pop() if source._batches else []
    FileLoop(Work, "work", {}, batch_size=8).serve(source, Silence())

    assert source.done == ["a", "b"]
    assert desk.results() == {"a.out": "a", "b.out": "b"}


def test_one_of_run_and_run_batch_is_enough(calls):
    check_definition(batch_task(calls, copy_all))
    with pytest.raises(TaskDefinitionError, match="Work has no run; write"):
        check_definition(type("Work", (LocalTask,), {}))


@pytest.mark.parametrize(
    ("members", "sentence"),
    [
        (
            {"run_batch": staticmethod(just_context)},
            "Work.run_batch does not take (context, pairs); write @staticmethod def",
        ),
        (
            {"run_batch": staticmethod(copy_async)},
            "Work.run_batch does not take (context, pairs)",
        ),
        (
            {"run_batch": staticmethod(nothing), "batch_size": 0},
            "Work.batch_size must be a number of at least 1, not 0",
        ),
        (
            {
                "run_batch": staticmethod(nothing),
                "batch_size": True,
            },
            "Work.batch_size must be a number of at least 1, not True",
        ),
    ],
)
def test_a_class_that_cannot_work_is_refused(members, sentence):
    with pytest.raises(TaskDefinitionError) as error:
        check_definition(type("Work", (LocalTask,), members))

    assert str(error.value).startswith(sentence)


def test_run_batch_of_an_async_task_is_a_coroutine():
    members = {"run_batch": staticmethod(nothing)}
    with pytest.raises(TaskDefinitionError, match="run_batch is not 'async def'"):
        check_definition(type("Work", (LocalAsyncTask,), members))


def test_a_param_may_be_named_batch_size_without_run_batch(calls):
    class Params:
        batch_size: int = 8

    def run(_context, _source, _output):
        pass

    members = {"Params": Params, "run": staticmethod(run)}
    task = type("Work", (LocalTask,), members | {"batch_size": "its own business"})
    check_definition(task)
    assert [field.name for field in task.fields()] == ["batch_size"]
    with pytest.raises(TigerflowError) as error:
        batch_task(calls, copy_all, Params=Params).fields()
    assert str(error.value) == (
        "Parameter name collision in Work.Params: {'batch_size'} is reserved; rename it"
    )


@pytest.mark.parametrize("base", [LocalTask, LocalAsyncTask])
def test_outputs_of_a_call_are_synced_before_they_get_their_names(
    desk, calls, base, monkeypatch
):
    monkeypatch.delenv("TIGERFLOW_FSYNC", raising=False)
    seen = []

    def note(descriptor):
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        seen.append((name[:5], os.pread(descriptor, 9, 0), desk.left()))

    # There is no power cut to be had; what is asked of the kernel can be seen.
    monkeypatch.setattr(os, "fdatasync", note)

    async def copy_all_async(pairs):
        copy_all(pairs)

    body = copy_all if base is LocalTask else copy_all_async
    desk.serve(batch_task(calls, body, base), ["a", "b"])

    assert [content for _, content, _ in seen] == [b"A", b"B"]
    for name, _, left in seen:
        assert name == ".~tf_"
        assert {each[:5] for each in left} == {".~tf_"}


def test_an_err_is_synced_before_it_gets_its_name(desk, calls, monkeypatch):
    monkeypatch.delenv("TIGERFLOW_FSYNC", raising=False)
    seen = []

    def note(descriptor):
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        seen.append((name[:5], b"LookupError" in os.pread(descriptor, 999, 0)))

    monkeypatch.setattr(os, "fdatasync", note)

    def fail(_pairs):
        raise LookupError

    desk.serve(batch_task(calls, fail), ["a"])

    assert seen == [(".~tf_", True)]
    assert desk.left() == ["a.err"]


@pytest.mark.parametrize("base", [LocalTask, LocalAsyncTask])
def test_a_disk_that_does_not_take_an_output_is_blamed_on_no_file(
    desk, calls, base, monkeypatch
):
    monkeypatch.delenv("TIGERFLOW_FSYNC", raising=False)

    def refuse(_descriptor):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", refuse)

    async def copy_all_async(pairs):
        copy_all(pairs)

    body = copy_all if base is LocalTask else copy_all_async
    source = desk.serve(batch_task(calls, body, base), ["a", "b"])

    assert source.broken_files == [
        ("a", "OutputDirectoryError"),
        ("b", "OutputDirectoryError"),
    ]
    assert desk.left() == []


class Unanswering(Source):
    """Waits for a second file, and cannot take the answer for the first."""

    def __init__(self, *batches):
        super().__init__(*batches)
        self._stopped = threading.Event()

    def stop(self):
        self._stopped.set()

    def batch(self, limit):
        batch = super().batch(limit)
        if not batch:
            self._stopped.wait(DEADLINE_S)
        return batch

    def finished(self, *_):
        raise LookupError


def test_an_async_server_ends_when_it_cannot_answer_for_a_file(desk, calls):
    async def run_batch(_pairs):
        pass

    task = batch_task(calls, run_batch, LocalAsyncTask)
    source = Unanswering([desk.job("a")])

    with pytest.raises(LookupError):
        FileLoop(task, "work", {}).serve(source, Silence())
