import asyncio
import contextlib
import datetime as dt
import errno
import io
import json
import os
import stat
import sys
import threading
from unittest.mock import ANY

import pytest

from tigerflow.errors import OutputDirectoryError
from tigerflow.naming import TEMP_PREFIX
from tigerflow.tasks import execution
from tigerflow.tasks.execution import Batch, Interrupted
from tigerflow.tasks.file_job import FileJob
from tigerflow.tasks.printed import PRINTED_TAIL, PrintRecorder
from tigerflow.tasks.strays import Strays


@pytest.fixture
def job(weird_tmp_path):
    (weird_tmp_path / "in").mkdir()
    (weird_tmp_path / "out").mkdir()
    source = weird_tmp_path / "in" / "a.b.txt"
    source.write_text("text")
    out = weird_tmp_path / "out"
    return FileJob(source, out / "a.b.tar.gz", out / "a.b.err")


def process(job, run):
    """Do what a server does with a file."""
    with batch_of(job) as batch, batch.attempt() as [(source, output)]:
        run(source, output)
    return batch.settled[0]


@contextlib.contextmanager
def batch_of(job):
    with Strays() as strays:
        yield Batch("embed", [job], strays)


def fail_with(job, exception):
    """Return the attempt and the `.err` of a run that raises."""

    def run(_input, output):
        output.write_text("half")
        raise exception

    this = process(job, run)
    return this, json.loads(job.error.read_text())


def left(job):
    return sorted(path.name for path in job.output.parent.iterdir())


def test_output_of_run_gets_the_final_name_and_nothing_else_is_left(job):
    this = process(job, lambda source, out: out.write_text(source.read_text() * 2))

    assert job.output.read_text() == "texttext"
    assert left(job) == ["a.b.tar.gz"]
    assert this.failure is None
    assert this.started <= this.finished


def test_a_run_that_writes_nothing_leaves_an_empty_placeholder(job):
    process(job, lambda *_: None)

    assert job.output.read_bytes() == b""
    assert left(job) == ["a.b.tar.gz"]


def test_run_gets_an_empty_file_with_the_whole_extension_of_the_target(job):
    seen = []

    def run(_input, output):
        seen.append((output.parent, output.name[:5], output.suffixes))
        seen.append((output.read_text(), job.output.exists()))

    process(job, run)

    place = job.output.parent
    assert seen == [(place, TEMP_PREFIX, [".tar", ".gz"]), ("", False)]


def test_an_output_whose_stem_ends_like_its_extension_has_that_extension_once(job):
    out = job.output.parent
    tar = FileJob(job.input, out / "a.tar.tar.gz", out / "a.tar.err")
    seen = []

    process(tar, lambda _input, output: seen.extend(output.suffixes))

    assert seen == [".tar", ".gz"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640)])
def test_the_umask_decides_the_mode_of_an_output(job, umask, mode):
    before = os.umask(umask)
    try:
        process(job, lambda *_: None)
    finally:
        os.umask(before)

    assert stat.S_IMODE(job.output.stat().st_mode) == mode


def test_an_output_may_be_replaced_by_run_with_a_rename(job):
    def run(_input, output):
        other = output.with_name("other")
        other.write_text("made elsewhere")
        other.replace(output)

    process(job, run)

    assert job.output.read_text() == "made elsewhere"


def with_npy(output):
    """Return the path that a library writes to which appends a suffix of its own."""
    return output.with_name(f"{output.name}.npy")


def leave(change):
    """Return a run that writes under a name like that of its output."""

    def run(_input, output):
        change(output).write_text("text")

    return run


@pytest.mark.parametrize(
    "change",
    [with_npy, lambda output: output.with_suffix(".srt")],
    ids=["appended", "replaced"],
)
def test_a_run_that_writes_another_file_fails_with_its_name(job, change):
    names = []

    def run(_input, output):
        leave(change)(_input, output)
        names.append(change(output).name)

    this = process(job, run)

    assert this.failure.summary == (
        f"StrayOutputError: run left '{names[0]}' beside its output_file; only "
        "output_file is kept. If a library appends a suffix of its own, give it an "
        "open file, or rename what it wrote to output_file before run returns"
    )
    assert this.failure.traceback == ""
    assert left(job) == ["a.b.err"]


def test_a_run_that_leaves_a_second_file_fails(job):
    def run(_input, output):
        output.write_text("text")
        for number in range(5):
            output.with_suffix(f".{number}").mkdir()

    this = process(job, run)

    assert " and 2 more beside its output_file" in this.failure.message
    assert left(job) == ["a.b.err"]


def test_a_run_that_writes_to_the_final_name_itself_loses_nothing_silently(job):
    this = process(job, lambda *_: job.output.write_text("text"))

    assert this.failure.message.startswith("run left 'a.b.tar.gz' beside its output_f")
    assert left(job) == ["a.b.err"]


def test_a_run_that_fails_leaves_nothing_under_its_own_names(job):
    def run(_input, output):
        leave(with_npy)(_input, output)
        raise ValueError

    this = process(job, run)

    assert this.failure.exception_type == "ValueError"
    assert left(job) == ["a.b.err"]


def test_a_run_may_leave_files_of_other_names(job):
    process(job, lambda _input, output: output.with_name("words.duckdb").touch())

    assert left(job) == ["a.b.tar.gz", "words.duckdb"]


def test_an_output_is_newer_than_its_input_whatever_run_does_to_its_times(job):
    process(job, lambda _input, out: os.utime(out, (0, 0)))

    assert job.output.stat().st_mtime_ns >= job.input.stat().st_mtime_ns


def test_an_output_that_is_linked_to_its_input_becomes_a_copy(job):
    os.utime(job.input, (10**9, 10**9))

    def run(source, output):
        output.unlink()
        os.link(source, output)

    process(job, run)

    assert left(job) == ["a.b.tar.gz"]
    assert job.output.read_text() == "text"
    assert not job.output.samefile(job.input)
    assert job.output.stat().st_mtime > job.input.stat().st_mtime == 10**9


def test_an_output_may_be_the_input_itself_moved(job):
    process(job, lambda source, output: source.replace(output))

    assert left(job) == ["a.b.tar.gz"]
    assert job.output.read_text() == "text"


@pytest.mark.parametrize(
    "record",
    [
        {"task": "embed", "output": "a.b.other"},
        {"task": "ingest"},
        {"task": "ingest", "output": "a.b.other"},
    ],
)
def test_a_success_keeps_the_error_of_another_task(job, record):
    job.error.write_text(json.dumps(record))

    process(job, lambda *_: None)

    assert left(job) == ["a.b.err", "a.b.tar.gz"]


@pytest.mark.parametrize(
    "text",
    [
        '{"task": "embed"}',
        # Its class has got another name since.
        '{"task": "ingest", "output": "a.b.tar.gz"}',
        "Traceback (most recent call last):",
        "[" * 10**6,
    ],
)
def test_a_success_removes_an_error_that_may_be_its_own(job, text):
    job.error.write_text(text)

    process(job, lambda *_: None)

    assert left(job) == ["a.b.tar.gz"]


def test_a_success_does_not_wait_for_a_fifo_in_place_of_its_error(job):
    os.mkfifo(job.error)

    process(job, lambda *_: None)

    assert left(job) == ["a.b.tar.gz"]


def test_a_success_removes_the_error_of_an_earlier_try(job):
    job.error.write_text("{}")

    process(job, lambda *_: None)

    assert left(job) == ["a.b.tar.gz"]


def test_a_failure_leaves_an_err_and_neither_output_nor_temporary(job):
    job.output.write_text("of an earlier run")

    this, record = fail_with(job, ValueError("no speech in it"))

    assert left(job) == ["a.b.err"]
    assert this.failure.summary == "ValueError: no speech in it"
    assert list(record) == [
        "file",
        "timestamp",
        "exception_type",
        "message",
        "traceback",
        "task",
        "printed",
        "output",
    ]
    assert record["file"] == "a.b.txt"
    assert record["exception_type"] == "ValueError"
    assert record["message"] == "no speech in it"
    assert record["task"] == "embed"
    assert record["output"] == "a.b.tar.gz"
    moment = dt.datetime.fromisoformat(record["timestamp"])
    assert moment.utcoffset() == dt.timedelta(0)


def test_the_traceback_starts_in_the_code_of_the_user_and_has_the_cause(job):
    def run(_input, _output):
        try:
            int("x")
        except ValueError as error:
            msg = "bad file"
            raise RuntimeError(msg) from error

    process(job, run)

    trace = json.loads(job.error.read_text())["traceback"]
    assert "invalid literal for int() with base 10: 'x'" in trace
    assert trace.endswith("RuntimeError: bad file\n")
    assert "tigerflow/tasks" not in trace


class UnprintableError(Exception):
    def __str__(self):
        raise SystemExit

    __repr__ = __str__


class NoTextError(Exception):
    def __str__(self):
        return 7  # noqa: PLE0307 -- what a task may do


class NoErrnoError(OSError):
    @property
    def errno(self):
        raise ValueError


class NoCauseError(Exception):
    @property
    def __cause__(self):
        raise ValueError

    def __bool__(self):
        raise ValueError


class Nameless(type):
    @property
    def __name__(cls):
        return 7


class NamelessError(Exception, metaclass=Nameless):
    pass


class OddText(str):
    __slots__ = ()

    def strip(self):
        raise ValueError


class OddTextError(Exception):
    def __str__(self):
        return OddText("odd")


def in_a_circle():
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    return one


def from_odd_reason():
    exception = ValueError("with a reason")
    exception.__context__ = NoCauseError()
    return exception


@pytest.mark.parametrize(
    ("exception", "name", "message"),
    [
        (NoTextError(), "NoTextError", "<unprintable NoTextError object>"),
        (OSError({}, "odd"), "OSError", "[Errno {}] odd"),
        (NoErrnoError("odd"), "NoErrnoError", "odd"),
        (NoCauseError("odd"), "NoCauseError", "odd"),
        (from_odd_reason(), "ValueError", "with a reason"),
        (NamelessError("odd"), "NamelessError", "odd"),
        (type("Two\nlines", (Exception,), {})(), "'Two\\nlines'", ""),
        (OddTextError(), "OddTextError", "odd"),
        (in_a_circle(), "ValueError", "one"),
        (ValueError(threading.Lock()), "ValueError", ANY),
        (ValueError("x" * 5_000_000), "ValueError", "x" * 5_000_000),
        (SystemExit(3), "SystemExit", "3"),
        (KeyboardInterrupt(), "KeyboardInterrupt", ""),
        (MemoryError(), "MemoryError", ""),
        (RecursionError("deep"), "RecursionError", "deep"),
        (StopIteration(1), "StopIteration", "1"),
        (GeneratorExit(), "GeneratorExit", ""),
        (asyncio.CancelledError(), "CancelledError", ""),
        (
            ExceptionGroup("two", [ValueError("a")]),
            "ExceptionGroup",
            "two (1 sub-exception)",
        ),
        (ValueError(threading.Lock), "ValueError", str(threading.Lock)),
        (
            UnprintableError(),
            "UnprintableError",
            "<unprintable UnprintableError object>",
        ),
        (ValueError("\udcff\x00{}<red>%s"), "ValueError", "\udcff\x00{}<red>%s"),
        (FileNotFoundError(2, "gone", "x"), "FileNotFoundError", "[Errno 2] gone: 'x'"),
    ],
)
def test_any_exception_of_run_fails_its_file(job, exception, name, message):
    this, record = fail_with(job, exception)

    assert (record["exception_type"], record["message"]) == (name, message)
    assert record["traceback"] != ""
    assert left(job) == ["a.b.err"]
    assert this.failure.summary.startswith(name)


def test_an_error_that_cannot_be_stored_is_replaced_by_the_reason(job, monkeypatch):
    store = execution.write_error

    def write(job, record):
        if record.message == "too large":
            raise MemoryError
        store(job, record)

    # As with a message of half the memory.
    monkeypatch.setattr(execution, "write_error", write)

    _, record = fail_with(job, ValueError("too large"))

    assert record["exception_type"] == "MemoryError"
    assert left(job) == ["a.b.err"]


def refuse_what_exists(output):
    """Fail as duckdb.connect does for an empty file."""
    msg = f'The file "{output}" exists, but it is not a valid database file!'
    raise ValueError(msg)


@pytest.mark.parametrize(
    "occupy",
    [
        lambda output: output.open("x"),
        lambda output: output.mkdir(),
        lambda output: (output / "deep").mkdir(),
        lambda output: output.symlink_to("x"),
        refuse_what_exists,
    ],
)
def test_an_error_that_names_the_temporary_says_that_it_exists(job, occupy):
    this = process(job, lambda _input, output: occupy(output))

    assert this.failure.message.endswith(
        "; output_file is an empty file when run starts: overwrite it (mode 'w', "
        "not 'x'), or remove it first; to store a directory, write an archive"
    )


def test_an_error_about_another_file_that_exists_says_only_that(job):
    this = process(job, lambda source, _output: source.open("x"))

    assert this.failure.message.endswith("a.b.txt'")


def test_frames_of_a_task_are_kept_whatever_its_module_is_called(job):
    for name in ("asyncio", "asyncio_fetch", "tigerflow.tasks_more", None):
        names = {"__name__": name}
        exec("def run(*_): raise ValueError", names)

        this = process(job, names["run"])

        assert "in run" in this.failure.traceback


@pytest.mark.parametrize("exception", [asyncio.CancelledError, GeneratorExit])
def test_a_coroutine_that_raises_a_cancellation_itself_fails(job, exception):
    async def run():
        with batch_of(job) as batch, batch.attempt():
            raise exception

    asyncio.run(run())

    assert left(job) == ["a.b.err"]


def test_a_coroutine_that_is_closed_leaves_its_file_undone(job):
    async def run():
        with batch_of(job) as batch, batch.attempt() as [(_input, output)]:
            output.write_text("half")
            await asyncio.Event().wait()

    coroutine = run()

    async def step():
        coroutine.send(None)

    asyncio.run(step())
    coroutine.close()

    assert left(job) == []


def test_a_coroutine_that_is_cancelled_leaves_its_file_undone(job):
    async def run():
        with batch_of(job) as batch, batch.attempt() as [(_input, output)]:
            output.write_text("half")
            await asyncio.Event().wait()

    async def main():
        task = asyncio.create_task(run())
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())

    assert left(job) == []


def test_an_interrupt_of_the_process_leaves_the_file_undone(job):
    job.output.write_text("of an earlier run")

    def run(_input, output):
        with_npy(output).touch()
        raise Interrupted(15)

    with pytest.raises(Interrupted):
        process(job, run)

    assert left(job) == ["a.b.tar.gz"]


@pytest.mark.parametrize("removal", ["unlink", "directory", "link"])
def test_a_run_that_removes_its_output_file_fails_with_a_reason(job, removal):
    def run(_input, output):
        output.unlink()
        if removal == "directory":
            (output / "deep").mkdir(parents=True)
        elif removal == "link":
            output.symlink_to(job.input)

    this = process(job, run)

    assert this.failure.message == (
        "run removed or replaced its output_file; write to the path it was given"
    )
    assert this.failure.traceback == ""
    assert left(job) == ["a.b.err"]
    assert job.input.read_text() == "text"


def test_a_directory_with_the_name_of_the_output_fails_only_that_file(job):
    job.output.mkdir()

    this = process(job, lambda *_: None)

    assert this.failure.exception_type == "IsADirectoryError"
    assert left(job) == ["a.b.err", "a.b.tar.gz"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_full_storage_is_not_blamed_on_the_file(job, number, monkeypatch):
    full = OSError(number, os.strerror(number))
    monkeypatch.setattr(execution, "storage_problem", lambda _directory: full)
    with pytest.raises(OutputDirectoryError) as error:
        fail_with(job, OSError(number, os.strerror(number)))

    assert str(error.value) == (
        f"Cannot write to output directory {str(job.output.parent)!r}: "
        f"{os.strerror(number)}. No files were lost: fix this, then start again"
    )
    assert left(job) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_file_fails_when_a_place_of_the_task_itself_is_full(job, number):
    this, _ = fail_with(job, OSError(number, os.strerror(number), "/dev/shm/x"))

    assert this.failure.exception_type == "OSError"
    assert left(job) == ["a.b.err"]


def test_an_output_directory_that_went_away_is_not_blamed_on_the_file(job):
    def run(_input, output):
        output.unlink()
        output.parent.rmdir()

    with pytest.raises(OutputDirectoryError) as error:
        process(job, run)

    assert str(error.value) == (
        f"Cannot write to output directory {str(job.output.parent)!r}: "
        "No such file or directory. No files were lost: fix this, then start again"
    )


def test_an_output_name_that_is_too_long_fails_its_file(job):
    stem = "x" * 251
    long = FileJob(
        job.input,
        job.output.with_name(f"{stem}.json"),
        job.output.with_name(f"{stem}.err"),
    )

    this = process(long, lambda *_: None)

    assert this.failure.message.startswith("[Errno 36] File name too long")
    assert left(job) == [f"{stem}.err"]


def test_a_name_that_is_too_long_for_an_err_as_well_fails_without_one(job):
    stem = "x" * 253
    long = FileJob(
        job.input,
        job.output.with_name(f"{stem}.json"),
        job.output.with_name(f"{stem}.err"),
    )

    this = process(long, lambda *_: None)

    assert this.failure.message.startswith("[Errno 36] File name too long")
    assert left(job) == []


@pytest.fixture
def stream():
    return io.StringIO()


@contextlib.contextmanager
def recorded(stream):
    with contextlib.redirect_stdout(PrintRecorder(stream)):
        yield


def test_prints_of_a_failed_run_are_in_its_err_and_on_the_stream(job, stream):
    def run(_input, _output):
        print("loading", "part 1")
        sys.stdout.writelines(["a\n", "b\n"])
        raise ValueError

    with recorded(stream):
        print("before")
        process(job, run)
        print("after")

    assert json.loads(job.error.read_text())["printed"] == "loading part 1\na\nb\n"
    assert stream.getvalue() == "before\nloading part 1\na\nb\nafter\n"


def test_only_the_tail_of_a_long_print_is_kept(job, stream):
    def run(_input, _output):
        for number in range(50_000):
            print(number)
        raise ValueError

    with recorded(stream):
        process(job, run)

    printed = json.loads(job.error.read_text())["printed"]
    assert len(printed) == PRINTED_TAIL
    assert printed.endswith("49998\n49999\n")


def test_prints_of_concurrent_files_are_kept_apart(job, stream):
    async def run(name):
        error = job.error.with_name(f"{name}.err")
        one = FileJob(job.input, job.output, error)
        with batch_of(one) as batch, batch.attempt():
            for _ in range(3):
                print(name)
                await asyncio.sleep(0)
            raise ValueError
        return json.loads(error.read_text())["printed"]

    async def main():
        return await asyncio.gather(run("a"), run("b"))

    with recorded(stream):
        printed = asyncio.run(main())

    assert printed == ["a\n" * 3, "b\n" * 3]
    assert stream.getvalue() == "a\nb\n" * 3


def test_a_write_of_bytes_fails_its_file_as_on_any_stream_of_text(job, stream):
    def run(_input, _output):
        print("before")
        sys.stdout.write(b"bytes")

    with recorded(stream):
        this = process(job, run)
        print("after")

    with pytest.raises(TypeError) as error:
        sys.__stdout__.write(b"bytes")
    assert this.failure.exception_type == "TypeError"
    assert this.failure.message == str(error.value)
    assert this.failure.printed == "before\n"
    assert stream.getvalue() == "before\nafter\n"


def test_bytes_may_be_written_to_the_buffer_of_the_stream(job):
    raw = io.BytesIO()
    text = io.TextIOWrapper(raw)
    with recorded(text):
        this = process(job, lambda *_: sys.stdout.buffer.write(b"\xff bytes"))

    assert this.failure is None
    assert raw.getvalue() == b"\xff bytes"


def test_a_file_that_closes_the_stream_does_not_close_it_for_the_others(job, stream):
    def run(_input, _output):
        with sys.stdout:
            print("in it")
        sys.stdout.close()

    with recorded(stream):
        this = process(job, run)
        print("after")

    assert this.failure is None
    assert stream.getvalue() == "in it\nafter\n"


def test_print_after_the_stream_was_closed_does_not_fail(job, stream):
    stream.close()

    with recorded(stream):
        this = process(job, lambda *_: print("text", flush=True))

    assert this.failure is None


class Broken(io.StringIO):
    def write(self, _text):
        raise BrokenPipeError

    def flush(self):
        raise BrokenPipeError


@pytest.mark.parametrize("reader", [Broken(), None], ids=["gone", "closed"])
def test_print_to_a_broken_pipe_does_not_fail(job, reader):
    with recorded(reader):
        this = process(job, lambda *_: print("text", flush=True))

    assert this.failure is None
    assert left(job) == ["a.b.tar.gz"]


def test_a_print_that_the_stream_cannot_encode_is_written_readably(job):
    raw = io.BytesIO()
    ascii_only = io.TextIOWrapper(raw, encoding="ascii")
    with recorded(ascii_only):
        this = process(job, lambda *_: print("\udcff é", flush=True))

    assert this.failure is None
    assert raw.getvalue() == b"\\udcff \\xe9\n"


def test_the_recorder_is_a_stream_in_all_other_ways():
    recorder = PrintRecorder(sys.__stdout__)

    assert recorder.encoding == sys.__stdout__.encoding
    assert recorder.fileno() == sys.__stdout__.fileno()
