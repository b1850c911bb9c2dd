"""`tigerflow check`, and what `tigerflow compile --check` shows of submissions."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from pipelines import write_pipeline
from runs import DEADLINE_S
from software import Software, needed
from terminals import terminal

from tigerflow.engine import rehearsal
from tigerflow.tasks.shell import commands
from tigerflow.tasks.shell.commands import Doubt, find_doubts, look_at

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]

TASKS = '''
from tigerflow.tasks import LocalAsyncTask, LocalTask, SlurmTask

class Hear(SlurmTask):
    """Write down what is said.

    More about it.
    """
    def run(context, input_file, output_file): pass

class Ask(LocalAsyncTask):
    async def run(context, input_file, output_file): pass

class Store(LocalTask):
    """Keep it."""
    def run(context, input_file, output_file): pass
'''

HEAR = """
  - name: hear
    kind: slurm
    module: tasks.py:Hear
    input_ext: .mp4
    output_ext: .txt
    max_workers: 3
    workers_per_job: 2
    setup_commands: [cd /, nosuch load x]
    worker_resources:
      cpus: 2
      memory: 1G
      time: 90
      sbatch_options: ["-A lab --mail-user='a {b}'"]
"""

HERE = """
  - name: ask
    kind: local_async
    module: tasks.py:Ask
    depends_on: {parent}
    input_ext: .txt
    output_ext: .json
    keep_output: false
    concurrency_limit: 30
  - name: store
    kind: local
    module: tasks.py:Store
    depends_on: ask
    input_ext: .json
    workers: 2
    setup_commands: {commands}
  - name: count
    kind: local
    module: tasks.py:Store
    depends_on: {parent}
    input_ext: .txt
"""

#: Slurm's programs: what was asked of sbatch goes to a file.
SLURM = {
    "sbatch": 'printf "%s\\n" "$@" >>"$NOTES"; echo "sbatch: {said}" >&2; exit {code}',
    "scontrol": "exit {down}",
    "sacct": "exit 1",
    "sacctmgr": "echo lab",
    "sinfo": "echo 'main*'",
}


class Site:
    """A directory with a pipeline, and a Slurm that only answers."""

    def __init__(self, path):
        self.path = path / "project"
        self.notes = path / "notes"
        self.bin = path / "bin"
        for directory in (self.path, self.bin):
            directory.mkdir()
        (self.path / "in").mkdir()
        (self.path / "tasks.py").write_text(TASKS)
        parts = [str(self.bin), str(BIN), os.environ["PATH"]]
        self.environment = os.environ | {
            "PATH": os.pathsep.join(parts),
            "NOTES": str(self.notes),
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def answer(self, said="Job 7 to start at noon", code=0, down=0):
        for name, text in SLURM.items():
            body = text.format(said=said, code=code, down=down)
            (self.bin / name).write_text(f"#!/bin/sh\n{body}\n")
            (self.bin / name).chmod(0o755)

    def write(self, text):
        write_pipeline(self.path, f"tasks:{text}")

    def call(self, *words):
        return subprocess.run(
            [sys.executable, "-m", "tigerflow", *words],
            cwd=self.path,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_S,
        )

    def check(self, *options):
        return self.call("check", "pipeline.yaml", *options)

    def files(self):
        return sorted(str(path) for path in self.path.rglob("*"))


@pytest.fixture
def site(weird_tmp_path):
    return Site(weird_tmp_path)


def here(parent="", commands="[]"):
    text = HERE.format(parent=parent or "null", commands=commands)
    return text if parent else text.replace("    depends_on: null\n", "")


def test_tasks_are_drawn_as_a_tree_and_nothing_is_written(site):
    site.answer()
    site.write(HEAR.replace("nosuch load x", "pwd") + here("hear"))
    before = site.files()

    result = site.check()

    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "pipeline.yaml",
        "└── hear  slurm  .mp4 → .txt  up to 3 workers, 2 per job",
        "    Write down what is said.",
        "    $ cd /",
        "    $ pwd",
        (
            "    sbatch -A lab -p main -t 90 --mem 2048 --ntasks=1 "
            "--cpus-per-task=4 '--mail-user=a {b}' --no-requeue"
        ),
        "    accepted: it would start at noon",
        "    ├── ask  local_async  .txt → .json (not kept)  30 at once",
        "    │   └── store  local  .json → .out  in 2 processes",
        "    │       Keep it.",
        "    └── count  local  .txt → .out  1 at a time",
        "        Keep it.",
        "pipeline.yaml: no problems found (4 tasks)",
    ]
    assert result.stderr == ""
    assert site.files() == before


def test_slurm_is_only_asked(site):
    site.answer()
    site.write(HEAR)

    site.check()

    assert site.notes.read_text().splitlines()[:2] == ["--test-only", "--parsable"]
    assert site.notes.read_text().count("--test-only") == 1


def test_no_sbatch_but_ours_is_found_by_a_shell(tmp_path, monkeypatch):
    monkeypatch.setenv("BASH_FUNC_sbatch%%", "() { echo escaped; }")
    before = dict(os.environ)

    with rehearsal._stage(tmp_path / "stage"):
        command = "sbatch --comment rule_x_7; type -P sbatch"
        said = subprocess.check_output(["bash", "-c", command], text=True)

    assert said == f"{tmp_path}/stage/sbatch\n"
    assert (tmp_path / "stage" / "7.words").exists()
    assert dict(os.environ) == before


def test_a_job_that_slurm_would_refuse_is_reported_with_its_line(site):
    site.answer("error: no such partition", code=1)
    site.write(HEAR)

    result = site.check()

    assert result.returncode == 2
    assert "\n    refused: no such partition\n" in result.stdout
    assert result.stderr.splitlines()[-1] == (
        "pipeline.yaml:10: tasks[0].worker_resources: its jobs would be refused: "
        "no such partition"
    )


def test_a_job_that_the_plugin_would_refuse_is_reported_with_its_line(site):
    site.answer()
    site.write(HEAR.replace("lab", "nosuch"))

    result = site.check()

    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == (
        "pipeline.yaml:10: tasks[0].worker_resources: its jobs would be refused: "
        "The given account nosuch appears to be invalid. Available accounts: lab"
    )
    assert not site.notes.exists()


def test_silent_slurm_is_not_a_mistake(site):
    site.answer(down=1)
    site.write(HEAR)

    result = site.check()

    assert result.returncode == 0
    assert "sbatch -A lab" in result.stdout
    assert result.stderr.splitlines()[-1] == (
        "Warning: pipeline.yaml:10: tasks[0].worker_resources: cannot tell whether "
        "its jobs would be accepted: Slurm does not answer here"
    )


def test_setup_commands_of_this_host_are_mistakes_those_of_others_may_be(site):
    site.answer()
    site.write(HEAR + here("hear", "[cd /nowhere, nosuch]"))

    result = site.check()

    assert result.returncode == 2
    place = "pipeline.yaml:{}: tasks[{}].setup_commands[{}]: "
    assert result.stderr.splitlines() == [
        (
            f"Warning: {place.format(9, 0, 1)}'nosuch' is not found "
            "(on this host; its workers run on others)"
        ),
        (
            f"Warning: {place.format(30, 2, 1)}'nosuch' is not found, "
            "unless an earlier command provides it"
        ),
        (
            f"{place.format(30, 2, 0)}'cd /nowhere' fails with exit code 1: "
            "cd: /nowhere: No such file or directory"
        ),
    ]


def test_mistakes_in_the_file_are_reported_as_by_run(site):
    site.write(here(commands="['echo (']"))

    result = site.check()

    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        (
            "pipeline.yaml:15: tasks[1].setup_commands[0]: bash cannot read 'echo (': "
            "syntax error near unexpected token `newline'"
        )
    ]


def test_doubts_about_a_task_are_reported_with_the_mistakes_of_another(site):
    wrong = "    colour: red\n"
    site.write(here(commands="[nosuch]").replace("    keep_output: false\n", wrong))

    result = site.check()

    assert result.returncode == 2
    # The tree would have a hole.
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "pipeline.yaml:7: tasks[0].colour: unknown key",
        "pipeline.yaml:15: tasks[1].setup_commands[0]: 'nosuch' is not found",
    ]


def test_a_command_is_shown_whole_on_a_narrow_terminal(site):
    site.answer()
    site.write(HEAR.replace("nosuch load x", "pwd"))
    words = [sys.executable, "-m", "tigerflow", "check", "pipeline.yaml"]

    how = {"env": site.environment, "cwd": site.path}
    with terminal(words, columns=70, **how) as shown:
        shown.until_shown("no problems found")

    assert (
        "--ntasks=1 --cpus-per-task=4 '--mail-user=a {b}' --no-requeue\r" in shown.raw
    )


def test_a_tree_is_drawn_in_ascii_if_the_terminal_has_no_more(site):
    site.environment["PYTHONIOENCODING"] = "ascii"
    site.write(here())

    result = site.check()

    assert result.stdout.splitlines()[:2] == [
        "pipeline.yaml",
        "+-- ask  local_async  .txt -> .json (not kept)  30 at once",
    ]


def test_compile_check_shows_submissions_and_writes_nothing(site):
    site.answer()
    site.write(HEAR.replace("nosuch load x", "pwd"))
    before = site.files()

    result = site.call("compile", "--check", "pipeline.yaml", "in", "out")

    assert result.returncode == 1
    assert "sbatch -A lab -p main -t 90 --mem 2048" in result.stdout
    assert "is not current" in result.stderr
    assert site.files() == before
    assert site.call("compile", "pipeline.yaml", "in", "out").returncode == 0
    result = site.call("compile", "--check", "pipeline.yaml", "in", "out")
    assert result.returncode == 0
    assert result.stdout.endswith("is current\n")


def test_a_profile_for_slurm_is_used(site):
    site.answer()
    site.write(HEAR.replace("-A lab ", ""))
    profile = site.path / "profile"
    shutil.copytree(ROOT / "profiles" / "workers", profile)
    with (profile / "profile.yaml").open("a") as file:
        file.write("default-resources: {slurm_partition: rule_gpu}\n")

    result = site.check("--workers-profile", "profile")

    assert result.returncode == 0
    assert "    sbatch -p rule_gpu -t 90 " in result.stdout


def test_a_profile_for_another_scheduler_is_not_rehearsed(site):
    site.answer()
    site.write(HEAR)
    profile = site.path / "profile" / "config.yaml"
    profile.parent.mkdir()
    profile.write_text(
        "executor: cluster-generic\n"
        "cluster-generic-submit-cmd: echo submitted >>$NOTES; false\n"
    )

    result = site.check("--workers-profile", "profile")

    assert result.returncode == 0
    assert result.stderr.splitlines()[-1].endswith(
        "worker_resources: cannot tell whether its jobs would be accepted: the "
        f"executor of {str(profile.parent)!r} is not slurm, but cluster-generic"
    )
    assert not site.notes.exists()


def test_a_failing_snakemake_is_reported(site):
    site.answer()
    plugin = site.path / "broken" / "snakemake_executor_plugin_slurm.py"
    plugin.parent.mkdir()
    plugin.write_text("raise ImportError('it is broken')\n")
    site.environment["PYTHONPATH"] = str(plugin.parent)
    site.write(HEAR)

    result = site.check()

    assert result.returncode == 1
    assert result.stderr.startswith("Error: Cannot find out what would be submitted: ")
    assert "Traceback" not in result.stderr


# Software

SOFTWARE = """
  - name: store
    kind: local
    module: tasks.py:Store
    input_ext: .txt
    {keys}
"""


@pytest.fixture
def software(site, tmp_path_factory):
    needed()
    # What stands for conda knows no strange paths.
    made = Software(tmp_path_factory.mktemp("software"))
    site.environment["MODULEPATH"] = made.variables["MODULEPATH"]
    return made


def _add_programs(site, software):
    path = (str(software.base / "bin"), site.environment["PATH"])
    site.environment["PATH"] = os.pathsep.join(path)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            "envmodules: [none/1.0]",
            (
                "envmodules: 'module purge && module load none/1.0' fails with exit "
                "code 1: ERROR: Unable to locate a modulefile for 'none/1.0'"
            ),
        ),
        ("conda: nowhere", "conda: 'conda' is not found"),
        ("container: 'docker://x'", "container: 'apptainer' is not found"),
    ],
)
@pytest.mark.usefixtures("software")
def test_software_that_is_not_here_is_a_mistake(site, keys, said):
    site.write(SOFTWARE.format(keys=keys))

    result = site.check()

    assert result.returncode == 2
    assert result.stderr == f"pipeline.yaml:6: tasks[0].{said}\n"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            "envmodules: [none/1.0]",
            "envmodules: 'module purge && module load none/1.0'",
        ),
        ("conda: nowhere", "conda: 'conda' is not found"),
        ("container: 'docker://x'", "container: 'apptainer' is not found"),
    ],
)
@pytest.mark.usefixtures("software")
def test_missing_software_of_workers_elsewhere_is_a_warning(site, keys, said):
    site.answer()
    commands = "setup_commands: [cd /, nosuch load x]"
    site.write(HEAR.replace(commands, keys))

    result = site.check()

    assert result.returncode == 0
    assert result.stderr.startswith(f"Warning: pipeline.yaml:9: tasks[0].{said}")
    assert result.stderr.endswith(" (on this host; its workers run on others)\n")


def test_environment_that_conda_does_not_know_is_a_mistake(site, software):
    _add_programs(site, software)
    site.write(SOFTWARE.format(keys="conda: nowhere"))

    result = site.check()

    assert result.returncode == 2
    assert result.stderr == (
        "pipeline.yaml:6: tasks[0].conda: 'conda activate nowhere' fails with exit "
        "code 1: EnvironmentNameNotFound: Could not find conda environment: nowhere\n"
    )


def test_software_is_drawn_and_provides_later_commands(site, software):
    _add_programs(site, software)
    prefix = software.add_environment("speech")
    (prefix / "bin" / "speak").touch(mode=0o755)
    software.add_module("greeting/1.0", GREETING="hello")
    keys = "envmodules: [greeting/1.0]\n    conda: speech\n    setup_commands: [speak]"
    site.write(SOFTWARE.format(keys=keys))

    result = site.check()

    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.splitlines()[3:] == [
        "    envmodules: greeting/1.0",
        "    conda: speech",
        "    $ speak",
        "pipeline.yaml: no problems found (1 task)",
    ]


def test_container_may_be_entered_by_singularity(site, software):
    (site.bin / "singularity").touch(mode=0o755)
    site.write(SOFTWARE.format(keys=f"container: {software.image}"))

    result = site.check()

    assert (result.returncode, result.stderr) == (0, "")
    assert f"    container: {software.image}" in result.stdout


def test_environment_of_a_file_comes_with_how_it_is_made(site, software):
    _add_programs(site, software)
    (site.path / "speech.yaml").write_text("dependencies: []\n")
    site.write(SOFTWARE.format(keys="conda: speech.yaml"))

    result = site.check()

    assert result.returncode == 0
    assert result.stderr == (
        "Warning: pipeline.yaml:6: tasks[0].conda: its environment is created once "
        "per output directory, before the first run: tigerflow compile pipeline.yaml "
        "INPUT_DIR OUTPUT_DIR, then snakemake "
        "-s OUTPUT_DIR/.tigerflow/workflow/Snakefile "
        "--sdm conda --conda-create-envs-only\n"
    )


# Setup commands


def doubts_of(given):
    return find_doubts([look_at(command) for command in given], Path.cwd())


def test_commands_are_looked_up_behind_those_before_them(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "my program"
    program.parent.mkdir()
    program.touch(mode=0o755)
    script = tmp_path / "activate"
    script.write_text(f'PATH="{program.parent}:$PATH"; ours() {{ :; }}\n')
    monkeypatch.setenv("WHERE", str(tmp_path))

    doubts = doubts_of(
        [f"source '{script}'", '"my program" x', "ours", '"$WHERE/bin/my program"']
    )

    assert doubts == []


def test_nothing_but_the_shell_is_changed(tmp_path):
    made = tmp_path / "made"

    doubts = doubts_of([f"touch {made}", f"cd / && touch {made}", "nosuch"])

    assert not made.exists()
    unless = "'nosuch' is not found, unless an earlier command provides it"
    assert doubts == [Doubt(2, unless, is_certain=False)]


def test_the_last_line_of_a_failing_command_is_reported(tmp_path):
    script = tmp_path / "script"
    script.write_text("echo loading; echo 'no such module' >&2; return 3\n")

    assert doubts_of([f". {script}"]) == [
        Doubt(
            0, f"'. {script}' fails with exit code 3: no such module", is_certain=True
        )
    ]


def test_a_command_that_exits_the_shell_is_reported(tmp_path):
    script = tmp_path / "script"
    script.write_text("exit 4\n")

    assert doubts_of(["true", f". {script}", "true"]) == [
        Doubt(1, f"'. {script}' ends the shell (exit code 4)", is_certain=True)
    ]


def test_a_command_that_hangs_is_reported(tmp_path, monkeypatch):
    script = tmp_path / "script"
    script.write_text("sleep 1000\n")
    monkeypatch.setattr(commands, "TIMEOUT_S", 1)

    [doubt] = doubts_of([f". {script}"])

    assert doubt.sentence == f"'. {script}' takes longer than 1 seconds"
