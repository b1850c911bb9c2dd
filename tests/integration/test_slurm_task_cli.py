"""The command line of a Slurm task, on a cluster: `python module.py …`."""

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from runs import DEADLINE_S, lines, runtime_files, wait_until
from single_task import LINE, TRANSCRIBE, Bench, Service, slurm_task
from slurm_flows import generic_profile, parent_of

from tigerflow.rundir.layout import STATE

pytestmark = [pytest.mark.slurm, pytest.mark.snakemake]

#: The older of the documents; its model lies in somebody's home directory.
OLDER_TRANSCRIBE = """
import whisper

from tigerflow.tasks import SlurmTask


class Transcribe(SlurmTask):
    @staticmethod
    def setup(context):
        context.model = whisper.load_model(
            "medium",
            download_root="/home/sp8538/.cache/whisper",
        )
        print("Model loaded successfully")

    @staticmethod
    def run(context, input_file, output_file):
        result = context.model.transcribe(str(input_file))
        print(f"Transcription ran successfully for {input_file}")

        with open(output_file, "w") as f:
            f.write(result["text"])


Transcribe.cli()
"""

#: Stands in for the model: hears a text in a video.
WHISPER = """
import os, pathlib

class Model:
    def __init__(self, name):
        self.name = name
    def transcribe(self, path):
        text = pathlib.Path(path).read_text()
        return {"text": f"{self.name} on {os.uname().nodename}: {text}"}

def load_model(name, download_root=None):
    return Model(name)
"""

#: Stand-ins for what a cluster has; they note how they were called.
PROGRAM = '#!/bin/sh\necho "$(basename "$0") $*" >> {notes}\n'

COMMAND = r"""
python transcribe.py \
--input-dir path/to/data/ \
--input-ext .mp4 \
--output-dir path/to/results/ \
--output-ext .txt \
--max-workers 3 \
--cpus 1 \
--memory "12G" \
--time "02:00:00" \
--gpus 1 \
--model-file "/home/sp8538/.cache/whisper/medium.pt" \
--sbatch-option "--mail-user=sp8538@princeton.edu" \
--setup-command "module purge" \
--setup-command "module load anaconda3/2024.6" \
--setup-command "conda activate tiktok"
"""

OLDER_COMMAND = r"""
python transcribe.py \
--input-dir path/to/data/ \
--input-ext .mp4 \
--output-dir path/to/results/ \
--output-ext .txt \
--cpus 1 \
--memory "12G" \
--time "02:00:00" \
--max-workers 3 \
--gpus 1 \
--setup-commands "module purge; module load anaconda3/2024.6; conda activate tiktok"
"""

OPTIONS = ("--max-workers=2", "--cpus=1", "--memory=200M", "--time=5")

#: For a long time to come, no job of ours starts.
LATER = "--sbatch-option=--begin=now+1hour"


class SlurmBench:
    """A directory that a Slurm task serves, and the cluster on which it does."""

    def __init__(self, bench, slurm):
        self._bench = bench
        self.slurm = slurm
        self._called = []
        bench.environment |= slurm.variables

    def __getattr__(self, name):
        return getattr(self._bench, name)

    def start(self, *more, code=None, **bodies):
        return self._bench.start(code or slurm_task(**bodies), *OPTIONS, *more)

    def call(self, words):
        """Start any program."""
        self._called.append(Service(self, words))
        return self._called[-1]

    def add_programs(self, *names):
        """Make programs that note how they are called; return where."""
        bin_, notes = self.path / "bin", self.path / "notes"
        bin_.mkdir()
        for name in names:
            (bin_ / name).write_text(PROGRAM.format(notes=shlex.quote(str(notes))))
            (bin_ / name).chmod(0o755)
        path = [str(bin_), str(Path(sys.executable).parent), os.environ["PATH"]]
        self.environment["PATH"] = os.pathsep.join(path)
        return notes

    def close(self):
        for service in self._called:
            service.process.kill()
            service.process.wait()
        self._bench.close()

    def once(self, *more, **bodies):
        service = self.start("--once", *more, **bodies)
        service.end()
        return service

    def results(self):
        """Name the results; what is hidden is ours."""
        return [name for name in self._bench.results() if name[0] != "."]

    def task_log(self, name="Job"):
        return (self.outputs / STATE / "logs" / f"{name}.log").read_text()

    def touch(self, name):
        (self.path / name).touch()

    def until(self, name):
        wait_until((self.path / name).exists, f"{name} is there")

    def until_no_jobs(self):
        wait_until(lambda: not self.slurm.jobs(), "no job is left")


@contextlib.contextmanager
def at_cluster(bench, slurm):
    """A bench at a cluster, on which no job is left at the end."""
    made = SlurmBench(bench, slurm)
    yield made
    # Also after a test that has failed: its task ends with its bench.
    made.close()
    made.until_no_jobs()
    assert not [*bench.path.rglob(".~tf_*")]
    if (bench.outputs / STATE).exists():
        wait_until(lambda: not runtime_files(bench.outputs), "no socket is left")


@pytest.fixture
def at(bench, slurm):
    with at_cluster(bench, slurm) as made:
        yield made


@pytest.fixture
def at_plain(tmp_path, slurm):
    """As `at`, where the path needs no quoting: cluster-generic does not quote it."""
    bench = Bench(tmp_path)
    with at_cluster(bench, slurm) as made:
        yield made
    bench.close()


def statuses(service):
    """Return what the service was, one after the other, without reasons of waiting."""
    changes = [line for line in service.messages() if "Status changed: " in line]
    ways = [re.sub(r" \(Reason: \(\w+\)\)", "", line) for line in changes]
    return [way.split(" Status changed: ")[1] for way in ways]


# The documents' examples


@pytest.mark.parametrize(
    ("code", "command", "model"),
    [
        (TRANSCRIBE, COMMAND, "/home/sp8538/.cache/whisper/medium.pt"),
        (OLDER_TRANSCRIBE, OLDER_COMMAND, "medium"),
    ],
    ids=["newer", "older"],
)
def test_the_documents_transcription_runs_as_it_is_written(at, code, command, model):
    notes = at.add_programs("module", "conda")
    data, results = at.path / "path/to/data", at.path / "path/to/results"
    for directory in (data, results):
        directory.mkdir(parents=True)
    (at.path / "transcribe.py").write_text(code)
    (at.path / "whisper.py").write_text(WHISPER)
    for number in range(4):
        (data / f"{number}.mp4").write_text(f"words {number}")

    service = at.call(["bash", "-c", f"exec {command.strip()}"])
    service.wait_for("processed files")
    wait_until(lambda: len([*results.glob("*.txt")]) == 4, "all are there")

    assert service.stop(signal.SIGINT) == 130
    check_story(service.messages(), files=4)
    for path in results.glob("*.txt"):
        said = f"{re.escape(model)} on n[123]: words {path.stem}"
        assert re.fullmatch(said, path.read_text())
    setup = ["module purge", "module load anaconda3/2024.6", "conda activate tiktok"]
    noted = lines(notes)
    assert sorted(noted) == sorted(setup * (len(noted) // 3))
    log = (results / STATE / "logs" / "Transcribe.log").read_text()
    assert "Model loaded successfully" in log
    assert f"Transcription ran successfully for {data}/0.mp4" in log


def counted(said, level, what):
    """Return how many files all lines together say to be processed or failed."""
    counts = [re.fullmatch(rf"{level} (\d+) {what} files", line) for line in said]
    return sum(int(count[1]) for count in counts if count)


def check_story(said, files):
    """Check that it goes as the documents show it, to the end by Ctrl-C."""
    assert re.fullmatch(r"INFO Submitted task with Slurm job ID \d+", said[0])
    assert said[1] == "INFO Status changed: INACTIVE -> PENDING (Reason: (None))"
    assert any(re.search(r"-> ACTIVE \([1-3] workers\)", line) for line in said)
    assert counted(said, "INFO", "processed") == files
    end = said.index("WARNING Received signal 2, initiating shutdown")
    assert all(line.startswith("INFO ") for line in said[:end])
    assert said[end + 1] == "INFO Shutting down task"
    cancelled = r"ACTIVE \(\d workers\) -> INACTIVE \(Reason: CANCELLED\)"
    assert re.fullmatch(f"ERROR Status changed: {cancelled}", said[-2])
    assert said[-1] == "INFO Task shutdown complete"


# What a worker gets


def test_params_and_relative_paths_are_the_same_on_a_node(at):
    at.give(a="text")
    code = slurm_task(
        setup="(here / 'values').write_text(repr(sorted(vars(context).items())))",
        run="output_file.write_text(Path('beside').read_text())",
    ).replace(
        "class Job(SlurmTask):",
        """
class Job(SlurmTask):
    class Params:
        model: Path
        names: list[str] = ["default"]
        share: float = 0.5
        flag: bool = False
        upper: bool = True
""",
    )
    (at.path / "beside").write_text("found")
    given = ["--model=m.pt", "--names=a;b", "--names=it's", "--flag", "--no-upper"]

    service = at.start("--once", *given, code=code)

    assert service.end() == 0, service.log
    assert (at.outputs / "a.out").read_text() == "found"
    values = (at.path / "values").read_text()
    assert values == repr(
        [
            ("flag", True),
            ("model", at.path / "m.pt"),
            ("names", ["a;b", "it's"]),
            ("share", 0.5),
            ("upper", False),
        ]
    )


def test_a_module_of_a_package_runs_on_nodes(at):
    package = at.path / "parts"
    package.mkdir()
    (package / "__init__.py").touch()
    code = slurm_task(run="output_file.write_text(GREETING)")
    (package / "greeting.py").write_text("GREETING = 'hello'")
    (package / "job.py").write_text(f"from parts.greeting import GREETING\n{code}")
    at.give(a="text")
    words = at.words("--once", *OPTIONS)

    service = at.call([sys.executable, "-m", "parts.job", *words[2:]])

    assert service.end() == 0, service.log
    assert (at.outputs / "a.out").read_text() == "hello"


def test_the_setup_of_a_worker_serves_many_files_and_teardown_ends_it(at):
    at.give(**{str(number): "text" for number in range(20)})

    service = at.once(setup="print('set up')", run="output_file.write_text('done')")

    assert service.end() == 0
    assert at.results() == sorted(f"{number}.out" for number in range(20))
    assert counted(service.messages(), "INFO", "processed") == 20
    assert statuses(service)[-1].endswith("-> INACTIVE (Reason: COMPLETED)")
    said = at.task_log().splitlines()
    assert 1 <= said.count("set up") <= 2
    assert said.count("torn down") == said.count("set up")


def test_workers_go_when_there_is_nothing_to_do_and_come_when_there_is(at):
    at.environment["TIGERFLOW_WORKER_IDLE_TIMEOUT"] = "1"
    at.give(a="text")

    service = at.start(run="output_file.write_text('done')")
    service.wait_for("-> ACTIVE (0 workers)")
    at.until_no_jobs()
    at.give(b="text")
    wait_until(lambda: at.results() == ["a.out", "b.out"], "the second is there")

    assert service.stop() == 143
    changes = statuses(service)
    assert changes[:4] == [
        "INACTIVE -> PENDING",
        "PENDING -> ACTIVE (1 workers)",
        "ACTIVE (1 workers) -> ACTIVE (0 workers)",
        "ACTIVE (0 workers) -> PENDING",
    ]


# What goes wrong


def test_resources_are_checked_before_anything_is_made(at):
    at.give(a="text")

    service = at.once("--memory=12X", "--time=soon", "--sbatch-option=--array=1-3")

    assert service.end() == 2
    assert service.log.splitlines() == [
        (
            "Error: --memory: memory '12X' is not a positive number with an optional "
            "unit K, M, G or T, such as 512M or 16G"
        ),
        (
            "Error: --time: time 'soon' is not a positive time as MINUTES, "
            "MINUTES:SECONDS, HOURS:MINUTES:SECONDS, DAYS-HOURS, DAYS-HOURS:MINUTES "
            "or DAYS-HOURS:MINUTES:SECONDS"
        ),
        (
            "Error: --sbatch-option: sbatch option --array is not accepted: TigerFlow "
            "submits each worker by itself, so use max_workers instead"
        ),
    ]
    assert [*at.outputs.iterdir()] == []


def test_failed_file_gets_an_err_and_others_continue(at):
    at.give(a="1", b="x", c="3")

    service = at.once(run="int(input_file.read_text())")

    assert service.end() == 1
    assert at.results() == ["a.out", "b.err", "c.out"]
    assert at.error("b")["exception_type"] == "ValueError"
    assert counted(service.messages(), "INFO", "processed") == 2
    assert counted(service.messages(), "ERROR", "failed") == 1


def test_a_setup_that_raises_on_a_node_is_shown_with_its_traceback(at):
    at.give(a="text")

    service = at.start(setup="raise FileNotFoundError('no model here')")

    assert service.end() == 1
    log = f"(see {at.outputs}/.tigerflow/logs/Job.log)"
    said = "task 'Job' cannot run: its setup failed: FileNotFoundError: no model here"
    assert f"ERROR    | {said} {log}\n" in service.log
    assert "Traceback (most recent call last):\n" in service.log
    assert "raise FileNotFoundError('no model here')\n" in service.log
    assert "tigerflow/" not in service.log.partition("Traceback")[2]
    assert service.log.count("Traceback") == 1
    assert statuses(service)[-1].endswith("-> INACTIVE (Reason: FAILED)")
    assert at.results() == []
    assert "no model here" in at.task_log()


def test_a_setup_command_that_fails_is_named(at):
    at.give(a="text")

    service = at.start("--setup-commands=true; echo 'it; is' && (exit 3); true")

    assert service.end() == 1
    said = "setup command failed: echo 'it; is' && (exit 3) (exit code 3)"
    assert said in service.log
    assert at.results() == []


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--partition=nosuch", "invalid partition specified: nosuch"),
        ("--account=nosuch", "account nosuch appears to be invalid"),
    ],
)
def test_slurms_refusal_of_an_impossible_job_is_reported(at, option, words):
    at.give(a="text")

    service = at.start(f"--sbatch-option={option}")

    assert service.end() == 1
    assert words in service.log
    assert statuses(service) == []
    assert at.results() == []


def test_one_output_directory_has_one_task_at_a_time(at):
    at.give(a="text")
    first = at.start(LATER)
    first.wait_for("Submitted")

    second = at.start()

    assert second.end() == 1
    said = rf"Error: Task is already running \(pid {first.process.pid} on .*\)\n"
    assert re.fullmatch(said, second.log)
    assert first.stop() == 143


#: Notes its job, and waits.
WAITING = """
    import fcntl
    with (here / 'jobs').open('a') as jobs:
        print(os.environ['SLURM_JOB_ID'], file=jobs)
    # A file that is begun while an earlier worker is still at it fails.
    with (here / 'begun').open('w') as begun:
        fcntl.flock(begun, fcntl.LOCK_EX | fcntl.LOCK_NB)
        wait_for('go')
        output_file.write_text('done')
"""


def test_a_file_whose_job_is_cancelled_is_tried_again(at):
    at.give(a="text")
    service = at.start("--once", run=WAITING)
    jobs = at.path / "jobs"
    wait_until(lambda: lines(jobs), "it is at work")

    at.slurm.call("scancel", lines(jobs)[0])
    wait_until(lambda: len(lines(jobs)) == 2, "another is at work")
    at.touch("go")

    assert service.end() == 0, service.log
    assert "while processing a.txt; retrying" in service.log
    assert at.results() == ["a.out"]


def descendants(pid):
    """Return the ids of all that a process has started, and so on."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        child = int(path.parent.name)
        with contextlib.suppress(OSError):
            if parent_of(child) == pid:
                found += [child, *descendants(child)]
    return found


def test_workers_leave_when_all_of_the_task_here_is_gone_for_good(at):
    at.environment["TIGERFLOW_WORKER_LOST_TIMEOUT"] = "4"
    at.give(a="text")
    service = at.start(run=WAITING)
    wait_until(lambda: lines(at.path / "jobs"), "it is at work")

    # So that it sees nothing of it, and cannot cancel anything.
    service.process.send_signal(signal.SIGSTOP)
    for pid in [*descendants(service.process.pid), service.process.pid]:
        os.kill(pid, signal.SIGKILL)
    service.process.wait()

    at.until_no_jobs()
    assert at.results() == []
    at.touch("go")
    assert at.once(run=WAITING).end() == 0
    assert at.results() == ["a.out"]
    assert at.task_log().count("torn down") == 2


# How it is stopped


def test_ctrl_c_lets_files_in_progress_finish(at):
    at.give(a="text", b="text", c="text")
    service = at.start(
        "--max-workers=1", run="(here / 'begun').touch(); wait_for('go'); time.sleep(1)"
    )
    at.until("begun")

    service.process.send_signal(signal.SIGINT)
    service.wait_for("Shutting down task")
    at.touch("go")

    assert service.end() == 130
    assert at.results() == ["a.out"]
    assert service.messages()[-3:] == [
        "INFO 1 processed files",
        ("ERROR Status changed: ACTIVE (1 workers) -> INACTIVE (Reason: CANCELLED)"),
        "INFO Task shutdown complete",
    ]
    assert "torn down" in at.task_log()
    assert at.slurm.jobs() == []


def test_ctrl_c_gives_up_a_file_after_the_grace_time(at):
    at.environment["TIGERFLOW_WORKER_GRACE"] = "1"
    at.give(a="text")
    service = at.start(run="(here / 'begun').touch(); wait_for('nothing')")
    at.until("begun")

    assert service.stop(signal.SIGINT) == 130

    assert at.results() == []
    assert "torn down" in at.task_log()
    assert at.slurm.jobs() == []


def test_ctrl_c_cancels_jobs_that_wait_and_slurm_says_why_they_do(at):
    at.give(a="text")
    service = at.start(LATER)
    service.wait_for("(Reason: (None)) -> PENDING (Reason: (BeginTime))")

    assert service.stop(signal.SIGINT) == 130

    assert service.messages()[-1] == "INFO Task shutdown complete"
    end = "PENDING (Reason: (BeginTime)) -> INACTIVE (Reason: CANCELLED)"
    assert service.messages()[-2] == f"ERROR Status changed: {end}"
    assert at.slurm.jobs() == []
    assert at.results() == []


def test_a_second_ctrl_c_stops_at_once(at):
    at.give(a="text", b="text")
    service = at.start(run="(here / 'begun').touch(); wait_for('nothing')")
    at.until("begun")

    service.process.send_signal(signal.SIGINT)
    service.wait_for("Shutting down task")
    assert service.stop(signal.SIGINT) == 130

    at.until_no_jobs()
    assert at.results() == []


def test_the_stop_command_stops_it(at):
    at.give(a="text")
    service = at.start(LATER)
    service.wait_for("Submitted")

    words = [sys.executable, "-m", "tigerflow", "stop", at.outputs]
    subprocess.run(words, check=True, timeout=DEADLINE_S)

    assert service.end() == 143
    assert at.slurm.jobs() == []


@pytest.mark.parametrize("options", [(), (LATER,)], ids=["at work", "pending"])
def test_next_start_continues_after_a_kill(at, options):
    at.give(**{str(number): "text" for number in range(6)})
    # A file that is begun while an earlier worker is still at it fails.
    run = """
        import fcntl
        with (here / f"begun {input_file.stem}").open("w") as begun:
            fcntl.flock(begun, fcntl.LOCK_EX | fcntl.LOCK_NB)
            wait_for('go')
            output_file.write_text('done')
    """
    service = at.start(*options, run=run)
    service.wait_for("Submitted")
    if not options:
        wait_until(lambda: [*at.path.glob("begun *")], "one is at work")
    service.process.kill()
    service.process.wait()

    second = at.start("--once", run=run)
    second.wait_for("Submitted")
    at.touch("go")

    assert second.end() == 0, second.log
    assert at.results() == [f"{number}.out" for number in range(6)]


# How jobs are submitted


@pytest.fixture
def profile(tmp_path):
    """A profile that submits as the one that is shipped does, on another account."""
    shipped = Path(__file__).parents[2] / "profiles" / "workers" / "profile.yaml"
    profile = tmp_path / "profile"
    profile.mkdir()
    text = f"{shipped.read_text()}\ndefault-resources:\n  slurm_account: other\n"
    (profile / "profile.yaml").write_text(text)
    return profile


def account_of_job(slurm, log):
    job = re.search(r"Slurm job ID (\d+)", log)[1]
    words = ["--noheader", "--parsable2", "--allocations", "--format=Account"]
    return slurm.call("sacct", *words, "--jobs", job).strip()


def test_another_profile_submits_the_workers(at, profile):
    at.give(a="text")

    service = at.once(f"--workers-profile={profile}")

    assert service.end() == 0, service.log
    assert account_of_job(at.slurm, service.log) == "other"


def test_another_profile_submits_the_workers_of_a_pipeline(at, profile):
    at.give(a="text")
    at.module.write_text(slurm_task())
    resources = {"cpus": 1, "memory": "200M", "time": 5}
    step = {"name": "job", "kind": "slurm", "module": at.module.name}
    step |= {"input_ext": ".txt", "max_workers": 1, "worker_resources": resources}
    (at.path / "pipeline.yaml").write_text(json.dumps({"tasks": [step]}))
    words = ["watch", "--once", "pipeline.yaml", "in", "out"]

    service = at.call(
        [*(sys.executable, "-m", "tigerflow", *words), "--workers-profile", profile]
    )

    assert service.end() == 0, service.log
    assert (at.outputs / "job" / "a.out").exists()
    assert account_of_job(at.slurm, service.log) == "other"
    said = [line for line in service.messages() if "[job]" in line]
    assert said[1] == "INFO [job] Status changed: INACTIVE -> PENDING (Reason: (None))"
    end = r"INFO \[job\] Status changed: .* -> INACTIVE \(Reason: COMPLETED\)"
    assert re.fullmatch(end, said[-1])


def test_retries_of_a_profile_submit_no_worker_again(at, profile):
    with (profile / "profile.yaml").open("a") as file:
        file.write("retries: 2\n")
    at.give(a="text")

    service = at.once(f"--workers-profile={profile}", "--sbatch-option=-p nosuch")

    assert service.end() == 1
    assert "Invalid partition name specified" in service.log
    said = (at.outputs / STATE / "logs" / "jobs.log").read_text()
    assert said.count("Invalid partition name specified") == 1
    assert "Trying to restart" not in said


def test_another_plugin_submits_the_workers(at_plain):
    at_plain.give(**{f"f{number}": "text" for number in range(5)})

    service = at_plain.once(f"--workers-profile={generic_profile(at_plain.path)}")

    assert service.end() == 0, service.log
    assert at_plain.results() == [f"f{number}.out" for number in range(5)]


def test_sbatch_output_from_another_plugin_is_reported(at_plain):
    at_plain.give(a="text")

    service = at_plain.once(
        f"--workers-profile={generic_profile(at_plain.path, 'nosuch')}"
    )

    assert service.end() == 1
    assert "invalid partition specified: nosuch" in service.log
    assert at_plain.results() == []


def test_a_profile_that_is_not_there_is_named(at):
    service = at.once("--workers-profile=nosuch")

    assert service.end() == 1
    assert service.log == "Error: --workers-profile 'nosuch' does not exist\n"
    assert [*at.outputs.iterdir()] == []


# What it says


def test_each_line_is_a_line_of_the_log(at):
    at.give(a="text")

    service = at.once()

    assert all(LINE.fullmatch(line) for line in service.log.splitlines()), service.log
    [metrics] = [line for line in service.log.splitlines() if "METRICS" in line]
    assert '"file": "a.txt"' in metrics
    assert '"status": "success"' in metrics
    assert service.out == ""
