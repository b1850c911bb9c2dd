"""The Slurm that tests run on does as a real one does, and goes without a trace."""

import signal
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest
from flows import SNAKEMAKE
from runs import lines, wait_until
from slurm.configuration import TINY_PARTITION
from slurm.hosts import ClusterError
from slurm.throwaway import Cluster

pytestmark = pytest.mark.slurm

_PROGRAM = Path(__file__).parents[1] / "support" / "slurm" / "cluster"

#: Where Debian's packages would have their state.
_SYSTEM = ("/etc", "/run", "/var", "/dev/shm")
_WORDS = ("slurm", "munge", "mysql", "mariadb")


def system_files() -> set[str]:
    names = (str(path) for top in _SYSTEM for path in Path(top).rglob("*"))
    return {name for name in names if any(word in name for word in _WORDS)}


def processes(word: str) -> list[str]:
    """Return the command lines of the live processes that have this word."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_text(errors="replace").replace("\0", " ")
        except OSError:
            continue
        if word in command:
            found.append(command)
    return found


def until_state(slurm: Cluster, job: str, *states: str) -> str:
    return wait_until(
        lambda: (state := slurm.state(job)) in states and state,
        f"job {job} is {states}",
    )


def until_running(slurm: Cluster, job: str) -> str:
    """Wait until a job runs; return its node."""
    look = ("squeue", "--noheader", "--format=%T %N", "--jobs", job)
    found = wait_until(
        lambda: (line := slurm.call(*look)).startswith("RUNNING") and line,
        f"job {job} runs",
    )
    return str(found).split()[1]


@pytest.fixture
def directory(slurm):  # noqa: ARG001 -- it knows whether there can be a Slurm
    """A place for another cluster; the sockets in it need short names."""
    with tempfile.TemporaryDirectory(dir="/tmp") as parent:
        Path(parent).chmod(0o755)
        directory = Path(parent) / "slurm"
        yield directory
        Cluster(directory).stop()


def test_a_job_runs_on_a_node_and_its_output_comes(slurm, tmp_path):
    output = tmp_path / "output"
    job = slurm.submit("-c", 12, "-o", output, command="echo hello from $(hostname)")
    until_state(slurm, job, "COMPLETED")
    assert output.read_text().startswith("hello from n")


def test_gpu_jobs_get_shares_that_do_not_overlap(slurm, tmp_path):
    command = f"echo $CUDA_VISIBLE_DEVICES >> {tmp_path}/$(hostname); sleep 1000"
    for _ in range(2):
        slurm.submit("--gpus", "v100:2", "-o", "/dev/null", command=command)
    wait_until(lambda: len(lines(tmp_path / "n3")) == 2, "both have said theirs")
    assert sorted(lines(tmp_path / "n3")) == ["0,1", "2,3"]


def test_a_job_over_its_memory_is_killed(slurm, tmp_path):
    code = "x = b'1' * 300_000_000; import signal; signal.pause()"
    command = f'{sys.executable} -c "{code}"'
    job = slurm.submit("--mem", "50M", "-o", tmp_path / "output", command=command)
    until_state(slurm, job, "FAILED", "OUT_OF_MEMORY")
    assert "Exceeded job memory limit" in (tmp_path / "output").read_text()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-p", "nosuch"], "Invalid partition name specified"),
        (["-A", "nosuch"], "Invalid account or account/partition combination"),
        (["-p", TINY_PARTITION, "-t", "5"], "Requested time limit is invalid"),
        (["--gres", "gpu:v100:5"], "Requested node configuration is not available"),
    ],
)
def test_a_job_that_cannot_be_is_rejected(slurm, options, words):
    with pytest.raises(ClusterError, match=words):
        slurm.submit(*options, command="true")
    assert slurm.jobs() == []


def test_a_job_fails_when_its_slurmd_stops(slurm):
    options = ("--no-requeue", "-o", "/dev/null")
    job = slurm.submit(*options, command="sleep 1000")
    slurm.stop_slurmd(until_running(slurm, job))
    until_state(slurm, job, "NODE_FAIL")


def test_a_job_is_requeued_when_its_node_crashes(slurm, tmp_path):
    nodes = tmp_path / "nodes"
    job = slurm.submit("-o", "/dev/null", command=f"hostname >> {nodes}; sleep 1000")
    wait_until(lambda: lines(nodes), "it has started")
    [first] = lines(nodes)
    slurm.crash(first)
    wait_until(lambda: len(lines(nodes)) == 2, "it has started again")
    assert lines(nodes)[1] != first
    assert slurm.jobs() == [job]


def test_jobs_live_on_when_slurmctld_restarts(slurm, tmp_path):
    go = tmp_path / "go"
    command = f"until [ -e {go} ]; do sleep 0.1; done"
    job = slurm.submit("-o", "/dev/null", command=command)
    until_running(slurm, job)
    slurm.restart_slurmctld()
    assert slurm.jobs() == [job]
    go.touch()
    until_state(slurm, job, "COMPLETED")


def test_jobs_run_without_slurmdbd_and_are_accounted_later(slurm, tmp_path):
    slurm.stop_slurmdbd()
    job = slurm.submit("-o", tmp_path / "output", command="echo done")
    wait_until(lambda: lines(tmp_path / "output") == ["done"], "it ran")
    with pytest.raises(ClusterError, match="Connection refused"):
        slurm.state(job)
    slurm.start_slurmdbd()
    until_state(slurm, job, "COMPLETED")


@pytest.mark.xdist_group("users of this machine")
def test_another_user_runs_jobs_too(directory):
    users = Path("/etc/passwd").read_text(), Path("/etc/group").read_text()
    with Cluster(directory) as slurm:
        guest = slurm.add_guest()
        words = ("sbatch", "--parsable", "-o", "/dev/null", "--wrap", "true")
        job = slurm.call(*words, user=guest, group=guest, extra_groups=[], cwd="/")
        until_state(slurm, job.strip(), "COMPLETED")
        assert guest in Path("/etc/passwd").read_text()
    # That one is gone, and no other: Debian's packages have a user "slurm".
    assert users == (Path("/etc/passwd").read_text(), Path("/etc/group").read_text())


def test_snakemake_runs_its_jobs_on_it(slurm, tmp_path):
    (tmp_path / "Snakefile").write_text(
        textwrap.dedent("""
            rule all:
                input: "second.txt"
            rule first:
                output: "first.txt"
                shell: "hostname > {output}"
            rule second:
                input: "first.txt"
                output: "second.txt"
                shell: "(cat {input}; echo $SLURM_JOB_ID) > {output}"
        """)
    )
    options = ["--jobs", "2", "--slurm-init-seconds-before-status-checks", "5"]
    resources = ["mem_mb=1000", "runtime=5", "slurm_account=lab"]
    slurm.call(
        *(SNAKEMAKE, "--executor", "slurm", *options),
        *("--default-resources", *resources),
        cwd=tmp_path,
    )
    node, job = lines(tmp_path / "second.txt")
    assert node in slurm.nodes
    assert slurm.state(job) == "COMPLETED"


def test_it_goes_without_a_trace(directory):
    before = system_files()
    with Cluster(directory) as slurm:
        # As far from Slurm as a process can get.
        daemon = "sleep 1234567"
        slurm.submit("-o", "/dev/null", command=f"setsid env -i {daemon} & sleep 1000")
        wait_until(lambda: processes(daemon), "the job runs")
    assert processes(daemon) == []
    assert processes(str(directory)) == []
    assert list(directory.parent.iterdir()) == []
    assert system_files() == before


@pytest.mark.parametrize("moment", ["log/n1", "munge/socket", "log/head.slurmdbd"])
def test_what_a_killed_start_left_goes_at_the_next(directory, moment):
    starting = subprocess.Popen(
        [sys.executable, _PROGRAM, "start", directory],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until((directory / moment).exists, f"{moment} is there")
    starting.send_signal(signal.SIGKILL)
    starting.wait()
    subprocess.run([sys.executable, _PROGRAM, "stop", directory], check=True)
    wait_until(lambda: not processes(str(directory)), "no process is left")
    assert not directory.exists()


def test_the_program_starts_shows_and_stops_it(directory):
    def call(command: str) -> str:
        words = [sys.executable, str(_PROGRAM), command, str(directory)]
        return subprocess.run(words, capture_output=True, text=True, check=False).stdout

    variables = call("start")
    assert variables == f"export SLURM_CONF='{directory}/etc/slurm.conf'\n"
    assert "n1" in call("status")
    call("stop")
    assert call("status") == f"no cluster in {directory}\n"
