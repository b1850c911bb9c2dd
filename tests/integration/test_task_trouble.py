"""What the command line of a single task does with bad files, names and disks."""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import tarfile

import pytest
from runs import wait_until
from single_task import ASYNC, task

COPY = task(run="output_file.write_bytes(input_file.read_bytes())")
LIMIT = "--concurrency-limit=2"


@contextlib.contextmanager
def mounted(path, *options):
    """Mount a small file system in memory, or skip."""
    command = ["mount", "-t", "tmpfs", *options, "tmpfs", path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"only root may mount a file system: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


# Errors of a file


def test_failure_leaves_an_err_and_other_files_continue(bench):
    bench.give(a="1", b="x", c="3")

    service = bench.once(
        task(run="output_file.write_text('half'); int(input_file.read_text())")
    )

    assert service.end() == 1
    assert bench.results() == ["a.out", "b.err", "c.out"]
    record = bench.error("b")
    assert record["file"] == "b.txt"
    assert record["task"] == "Job"
    assert record["exception_type"] == "ValueError"
    assert record["message"] == "invalid literal for int() with base 10: 'x'"
    assert "tigerflow" not in record["traceback"]
    assert "my task.py" in record["traceback"]


def test_the_err_names_the_task_as_the_command_line_does(bench):
    bench.give(a="text")

    bench.once(task(run="1 / 0"), "--task-name=embed-2")

    assert bench.error("a")["task"] == "embed-2"


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("raise SystemExit(0)", "SystemExit"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise MemoryError", "MemoryError"),
        ("raise GeneratorExit", "GeneratorExit"),
        ("import asyncio; raise asyncio.CancelledError", "CancelledError"),
        ("raise type('Odd', (Exception,), {'__str__': None})", "Odd"),
        ("raise OSError([], 'odd')", "OSError"),
        ("return (letter for letter in 'abc')", "UnfinishedResultError"),
        ("output_file.with_suffix('.srt').touch()", "StrayOutputError"),
        ("import sys; sys.stdout.write(b'bytes')", "TypeError"),
        ("output_file.unlink(); output_file.mkdir()", "TemporaryOutputMissingError"),
    ],
)
@pytest.mark.parametrize("asynchronous", [False, True], ids=["local", "async"])
def test_no_exception_of_a_run_ends_the_service(bench, code, name, asynchronous):
    bench.give(a="bad", b="good")
    run = f"if input_file.stem == 'a':\n    {code}"
    template = {"template": ASYNC} if asynchronous else {}

    service = bench.once(task(run=run, **template), *([LIMIT] if asynchronous else []))

    assert service.end() == 1
    assert bench.results() == ["a.err", "b.out"]
    assert bench.error("a")["exception_type"] == name
    assert service.out == "torn down\n"


@pytest.mark.parametrize("method", ["setup", "teardown"])
def test_a_setup_or_teardown_that_returns_its_code_unrun_fails(bench, method):
    bench.give(a="text")

    service = bench.once(task(**{method: "return (letter for letter in 'abc')"}))

    assert service.end() == 1
    assert f"UnfinishedResultError: {method} returned a value of type " in service.log
    assert bench.results() == ([] if method == "setup" else ["a.out"])


def test_an_input_that_cannot_be_read_is_the_failure_of_that_file(bench):
    bench.give(b="good")
    # Reading /proc/self/mem from its start fails also for root.
    (bench.inputs / "a.txt").symlink_to("/proc/self/mem")

    service = bench.once(COPY)

    assert service.end() == 1
    assert bench.error("a")["message"] == f"[Errno {errno.EIO}] Input/output error"
    assert bench.results() == ["a.err", "b.out"]


def test_only_files_are_inputs(bench):
    bench.give(good="text")
    (bench.inputs / "folder.txt").mkdir()
    (bench.inputs / "dangling.txt").symlink_to("nowhere")
    (bench.inputs / "loop.txt").symlink_to("loop.txt")
    os.mkfifo(bench.inputs / "fifo.txt")

    service = bench.once(COPY)

    assert service.end() == 0
    assert bench.results() == ["good.out"]


# Names

NAMES = [
    "two words",
    'it\'s "quoted"',
    "new\nline",
    "{}",
    "{name} {0}",
    "<red>x<b>",
    "*?[a]",
    "$(touch injected)",
    "`touch injected`",
    "%s %d",
    "-rf",
    "--help",
    ".hidden",
    "..",
    "née 日本 🐯",
    "byte \udcff",
    "tab\tand \x1b[31mred",
    "x" * 251,
    "many.dots.in.it",
    "a.txt",
    "back\\slash",
    "",
]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["local", "async"])
def test_every_name_that_the_file_system_allows_works(bench, asynchronous):
    for name in NAMES:
        (bench.inputs / f"{name}.txt").write_text(f"text of {name!a}")
    body = "print(input_file); output_file.write_bytes(input_file.read_bytes())"
    if asynchronous:
        service = bench.once(task(ASYNC, run=body), LIMIT)
    else:
        service = bench.once(task(run=body))

    assert service.end() == 0, service.log
    assert bench.results() == sorted(f"{name}.out" for name in NAMES)
    for name in NAMES:
        assert (bench.outputs / f"{name}.out").read_text() == f"text of {name!a}"
    assert service.log.count("Successfully processed: ") == len(NAMES)
    assert "Successfully processed: {name} {0}.txt\n" in service.log
    assert "Successfully processed: 'new\\nline.txt'\n" in service.log
    assert not list(bench.path.rglob("injected"))


def test_every_name_has_its_err(bench):
    for name in NAMES:
        (bench.inputs / f"{name}.txt").touch()

    service = bench.once(task(run="raise ValueError(input_file.name)"))

    assert service.end() == 1
    assert bench.results() == sorted(f"{name}.err" for name in NAMES)
    assert bench.error("byte \udcff")["message"] == "byte \udcff.txt"


def test_a_result_name_that_is_too_long_fails_that_file_alone(bench):
    stem = "x" * 251
    bench.give(**{stem: "text", "short": "text"})

    service = bench.once(COPY, output_ext=".output")

    assert service.end() == 1
    assert bench.results() == ["short.output", f"{stem}.err"]


def test_file_without_space_for_a_result_is_reported_once_with_the_reason(bench):
    stem = "x" * 253
    (bench.inputs / f"{stem}.b").write_text("text")

    service = bench.once(COPY, input_ext=".b")

    assert service.end() == 1
    assert bench.results() == []
    assert service.log.count("Starting processing") == 1
    said = (
        "ERROR Cannot write an '.err', its name is too long: "
        "OSError: [Errno 36] File name too long"
    )
    assert said in "\n".join(service.messages())


def test_extensions_of_several_parts_are_kept_whole(bench):
    with tarfile.open(bench.inputs / "a.b.tar.gz", "w:gz") as archive:
        archive.add(bench.module.parent / "in", "in")
    (bench.inputs / "c.gz").touch()

    service = bench.once(
        task(
            run="assert output_file.suffixes == ['.tar', '.zst'], output_file.name\n"
            "assert input_file.stem == 'a.b.tar', input_file.name"
        ),
        input_ext=".tar.gz",
        output_ext=".tar.zst",
    )

    assert service.end() == 0
    assert bench.results() == ["a.b.tar.zst"]


def test_a_link_is_read_through_and_left_alone(bench):
    target = bench.path / "elsewhere.dat"
    target.write_text("text")
    (bench.inputs / "a.txt").symlink_to(target)

    service = bench.once(COPY)

    assert service.end() == 0
    assert (bench.outputs / "a.out").read_text() == "text"
    assert (bench.inputs / "a.txt").is_symlink()


def test_odd_names_of_directories_work(bench):
    odd = bench.path / "-new\nline {x} $(touch injected)"
    odd.mkdir()
    (odd / "a.txt").write_text("text")

    service = bench.once(COPY, input_dir=odd, output_dir=odd)

    assert service.end() == 0
    assert (odd / "a.out").read_text() == "text"


# Output directories


def test_a_full_output_directory_ends_the_service_with_a_sentence(bench):
    names = [f"f{number}" for number in range(9)]
    bench.give(**dict.fromkeys(names, "x" * 20_000))

    with mounted(bench.outputs, "-o", "size=64k"):
        first = bench.start(COPY)
        code = first.end()
        stored = bench.results()
        done = [path.read_text() for path in bench.outputs.glob("*.out")]
        subprocess.run(["mount", "-o", "remount,size=10m", bench.outputs], check=True)
        second = bench.once(COPY)
        results = bench.results()

    assert code == 1
    assert 0 < len(stored) < len(names)
    assert done == ["x" * 20_000] * len(done)
    assert first.messages()[-3:] == [
        (
            f"ERROR Cannot write to output directory {str(bench.outputs)!r}: "
            "No space left on device. No files were lost: fix this, then start again"
        ),
        "INFO Shutting down task",
        "INFO Task shutdown complete",
    ]
    assert first.log.count("ERROR") == 1
    assert "Traceback" not in first.log
    assert second.end() == 0
    assert results == [f"{name}.out" for name in names]


def test_a_full_output_directory_ends_an_async_service_as_well(bench):
    bench.give(**{f"f{number}": "x" * 20_000 for number in range(9)})
    code = task(ASYNC, run="output_file.write_bytes(input_file.read_bytes())")

    with mounted(bench.outputs, "-o", "size=64k"):
        service = bench.start(code, LIMIT)
        code = service.end()
        names = bench.results()

    assert code == 1
    assert all(name.endswith(".out") for name in names)
    assert service.log.count("Cannot write to output directory") == 1
    assert service.out == "torn down\n"


def test_a_read_only_output_directory_ends_the_service_with_a_sentence(bench):
    bench.give(a="text")

    with mounted(bench.outputs, "-o", "ro"):
        service = bench.start(COPY)
        code = service.end()

    assert code == 1
    assert service.messages()[-3:] == [
        (
            f"ERROR Cannot write to output directory {str(bench.outputs)!r}: "
            "Read-only file system. No files were lost: fix this, then start again"
        ),
        "INFO Shutting down task",
        "INFO Task shutdown complete",
    ]


@pytest.mark.parametrize("asynchronous", [False, True], ids=["local", "async"])
def test_a_directory_that_becomes_read_only_during_a_run_blames_no_file(
    bench,
    asynchronous,
):
    bench.give(a="text")
    wait = "await wait_for('go')" if asynchronous else "wait_for('go')"
    run = f"(here / 'begun').touch(); {wait}"
    template = {"template": ASYNC} if asynchronous else {}

    with mounted(bench.outputs):
        service = bench.start(
            task(run=run, **template), *([LIMIT] if asynchronous else [])
        )
        wait_until((bench.path / "begun").exists)
        subprocess.run(["mount", "-o", "remount,ro", bench.outputs], check=True)
        (bench.path / "go").touch()
        code = service.end()

    assert code == 1
    assert "Traceback" not in service.log
    assert service.log.count("Read-only file system. No files were lost") == 1
    assert service.out == "torn down\n"


def test_an_output_directory_that_goes_ends_the_service_with_a_sentence(bench):
    service = bench.start(COPY)
    service.wait_for("Task setup complete")

    bench.outputs.rmdir()
    bench.give(a="text")

    assert service.end() == 1
    assert "No such file or directory. No files were lost" in service.log
    assert "Traceback" not in service.log


def without_root_rights(words):
    """Have permissions hold for root as well."""
    if os.geteuid() != 0:
        return words
    if not shutil.which("setpriv"):
        pytest.skip("without setpriv, permissions do not hold for root")
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *words]


def test_output_directory_without_permission_is_reported_in_a_sentence(bench):
    bench.give(a="text")
    bench.module.write_text(COPY)
    bench.outputs.chmod(0o555)

    done = subprocess.run(
        without_root_rights(bench.words("--once")),
        cwd=bench.path,
        capture_output=True,
        text=True,
        check=False,
    )
    bench.outputs.chmod(0o755)

    assert done.returncode == 1
    assert "Permission denied. No files were lost" in done.stderr
    assert "Traceback" not in done.stderr
    assert bench.results() == []


def test_an_input_without_permission_is_the_failure_of_that_file(bench):
    bench.give(a="secret", b="text")
    bench.module.write_text(COPY)
    (bench.inputs / "a.txt").chmod(0)

    done = subprocess.run(
        without_root_rights(bench.words("--once")), cwd=bench.path, check=False
    )

    assert done.returncode == 1
    assert bench.results() == ["a.err", "b.out"]
    assert bench.error("a")["exception_type"] == "PermissionError"


def test_a_directory_named_like_an_output_fails_only_that_file(bench):
    bench.give(a="text", b="text")
    (bench.outputs / "a.out").mkdir()

    service = bench.start(COPY)
    service.wait_for("Successfully processed: b.txt")

    assert service.stop(signal.SIGTERM) == 143
    assert bench.error("a")["exception_type"] == "IsADirectoryError"
    assert bench.results() == ["a.err", "a.out", "b.out"]


def test_a_stale_output_of_a_file_that_fails_now_goes(bench):
    bench.give(a="old")
    bench.once(COPY)
    bench.give(a="new")

    bench.once(task(run="1 / 0"))

    assert bench.results() == ["a.err"]


def test_an_input_from_the_future_is_processed_once(bench):
    bench.give(a="text")
    os.utime(bench.inputs / "a.txt", (2**32, 2**32))
    service = bench.start(COPY)
    service.wait_for("Successfully processed: a.txt")
    bench.give(b="later")
    service.wait_for("Successfully processed: b.txt")

    assert service.stop() == 143
    assert service.log.count("Starting processing: a.txt") == 1
