"""`tigerflow retry`: failed files go again, under a running service or at the next."""

import json

import pytest
from flows import TIGERFLOW
from runs import World, wait_until
from services import Watched

from tigerflow.rundir.events import FileFailed, FileForgotten, FilesStaged

#: "bad…" fails in the head, "fork…" in both branches, until there is a file "mended".
CODE = """
def check(input_file, word):
    mended = (pathlib.Path({root!r}) / "mended").exists()
    if input_file.stem.startswith(word) and not mended:
        raise ValueError("not yet")


class Head(LocalTask):
    def run(context, input_file, output_file):
        note(f"head {{input_file.stem}}")
        check(input_file, "bad")
        output_file.write_text("head")


class Left(LocalTask):
    def run(context, input_file, output_file):
        note(f"left {{input_file.stem}}")
        check(input_file, "fork")
        output_file.write_text("left")


class Right(LocalTask):
    def run(context, input_file, output_file):
        note(f"right {{input_file.stem}}")
        if input_file.stem.startswith("slow"):
            wait_for("go")
        check(input_file, "fork")
        output_file.write_text("right")
"""
BRANCH = {"depends_on": "head", "input_ext": ".out"}
TASKS = [
    {"name": "head", "module": "tasks.py:Head"},
    BRANCH | {"name": "left", "module": "tasks.py:Left", "output_ext": ".md"},
    BRANCH | {"name": "right", "module": "tasks.py:Right", "output_ext": ".csv"},
]
ERRORS = ["head/bad.err", "left/fork.err", "right/fork.err"]


@pytest.fixture
def root(weird_tmp_path):
    return weird_tmp_path


@pytest.fixture
def flow(flow):
    flow.add_module(CODE.format(root=str(flow.root)))
    flow.add_inputs("a", "bad", "fork")
    flow.write(*TASKS)
    return flow


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """A run with failed files; tests put back the errors that they remove."""
    with World(tmp_path_factory.mktemp("failed")) as world:
        flow = Watched(world)
        flow.add_module(CODE.format(root=str(flow.root)))
        flow.add_inputs("a", "bad", "fork")
        flow.write(*TASKS)
        assert flow.once() == 1
        yield flow


@pytest.fixture
def stopped(failed):
    kept = {name: (failed.out / name).read_text() for name in ERRORS}
    yield failed
    for name, text in kept.items():
        (failed.out / name).write_text(text)


def call(flow, command, *words):
    """Run a command; return its exit code and what it printed."""
    done = flow.call(*TIGERFLOW, command, flow.out, *words)
    return done.returncode, done.stdout + done.stderr


def retry(flow, *words):
    return call(flow, "retry", *words)


def errors(flow):
    paths = flow.out.glob("*/*.err")
    return sorted(str(path.relative_to(flow.out)) for path in paths)


def counts(flow):
    return json.loads(call(flow, "report", "--json")[1])["progress"]["pipeline"]


# What goes again


def test_all_failed_files_are_retried_by_the_next_run(flow):
    flow.once()
    flow.forget()

    said = retry(flow)

    assert said == (0, "2 files will be processed again at the next run\n")
    assert errors(flow) == []
    (flow.root / "mended").touch()
    assert flow.once() == 0
    # What was done is not done again.
    assert flow.noted("head") == ["head bad"]
    assert flow.noted("left") == ["left bad", "left fork"]
    assert counts(flow)["finished"] == 3


@pytest.mark.snakemake
def test_plain_snakemake_takes_them_up_as_well(flow):
    flow.compile(*TASKS)
    flow.snakemake()
    before = errors(flow)
    (flow.root / "mended").touch()

    retry(flow)
    flow.snakemake()

    assert before == ERRORS
    assert (errors(flow), counts(flow)["finished"]) == ([], 3)


@pytest.mark.parametrize("file", ["fork.txt", "fork", "in/fork.txt"])
def test_a_file_is_given_by_name_stem_or_path(stopped, file):
    said = retry(stopped, file)

    assert said == (0, "1 file will be processed again at the next run\n")
    assert errors(stopped) == ["head/bad.err"]


def test_a_task_chooses_its_own_errors(stopped):
    said = retry(stopped, "--task", "left")

    assert said == (0, "1 file will be processed again at the next run\n")
    assert errors(stopped) == ["head/bad.err", "right/fork.err"]


def test_a_task_and_a_file_choose_together(stopped):
    code, text = retry(stopped, "--task", "right", "fork.txt")

    assert (code, text[:6]) == (0, "1 file")
    assert errors(stopped) == ["head/bad.err", "left/fork.err"]


def test_retry_does_nothing_when_nothing_failed(stopped):
    retry(stopped)

    assert retry(stopped) == (0, "No file has failed\n")


def test_a_file_without_input_stays_as_it_is(stopped):
    source = stopped.inputs / "bad.txt"
    source.rename(stopped.root / "bad.txt")
    try:
        named = retry(stopped, "bad.txt")
        everything = retry(stopped)
    finally:
        (stopped.root / "bad.txt").rename(source)

    assert named == (
        2,
        (
            "Error: 'bad.txt' cannot be retried: its input file no longer exists; "
            "--forget-missing removes the error\n"
        ),
    )
    code, text = everything
    assert (code, text.splitlines()) == (
        0,
        [
            (
                "Not retried: bad.txt: its input file no longer exists; "
                "--forget-missing removes the error"
            ),
            "1 file will be processed again at the next run",
        ],
    )
    assert errors(stopped) == ["head/bad.err"]


@pytest.mark.parametrize("words", [[], ["bad.txt"]])
def test_a_file_without_input_is_forgotten_when_asked(stopped, words):
    source = stopped.inputs / "bad.txt"
    source.rename(stopped.root / "bad.txt")
    try:
        code, text = retry(stopped, "--forget-missing", *words)
    finally:
        (stopped.root / "bad.txt").rename(source)

    again = "" if words else "1 file will be processed again at the next run\n"
    told = f"Removed the error of bad.txt: its input no longer exists\n{again}"
    assert (code, text) == (0, told)
    assert errors(stopped) == (["left/fork.err", "right/fork.err"] if words else [])


@pytest.mark.snakemake
def test_a_running_service_forgets_a_file_without_input(flow):
    process = flow.watch()
    wait_until(lambda: len(flow.events(FileFailed)) == 2)
    (flow.inputs / "bad.txt").unlink()

    said = retry(flow, "--forget-missing", "bad.txt")

    wait_until(lambda: flow.events(FileForgotten))
    assert said == (0, "Removed the error of bad.txt: its input no longer exists\n")
    assert counts(flow)["errored"] == 1
    staged = len(flow.events(FilesStaged))
    flow.add_inputs("later")
    flow.until("right/later.csv", "left/later.md")
    flow.stop(process)
    assert len(flow.events(FilesStaged)) == staged + 1
    assert "bad.txt is gone" not in flow.said


@pytest.mark.snakemake
def test_the_next_start_forgets_files_without_input(flow):
    assert flow.once() == 1
    for stem in ("bad", "fork"):
        (flow.inputs / f"{stem}.txt").unlink()

    assert flow.once() == 0

    assert "Forgot 2 failed files whose inputs are gone: bad.txt, fork.txt" in flow.said
    assert errors(flow) == []
    assert counts(flow)["errored"] == 0
    assert counts(flow)["finished"] == counts(flow)["total"] == 1


# Mistakes change nothing


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["bat.txt"], "No file 'bat.txt' has failed; did you mean 'bad.txt'?"),
        (["a.txt"], "No file 'a.txt' has failed"),
        (["bad.txt", "zzz"], "No file 'zzz' has failed"),
        ([300 * "z"], f"No file '{300 * 'z'}' has failed"),
        (["--task", "left", "bad.txt"], "No file 'bad.txt' has failed in task 'left'"),
        (["--task", "rigt"], "The pipeline has no task 'rigt'; did you mean 'right'?"),
        (
            ["--task", "zzz"],
            "The pipeline has no task 'zzz'; its tasks are head, left, right",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_changes_nothing(stopped, words, sentence):
    said = retry(stopped, *words)

    assert said == (2, f"Error: {sentence}\n")
    assert errors(stopped) == ERRORS


def test_directory_without_a_run_is_an_error(stopped):
    where = str(stopped.inputs)
    done = stopped.call(*TIGERFLOW, "retry", where)

    sentence = f"Error: {where!r} is not the output directory of a pipeline\n"
    assert (done.returncode, done.stderr) == (1, sentence)


# Under a running service


def test_a_running_service_takes_them_up(flow):
    service = flow.watch()
    flow.until(*ERRORS)
    wait_until(lambda: counts(flow)["errored"] == 2, "both have failed")
    (flow.root / "mended").touch()

    said = retry(flow)
    flow.until("left/bad.md", "right/bad.csv", "left/fork.md", "right/fork.csv")
    wait_until(lambda: counts(flow)["finished"] == 3, "all are done")
    flow.stop(service)

    pid = service.pid
    assert said == (
        0,
        f"2 files will be processed again by the running pipeline (pid {pid})\n",
    )
    assert errors(flow) == []
    # Their heads, and that of the file that was done, were not done again.
    assert flow.noted("head") == ["head a", "head bad", "head bad", "head fork"]


def test_a_file_that_fails_again_is_failed_again(flow):
    service = flow.watch()
    flow.until(*ERRORS)
    wait_until(lambda: counts(flow)["errored"] == 2, "both have failed")

    retry(flow, "bad.txt")
    wait_until(lambda: flow.noted("head bad") == ["head bad"] * 2, "it was tried")
    wait_until(lambda: counts(flow)["errored"] == 2, "both have failed")
    code = flow.stop(service)

    assert code != 0
    assert errors(flow) == ERRORS


def test_file_in_progress_is_retried_after_its_other_branch_is_done(flow):
    flow.add_module(
        CODE.format(root=str(flow.root)).replace('"fork")', '("fork", "slow"))', 1)
    )
    flow.add_inputs("slow")
    service = flow.watch()
    flow.until("left/slow.err")
    wait_until(lambda: flow.noted("right slow"), "the other branch is at it")
    (flow.root / "mended").touch()

    code, _ = retry(flow, "slow.txt")
    (flow.root / "go").touch()
    flow.until("left/slow.md", "right/slow.csv")
    flow.stop(service)

    assert code == 0
    assert flow.noted("right slow") == ["right slow"]
