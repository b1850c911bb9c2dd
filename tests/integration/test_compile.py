"""`tigerflow compile` as a command, and plain Snakemake on what it writes."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from golden_cases import CASES, load_case
from pipelines import write_pipeline, write_project
from runs import DEADLINE_S

from tigerflow.compiler import workflow_directory
from tigerflow.compiler.compiled import compile_workflow
from tigerflow.compiler.workflow_directory import write_workflow
from tigerflow.pipeline.spec import load_pipeline

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[2]


def run(*words, cwd, **kwargs):
    return subprocess.run(
        [BIN / words[0], *map(str, words[1:])],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
        **kwargs,
    )


def compile_(cwd, *options, pipeline="pipeline.yaml", source="in", out="out"):
    return run("tigerflow", "compile", pipeline, source, out, *options, cwd=cwd)


def tree(directory):
    """Return each path below a directory with its content, or where it leads."""
    return {
        str(path.relative_to(directory)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


@pytest.fixture
def project(weird_tmp_path):
    write_project(weird_tmp_path)
    return weird_tmp_path


@pytest.fixture
def compiled(project):
    assert compile_(project).returncode == 0
    return project


def test_compile_writes_the_workflow_and_tells_how_to_run_it(tmp_path):
    write_project(tmp_path)

    result = compile_(tmp_path)

    workflow = tmp_path / "out" / ".tigerflow" / "workflow"
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == (
        f"Compiled first, second to {workflow}\n"
        "Run:\n"
        f"  snakemake -s {workflow}/Snakefile\n"
    )
    assert list(tree(tmp_path / "out")) == [
        ".tigerflow/input",
        ".tigerflow/pipeline.json",
        ".tigerflow/workflow/Snakefile",
        ".tigerflow/workflow/profiles/default/profile.yaml",
        ".tigerflow/workflow/profiles/local/profile.yaml",
        ".tigerflow/workflow/profiles/slurm/profile.yaml",
        ".tigerflow/workflow/profiles/tigerflow/profile.yaml",
        ".tigerflow/workflow/tasks/first.json",
        ".tigerflow/workflow/tasks/second.json",
    ]
    assert json.loads((workflow / "tasks" / "second.json").read_text()) == {
        "name": "second",
        "module": f"{tmp_path}/upper.py:Upper",
        "directory": str(tmp_path),
        "params": {},
        "setup_commands": [],
        "output_ext": ".md",
        "workers": 1,
        "concurrency_limit": 1,
        "threads": 0,
    }


def test_compiling_twice_writes_nothing_the_second_time(compiled):
    before = tree(compiled / "out")
    times = {p: p.stat().st_mtime_ns for p in (compiled / "out").rglob("*")}

    result = compile_(compiled)

    assert result.returncode == 0
    assert result.stdout.startswith("Already compiled: first, second to ")
    assert tree(compiled / "out") == before
    assert times == {p: p.stat().st_mtime_ns for p in (compiled / "out").rglob("*")}


def test_compiling_in_two_places_gives_the_same_bytes(compiled):
    before = tree(compiled / "out")
    shutil.rmtree(compiled / "out")

    compile_(compiled, pipeline=compiled / "pipeline.yaml", source=compiled / "in")

    assert tree(compiled / "out") == before


def test_to_writes_the_workflow_elsewhere(project):
    result = compile_(project, "--to", "flow")

    assert result.returncode == 0
    assert (project / "flow" / "Snakefile").is_file()
    assert list(tree(project / "out")) == [
        ".tigerflow/input",
        ".tigerflow/pipeline.json",
    ]


def test_check_says_that_a_workflow_is_current(compiled):
    before = tree(compiled)

    result = compile_(compiled, "--check")

    workflow = compiled / "out" / ".tigerflow" / "workflow"
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == f"{workflow} is current\n"
    assert tree(compiled) == before


def test_check_creates_nothing_without_a_workflow(project):
    result = compile_(project, "--check")

    assert result.returncode == 1
    assert result.stderr == (
        f"Error: The workflow in {str(project / 'out/.tigerflow/workflow')!r} is not "
        "current (tasks/first.json, tasks/second.json, profiles/default/profile.yaml, "
        "profiles/local/profile.yaml, "
        "profiles/slurm/profile.yaml, profiles/tigerflow/profile.yaml, Snakefile, "
        ".tigerflow/input, "
        ".tigerflow/pipeline.json); run `tigerflow compile` again\n"
    )
    assert not (project / "out").exists()


def _change_pipeline(project):
    path = project / "pipeline.yaml"
    path.write_text(path.read_text().replace(".md", ".txt"))


def _edit_by_hand(project):
    with (project / "out/.tigerflow/workflow/Snakefile").open("a") as file:
        file.write("# mine\n")


def _leave_an_old_task(project):
    tasks = project / "out/.tigerflow/workflow/tasks"
    shutil.copy(tasks / "first.json", tasks / "gone.json")


def _move_input(project):
    (project / "in").rename(project / "moved")
    (project / "in").symlink_to("moved")
    link = project / "out/.tigerflow/input"
    link.unlink()
    link.symlink_to("/tmp")


@pytest.mark.parametrize(
    ("change", "stale"),
    [
        (
            _change_pipeline,
            "tasks/second.json, Snakefile, .tigerflow/pipeline.json",
        ),
        (_edit_by_hand, "Snakefile"),
        (_leave_an_old_task, "tasks/gone.json"),
        (_move_input, ".tigerflow/input"),
    ],
)
def test_check_names_stale_files_and_compiling_updates_them(compiled, change, stale):
    change(compiled)
    before = tree(compiled)

    result = compile_(compiled, "--check")

    assert result.returncode == 1
    assert result.stderr == (
        f"Error: The workflow in {str(compiled / 'out/.tigerflow/workflow')!r} is not "
        f"current ({stale}); run `tigerflow compile` again\n"
    )
    assert tree(compiled) == before
    assert compile_(compiled).returncode == 0
    assert compile_(compiled, "--check").returncode == 0


def test_bad_pipeline_gives_no_traceback_and_creates_nothing(project):
    write_pipeline(
        project,
        """
        tasks:
          - {name: a, kind: local, module: gone.py, input_ext: .txt}
          - {name: b, kind: lokal, module: upper.py, depends_on: aa, input_ext: .out}
        """,
    )

    result = compile_(project)

    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr == (
        "pipeline.yaml:2: tasks[0].module: there is no file "
        f"{str(project / 'gone.py')!r}\n"
        "pipeline.yaml:3: tasks[1].kind: 'lokal' is not a kind "
        "(kinds: local, local_async, slurm); did you mean 'local'?\n"
        "pipeline.yaml:3: tasks[1].depends_on: 'aa' is not a task; "
        "did you mean 'a'?\n"
    )
    assert not (project / "out").exists()


def _file_as_output(project):
    (project / "file").write_text("mine")


def _foreign_workflow(project):
    (project / "flow").mkdir()
    (project / "flow" / "Snakefile").write_text("rule all:\n")


def _results_among_inputs(project):
    (project / "in" / "first").mkdir()


@pytest.mark.parametrize(
    ("prepare", "arguments", "expected"),
    [
        (None, {"pipeline": "no.yaml"}, "no.yaml: No such file or directory"),
        (None, {"pipeline": "in"}, "in: Is a directory"),
        (
            None,
            {"source": "no"},
            "Error: 'DIR/no': the input directory does not exist",
        ),
        (
            None,
            {"source": 300 * "n"},
            f"Error: 'DIR/{300 * 'n'}': the input directory does not exist",
        ),
        (
            None,
            {"out": 300 * "n"},
            f"Error: 'DIR/{300 * 'n'}/.tigerflow/workflow': File name too long",
        ),
        (
            None,
            {"source": "upper.py"},
            "Error: 'DIR/upper.py': the input directory is not a directory",
        ),
        (
            None,
            {"out": "upper.py"},
            "Error: 'DIR/upper.py': the output directory is a file",
        ),
        (
            None,
            {"out": "upper.py/out"},
            (
                "Error: 'DIR/upper.py/out/.tigerflow/workflow': "
                "cannot be created, because a file is in the way"
            ),
        ),
        (
            None,
            {"out": "/proc/out"},
            "Error: '/proc/out': No such file or directory",
        ),
        (
            None,
            {"options": ["--to", "upper.py"]},
            ("Error: 'DIR/upper.py': cannot be created, because a file is in the way"),
        ),
        (
            _foreign_workflow,
            {"options": ["--to", "flow"]},
            (
                "Error: 'DIR/flow/Snakefile': was not written by `tigerflow "
                "compile`; move it, or choose another --to"
            ),
        ),
        (
            _results_among_inputs,
            {"source": "in/first", "out": "in"},
            (
                "Error: The results of task 'first' would go into the input directory "
                "'DIR/in/first'; choose another output directory"
            ),
        ),
    ],
)
def test_unusable_directory_is_reported_and_nothing_is_created(
    tmp_path, prepare, arguments, expected
):
    write_project(tmp_path)
    if prepare:
        prepare(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    arguments = dict(arguments)

    result = compile_(tmp_path, *arguments.pop("options", []), **arguments)

    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.replace(str(tmp_path), "DIR") == f"{expected}\n"
    assert sorted(tmp_path.rglob("*")) == before


def test_link_to_the_input_does_not_count_as_the_input(compiled):
    result = compile_(compiled, source="out/.tigerflow/input")

    assert result.returncode == 2
    assert result.stderr == (
        f"Error: {str(compiled / 'out/.tigerflow/input')!r}: belongs to TigerFlow; "
        "name the directory with the input files\n"
    )
    assert (compiled / "out/.tigerflow/input").readlink() == compiled / "in"


def test_read_only_output_directory_is_named(project):
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (project / "out").mkdir(mode=0o500)

    result = compile_(project)

    assert result.returncode == 2
    assert result.stderr == (
        f"Error: {str(project / 'out/.tigerflow')!r}: Permission denied\n"
    )


def test_output_directory_may_be_the_input_directory(project):
    result = compile_(project, out="in")

    assert result.returncode == 0
    assert (project / "in" / "a.txt").read_text() == "a"
    assert (project / "in/.tigerflow/input").readlink() == project / "in"


def test_input_directory_that_moved_is_linked_again(compiled):
    (compiled / "in").rename(compiled / "other")

    result = compile_(compiled, source="other")

    assert result.returncode == 0
    assert (compiled / "out/.tigerflow/input").readlink() == compiled / "other"


def test_other_files_in_the_workflow_directory_are_left_alone(project):
    (project / "flow" / "tasks").mkdir(parents=True)
    (project / "flow" / "tasks" / "mine.json").write_text('{"name": "mine"}')

    compile_(project, "--to", "flow")
    compile_(project, "--to", "flow")

    assert (project / "flow/tasks/mine.json").read_text() == '{"name": "mine"}'


def test_older_form_is_compiled_with_a_warning(project):
    (project / "train.py").write_text(
        (project / "upper.py").read_text().replace("LocalTask", "SlurmTask"),
    )
    write_pipeline(
        project,
        """
        staging: {steps: [{kind: max_batch, count: 1}]}
        tasks:
          - name: a
            kind: slurm
            module: train.py
            input_ext: .txt
            resources: {max_workers: 1, cpus: 1, memory: 1G, time: 02:00:00}
        """,
    )

    result = compile_(project)

    assert result.returncode == 0
    assert result.stderr == (
        "Warning: pipeline.yaml:7: tasks[0].resources: is the old form; "
        "write worker_resources, with max_workers beside it\n"
        "Warning: pipeline.yaml: staging has no effect in plain Snakemake, "
        "which processes all files at once\n"
    )
    workflow = project / "out/.tigerflow/workflow"
    command = f"snakemake -s {shlex.quote(f'{workflow}/Snakefile')}"
    profiles = [f"{workflow}/profiles/{name}" for name in ("slurm", "tigerflow")]
    slurm, tigerflow = map(shlex.quote, profiles)
    assert result.stdout == (
        f"Compiled a to {workflow}\n"
        "Run:\n"
        f"  {command}\n"
        f"  {command} --profile {slurm}\n"
        f"  {command} --profile {tigerflow}\n"
    )


def test_crash_between_files_leaves_each_old_or_new_and_the_snakefile_old(
    compiled, monkeypatch
):
    workflow_dir = compiled / "out/.tigerflow/workflow"
    before = tree(workflow_dir)
    _change_pipeline(compiled)
    pipeline = load_pipeline(compiled / "pipeline.yaml")
    workflow = compile_workflow(pipeline, compiled / "in", compiled / "out")
    written = []

    def write_one(path, text, readers):
        # Stands for SIGKILL: what is behind the workflow's first file is not reached.
        if "second.json" in written:
            raise KeyboardInterrupt
        written.append(path.name)
        original(path, text, readers)

    original = workflow_directory.write_atomic
    monkeypatch.setattr(workflow_directory, "write_atomic", write_one)
    with pytest.raises(KeyboardInterrupt):
        write_workflow(workflow)

    after = tree(workflow_dir)
    assert written == ["pipeline.json", "second.json"]
    assert [name for name in before if after[name] != before[name]] == [
        "tasks/second.json",
    ]
    assert compile_(compiled, "--check").returncode == 1
    assert compile_(compiled).returncode == 0
    assert compile_(compiled, "--check").returncode == 0


def test_leftovers_of_a_killed_compile_are_removed_by_the_next(compiled):
    # A temporary file of a process that is gone: the highest id is never in use.
    workflow_dir = compiled / "out/.tigerflow/workflow"
    code = (
        "import os, sys; from pathlib import Path;"
        "from tigerflow.files import create_temporary;"
        f"create_temporary(Path({str(workflow_dir / 'Snakefile')!r}));"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert len(list(workflow_dir.glob(".~tf_*"))) == 1

    compile_(compiled)

    assert list(workflow_dir.glob(".~tf_*")) == []


def snakemake(project, *options, snakefile="out/.tigerflow/workflow/Snakefile"):
    return run("snakemake", "-s", snakefile, *options, cwd=project)


@pytest.mark.snakemake
def test_dry_run_lists_the_jobs(compiled):
    result = snakemake(compiled, "-n", "--quiet", "rules")

    assert result.returncode == 0, result.stderr
    stats = [line.split() for line in (result.stdout + result.stderr).splitlines()]
    assert ["first", "2"] in stats
    assert ["second", "2"] in stats


@pytest.mark.snakemake
def test_rulegraph_is_that_of_the_tasks(compiled):
    result = snakemake(compiled, "--rulegraph")

    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("digraph")
    assert [word for word in ("first", "second", "all") if word in result.stdout] == [
        *("first", "second", "all"),
    ]


@pytest.mark.snakemake
def test_lint_has_only_the_documented_findings(compiled):
    result = snakemake(compiled, "--lint")

    found = [line[6:] for line in result.stderr.splitlines() if line[:6] == "    * "]
    titles = {re.sub(r" \".*|:$", "", title) for title in found}
    assert titles == {
        "Absolute path",
        "No log directive defined",
        "Specify a conda environment or container for each rule.",
        "Shell command directly uses variable RUN from outside of the rule",
    }


@pytest.mark.snakemake
def test_report_is_made_after_a_run_through_the_profile(compiled):
    profile = "out/.tigerflow/workflow/profiles/local"
    ran = snakemake(compiled, "--profile", profile, "--cores", "2")

    result = snakemake(compiled, "--report", "report.html")

    assert ran.returncode == 0, ran.stderr
    assert (compiled / "out/second/a.md").read_text() == "A"
    assert result.returncode == 0, result.stderr
    places = [compiled / "report.html", compiled / "out" / "report.html"]
    assert any(place.is_file() for place in places)


@pytest.mark.snakemake
def test_workflow_runs_without_a_profile_or_an_option(compiled):
    (compiled / "in" / "bad.txt").write_bytes(b"\xff")

    ran = snakemake(compiled)

    assert "workflow specific profile" in ran.stderr
    assert ran.returncode == 1
    # Past the one that failed.
    assert sorted(p.name for p in (compiled / "out/second").iterdir()) == [
        "a.md",
        "b.md",
    ]
    assert not (compiled / ".snakemake").exists()


#: The cores of this machine.
ALL = str(len(os.sched_getaffinity(0)))
TOLD = """
import json, sys
from snakemake.cli import parse_args
_, args = parse_args(sys.argv[1:])
print(json.dumps([args.executor, str(args.cores), str(args.jobs), args.keep_going]))
"""


@pytest.mark.snakemake
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], [None, ALL, "None", True]),
        (["--cores", "3"], [None, "3", "None", True]),
        (["-c3"], [None, "3", "None", True]),
        (["-j", "3"], [None, "None", "3", True]),
        (["--executor", "slurm", "--jobs=7"], ["slurm", "None", "7", True]),
        (["--executor", "tigerflow"], ["tigerflow", ALL, "None", True]),
        (["--executor=tigerflow"], ["tigerflow", ALL, "None", True]),
        (["-etigerflow", "-c3"], ["tigerflow", "3", "None", True]),
        (["-e", "tigerflow", "-j", "3"], ["tigerflow", "None", "3", True]),
        (["--workflow-profile", "tigerflow"], ["tigerflow", ALL, "None", True]),
        (["--workflow-profile", "slurm"], ["slurm", "None", "100", True]),
        (["--profile", "{profiles}/slurm"], ["slurm", "None", "100", True]),
        (["--profile", "{profiles}/local"], [None, ALL, "None", True]),
    ],
)
def test_default_profile_adds_nothing_that_others_do_not_want(
    tmp_path, options, expected
):
    write_project(tmp_path)
    compile_(tmp_path)
    workflow = tmp_path / "out" / ".tigerflow" / "workflow"
    words = [each.format(profiles=workflow / "profiles") for each in options]

    result = subprocess.run(
        [sys.executable, "-c", TOLD, "-s", workflow / "Snakefile", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        timeout=DEADLINE_S,
    )

    assert json.loads(result.stdout) == expected


@pytest.mark.snakemake
@pytest.mark.parametrize("name", [name for name in CASES if name != "chain"])
def test_golden_case_is_understood_by_snakemake(name, weird_tmp_path, monkeypatch):
    case = CASES[name]
    pipeline = load_case(case, weird_tmp_path, monkeypatch)
    source = weird_tmp_path / "in"
    source.mkdir()
    (source / f"a{pipeline.input_ext}").touch()
    out = weird_tmp_path / "o%s\n😀{input}"
    workflow = compile_workflow(pipeline, source, out, weird_tmp_path / "to {x} '")
    write_workflow(workflow)

    result = snakemake(weird_tmp_path, "-n", "-p", snakefile=workflow.snakefile)

    assert result.returncode == 0, result.stderr
    for task in pipeline.tasks:
        assert f" $PPID {task.name} " in result.stdout + result.stderr


@pytest.mark.snakemake
def test_entry_point_compiles_and_runs(project):
    result = snakemake(
        project,
        *("--cores", "1", "--config"),
        *("pipeline=pipeline.yaml", "input_dir=in", "output_dir=out"),
        snakefile=ROOT / "workflow" / "Snakefile",
    )

    assert result.returncode == 0, result.stderr
    assert (project / "out/second/b.md").read_text() == "B"


@pytest.mark.snakemake
@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (
            ["--config", "pipeline=p.yaml"],
            "tigerflow: give --config input_dir=… output_dir=…",
        ),
        (
            ["--config", "pipeline=no.yaml", "input_dir=in", "output_dir=out"],
            "tigerflow: no.yaml: No such file or directory",
        ),
        (
            ["--config", "pipeline=pipeline.yaml", "input_dir=no", "output_dir=out"],
            "tigerflow: 'DIR/no': the input directory does not exist",
        ),
    ],
)
def test_entry_point_says_what_is_wrong_in_one_sentence(tmp_path, config, expected):
    write_project(tmp_path)

    result = snakemake(
        tmp_path,
        *("-n", *config),
        snakefile=ROOT / "workflow" / "Snakefile",
    )

    assert result.returncode != 0
    said = result.stderr.replace(str(tmp_path), "DIR").strip().splitlines()
    assert [line for line in said if line.startswith("tigerflow: ")] == [expected]
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()
