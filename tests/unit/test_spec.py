"""Pipeline files: what is understood, and every mistake with its place and line."""

import sys
from pathlib import Path

import pytest
from pipelines import Typed, ask_here, mistakes_in, write_pipeline

from tigerflow.errors import PipelineError
from tigerflow.pipeline.spec import load_pipeline
from tigerflow.tasks.param_values import convert
from tigerflow.tasks.places import Places


@pytest.fixture(autouse=True)
def _no_processes(monkeypatch):
    # The real one starts a process a task; test_modules.py is about that.
    monkeypatch.setattr("tigerflow.pipeline.spec.ask_task", ask_here)
    # Loading a task adds the pipeline's directory.
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture
def mistakes(tmp_path):
    return lambda text: mistakes_in(write_pipeline(tmp_path, text))


@pytest.fixture
def load(tmp_path):
    return lambda text: load_pipeline(write_pipeline(tmp_path, text))


def one_task(**changes):
    """Return a pipeline file of one local task, with keys changed or left out."""
    keys = {
        "name": "a",
        "kind": "local",
        "module": "pipelines:Upper",
        "input_ext": ".txt",
        **changes,
    }
    lines = [f"{key}: {value}" for key, value in keys.items() if value is not None]
    return "tasks:\n  - " + "\n    ".join(lines) + "\n"


def reason(name, text):
    """Return what a param of Typed says of a text; test_params.py is about that."""
    return convert(Typed.fields(), {name: text}, Places(Path()))[1][name]


SLURM = """
tasks:
  - name: train
    kind: slurm
    module: pipelines:Train
    input_ext: .txt
    max_workers: 3
    worker_resources:
      cpus: 2
      memory: 16G
      time: 12:00:00
"""


def test_task_with_the_least_keys_gets_the_defaults(load):
    pipeline = load(one_task())

    spec = pipeline.tasks[0].spec
    assert spec.model_dump(mode="json") == {
        "name": "a",
        "kind": "local",
        "module": "pipelines:Upper",
        "depends_on": None,
        "input_ext": ".txt",
        "output_ext": ".out",
        "keep_output": True,
        "params": {},
        "envmodules": [],
        "conda": None,
        "container": None,
        "setup_commands": [],
        "timeout": None,
        "batch_size": None,
        "workers": 1,
    }
    assert pipeline.tasks[0].module == "pipelines:Upper"
    assert pipeline.tasks[0].doc == "Write a text in capitals."
    assert pipeline.staging.steps == ()
    assert pipeline.warnings == ()


def test_task_of_each_kind_with_every_key(load):
    pipeline = load("""
        staging:
          steps:
            - kind: max_batch
              count: 10
        tasks:
          - name: train
            kind: slurm
            module: pipelines:Train
            input_ext: .tar.gz
            output_ext: .x
            keep_output: false
            setup_commands: [module purge]
            max_workers: 3
            worker_resources:
              cpus: 2
              gpus: a100:1
              memory: 16G
              time: 12:00:00
              sbatch_options: [-A lab]
          - name: fetch
            kind: local_async
            module: pipelines:Fetch
            depends_on: train
            input_ext: .x
            concurrency_limit: 30
          - name: store
            kind: local
            module: pipelines:Store
            depends_on: fetch
            input_ext: .out
            params:
              db-path: a.db
        """)

    train, fetch, store = (task.spec for task in pipeline.tasks)
    assert train.worker_resources.time == "12:00:00"
    assert train.worker_resources.sbatch_options == ("-A lab",)
    assert train.max_workers == 3
    assert fetch.concurrency_limit == 30
    assert store.params == {"db-path": "a.db"}
    assert pipeline.tasks[2].param_texts == {"db_path": "a.db"}
    assert pipeline.input_ext == ".tar.gz"
    assert pipeline.plan.leaves == {"store"}


def test_tasks_come_after_those_they_depend_on_whatever_their_order(load):
    pipeline = load("""
        tasks:
          - {name: c, kind: local, module: echo, depends_on: b, input_ext: .out}
          - {name: b, kind: local, module: echo, depends_on: a, input_ext: .out}
          - {name: a, kind: local, module: echo, input_ext: .txt}
        """)

    assert [task.name for task in pipeline.tasks] == ["a", "b", "c"]


def test_all_mistakes_are_reported_at_once_in_file_order(mistakes):
    assert mistakes("""
        tasks:
          - name: 1st
            kind: local
            module: pipelines:Upper
            input_ext: txt
          - name: transcribe
            kind: locl
            module: pipelines:Typed
            input_ext: .txt
            ouput_ext: .md
            params:
              number: many
          - name: embed
            kind: local
            module: pipelines:Typed
            depends_on: transcibe
            input_ext: .txt
            keep_output: maybe
            params:
              txt: a
              share: 2
          - just a text
          - name: ingest
            kind: local_async
            module: pipelines:Upper
            depends_on: embed
            input_ext: .json
        stagin: {}
        """) == [
        (
            "pipeline.yaml:2: tasks[0].name: Invalid task name: '1st'; "
            "start with a letter, then letters, digits, '-' or '_'"
        ),
        (
            "pipeline.yaml:5: tasks[0].input_ext: Invalid file extension: 'txt'; "
            "write '.txt'"
        ),
        (
            "pipeline.yaml:7: tasks[1].kind: 'locl' is not a kind "
            "(kinds: local, local_async, slurm); did you mean 'local'?"
        ),
        (
            "pipeline.yaml:10: tasks[1].ouput_ext: unknown key; "
            "did you mean 'output_ext'?"
        ),
        f"pipeline.yaml:12: tasks[1].params.number: {reason('number', 'many')}",
        (
            "pipeline.yaml:16: tasks[2].depends_on: 'transcibe' is not a task; "
            "did you mean 'transcribe'?"
        ),
        "pipeline.yaml:18: tasks[2].keep_output: expected true or false, found 'maybe'",
        (
            "pipeline.yaml:20: tasks[2].params.txt: is not a parameter of the task; "
            "did you mean 'text'?"
        ),
        f"pipeline.yaml:21: tasks[2].params.share: {reason('share', '2')}",
        "pipeline.yaml:22: tasks[3]: expected a mapping, found 'just a text'",
        "pipeline.yaml:23: tasks[4].concurrency_limit: is required",
        (
            "pipeline.yaml:24: tasks[4].kind: is 'local_async', but Upper is a "
            "LocalTask; write 'kind: local', or derive Upper from LocalAsyncTask"
        ),
        (
            "pipeline.yaml:27: tasks[4].input_ext: '.json' does not match the "
            "output_ext of 'embed', which is '.out'"
        ),
        "pipeline.yaml:28: stagin: unknown key; did you mean 'staging'?",
    ]


@pytest.mark.parametrize(
    "text",
    ["", "# nothing yet\n", "just a text", "[]", "{}", "- name: a\n", "null", "42"],
)
def test_file_without_a_mapping_says_what_is_expected(mistakes, text):
    assert mistakes(text) == [
        "pipeline.yaml:1: expected a mapping with the key 'tasks'"
    ]


@pytest.mark.parametrize("tasks", ["", "[]", "{}", "a", "{name: a}", "3"])
def test_tasks_that_are_not_a_list_are_refused_with_a_hint(mistakes, tasks):
    assert mistakes(f"tasks: {tasks}") == [
        "pipeline.yaml:1: tasks: expected a list with at least one task",
    ]


def test_file_without_tasks_says_what_is_expected(mistakes):
    assert mistakes("staging: {}") == [
        "pipeline.yaml:1: tasks: expected a list with at least one task",
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": None}, "2: tasks[0].name: is required"),
        ({"name": "12"}, "2: tasks[0].name: expected text, found 12"),
        ({"name": "[a]"}, "2: tasks[0].name: expected text, found a list"),
        (
            {"name": "'a b'"},
            (
                "2: tasks[0].name: Invalid task name: 'a b'; "
                "start with a letter, then letters, digits, '-' or '_'"
            ),
        ),
        (
            {"name": "../a"},
            (
                "2: tasks[0].name: Invalid task name: '../a'; "
                "start with a letter, then letters, digits, '-' or '_'"
            ),
        ),
        (
            {"kind": None},
            "2: tasks[0].kind: is required; one of local, local_async, slurm",
        ),
        (
            {"kind": "cloud"},
            (
                "3: tasks[0].kind: 'cloud' is not a kind (kinds: local, local_async, "
                "slurm)"
            ),
        ),
        (
            {"kind": "[local]"},
            "3: tasks[0].kind: a list is not a kind (kinds: local, local_async, slurm)",
        ),
        ({"module": None}, "2: tasks[0].module: is required"),
        ({"module": "''"}, "4: tasks[0].module: must not be empty"),
        ({"module": ""}, "4: tasks[0].module: expected text, found nothing"),
        ({"input_ext": None}, "2: tasks[0].input_ext: is required"),
        (
            {"input_ext": ".ERR"},
            (
                "5: tasks[0].input_ext: Invalid file extension: '.ERR'; "
                "'.err' is kept for error files"
            ),
        ),
        (
            {"output_ext": ".tar.err"},
            (
                "6: tasks[0].output_ext: Invalid file extension: '.tar.err'; "
                "'.err' is kept for error files"
            ),
        ),
        (
            {"output_ext": "'.*'"},
            (
                "6: tasks[0].output_ext: Invalid file extension: '.*'; "
                "write a dot and letters, digits or underscores, such as '.txt'"
            ),
        ),
        (
            {"keep_output": "3"},
            "6: tasks[0].keep_output: expected true or false, found 3",
        ),
        ({"params": "[a]"}, "6: tasks[0].params: expected a mapping, found a list"),
        ({"params": "x"}, "6: tasks[0].params: expected a mapping, found 'x'"),
        (
            {"setup_commands": "3"},
            "6: tasks[0].setup_commands: expected a list, found 3",
        ),
        (
            {"setup_commands": "[a, 3]"},
            "6: tasks[0].setup_commands[1]: expected text, found 3",
        ),
        (
            {"setup_commands": "[ls, 'echo \"']"},
            (
                "6: tasks[0].setup_commands[1]: bash cannot read 'echo \"': "
                "unexpected EOF while looking for matching `\"'"
            ),
        ),
        (
            {"setup_commands": "['ls; }', ls]"},
            (
                "6: tasks[0].setup_commands[0]: bash cannot read 'ls; }': "
                "syntax error near unexpected token `}'"
            ),
        ),
        (
            {"setup_commands": r'["a\0b"]'},
            (
                "6: tasks[0].setup_commands[0]: 'a\\x00b' has a null character, "
                "which no command can have"
            ),
        ),
        (
            {"depends_on": "[a, b]"},
            "6: tasks[0].depends_on: expected text, found a list",
        ),
        ({"depends_on": "b"}, "6: tasks[0].depends_on: 'b' is not a task"),
        (
            {"depends_on": "a", "output_ext": ".txt"},
            "6: tasks[0].depends_on: the tasks depend on each other: a -> a",
        ),
        (
            {"inputext": ".txt"},
            "6: tasks[0].inputext: unknown key; did you mean 'input_ext'?",
        ),
        ({"colour": "red"}, "6: tasks[0].colour: unknown key"),
        (
            {"concurrency_limit": "3"},
            "6: tasks[0].concurrency_limit: is only for tasks of kind local_async",
        ),
        (
            {"max_workers": "3"},
            "6: tasks[0].max_workers: is only for tasks of kind slurm",
        ),
        (
            {"worker_resources": "{}"},
            "6: tasks[0].worker_resources: is only for tasks of kind slurm",
        ),
        ({"staging": "{}"}, "6: tasks[0].staging: unknown key"),
    ],
)
def test_mistake_of_a_key_is_reported_with_its_line(mistakes, changes, expected):
    assert mistakes(one_task(**changes))[0] == f"pipeline.yaml:{expected}"


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        ("0", "must be at least 1, found 0"),
        ("-1", "must be at least 1, found -1"),
        ("true", "expected a number, found true"),
        ("1.5", "expected a whole number, found 1.5"),
        ("many", "expected a number, found 'many'"),
        ("", "expected a number, found nothing"),
    ],
)
def test_concurrency_limit_is_a_number_of_at_least_one(mistakes, limit, expected):
    text = one_task(
        kind="local_async",
        module="pipelines:Fetch",
        concurrency_limit=limit,
    )

    assert mistakes(text) == [
        f"pipeline.yaml:6: tasks[0].concurrency_limit: {expected}",
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("    max_workers: 3\n", "", "2: tasks[0].max_workers: is required"),
        (
            "    max_workers: 3\n",
            "    max_workers: 0\n",
            "6: tasks[0].max_workers: must be at least 1, found 0",
        ),
        (
            "      cpus: 2\n",
            "",
            "7: tasks[0].worker_resources.cpus: is required",
        ),
        (
            "cpus: 2",
            "cpus: few",
            "8: tasks[0].worker_resources.cpus: expected a number, found 'few'",
        ),
        (
            "16G",
            "16 apples",
            (
                "9: tasks[0].worker_resources.memory: memory '16 apples' is not a "
                "positive "
                "number with an optional unit K, M, G or T, such as 512M or 16G"
            ),
        ),
        (
            "12:00:00",
            "UNLIMITED",
            (
                "10: tasks[0].worker_resources.time: time 'UNLIMITED' has no end, "
                "but a "
                "worker must know when to stop taking files, so write a limit such as "
                "7-00:00:00"
            ),
        ),
        (
            "cpus: 2",
            "cpus: 2\n      gpus: gpu:1",
            (
                "9: tasks[0].worker_resources.gpus: gpus 'gpu:1' is not a count, "
                "TYPE or "
                "TYPE:COUNT, such as 2 or a100:2"
            ),
        ),
        (
            "cpus: 2",
            "cpus: 2\n      sbatch_options: [--mem=1G]",
            (
                "9: tasks[0].worker_resources.sbatch_options: sbatch option --mem "
                "is not "
                "accepted: use worker_resources.memory instead"
            ),
        ),
        (
            "cpus: 2",
            "cpus: 2\n      sbatch_options: [--mem-per-cpu=1G]",
            (
                "9: tasks[0].worker_resources.sbatch_options: sbatch option "
                "--mem-per-cpu and worker_resources.memory are both given, so keep one"
            ),
        ),
        (
            "cpus: 2",
            "cpus: 2\n      sbatch_options: -A lab",
            (
                "9: tasks[0].worker_resources.sbatch_options: "
                "expected a list, found '-A lab'"
            ),
        ),
        (
            "cpus: 2",
            "cpus: 2\n      max_workers: 3",
            (
                "9: tasks[0].worker_resources.max_workers: "
                "belongs beside worker_resources, not in it"
            ),
        ),
        (
            "cpus: 2",
            "cpus: 2\n      partition: gpu",
            (
                "9: tasks[0].worker_resources.partition: is an sbatch option; write "
                "'sbatch_options: [--partition=NAME]' in worker_resources"
            ),
        ),
        (
            "    max_workers: 3\n",
            "    max_workers: 3\n    account: lab\n",
            (
                "7: tasks[0].account: is an sbatch option; write "
                "'sbatch_options: [--account=NAME]' in worker_resources"
            ),
        ),
        (
            "cpus: 2",
            "cpus: 2\n      memry: 3",
            ("9: tasks[0].worker_resources.memry: unknown key; did you mean 'memory'?"),
        ),
        (
            "    max_workers: 3\n",
            "    max_workers: 3\n    memory: 1G\n",
            "7: tasks[0].memory: belongs in worker_resources",
        ),
        (
            "    max_workers: 3\n",
            "    max_workers: 3\n    concurrency_limit: 2\n",
            "7: tasks[0].concurrency_limit: is only for tasks of kind local_async",
        ),
        (
            "module: pipelines:Train",
            "module: pipelines:Upper",
            (
                "3: tasks[0].kind: is 'slurm', but Upper is a LocalTask; "
                "write 'kind: local', or derive Upper from SlurmTask"
            ),
        ),
    ],
)
def test_mistake_of_a_slurm_task_is_reported_with_its_line(
    mistakes, old, new, expected
):
    text = SLURM.replace(old, new, 1).lstrip("\n")

    assert mistakes(text) == [f"pipeline.yaml:{expected}"]


@pytest.mark.parametrize("time", ["12:00:00", "'12:00:00'", "720", "0-12", "12:00:00 "])
def test_time_needs_no_quotes(load, time):
    load(SLURM.replace("12:00:00", time))


@pytest.mark.parametrize(("written", "expected"), [("2", 2), ('"2"', 2), ("2.0", 2)])
def test_cpus_may_be_written_in_any_form_of_a_whole_number(load, written, expected):
    pipeline = load(SLURM.replace("cpus: 2", f"cpus: {written}"))

    assert pipeline.tasks[0].spec.worker_resources.cpus == expected


def test_more_workers_per_job_than_max_workers_give_a_warning(load):
    text = SLURM.replace("max_workers: 3", "max_workers: 3\n    workers_per_job: 4")
    assert [line.partition(": ")[2] for line in load(text).warnings] == [
        "tasks[0].workers_per_job: a job has only 3 workers, the task's max_workers"
    ]
    assert load(text.replace("job: 4", "job: 3")).warnings == ()


def test_older_resources_are_understood_with_a_warning(load, tmp_path):
    text = SLURM.replace("    max_workers: 3\n", "").replace(
        "worker_resources:",
        "resources:\n      max_workers: 3",
    )

    pipeline = load(text)

    spec = pipeline.tasks[0].spec
    assert (spec.max_workers, spec.worker_resources.cpus) == (3, 2)
    assert pipeline.warnings == (
        (
            f"{tmp_path / 'pipeline.yaml'}:6: tasks[0].resources: is the old form; "
            "write worker_resources, with max_workers beside it"
        ),
    )


def test_mistakes_in_older_resources_are_reported_with_their_place(mistakes):
    text = SLURM.replace("    max_workers: 3\n", "").replace(
        "worker_resources:\n      cpus: 2",
        "resources:\n      max_workers: 0\n      cpus: few",
    )

    assert mistakes(text.lstrip("\n")) == [
        (
            "pipeline.yaml:7: tasks[0].resources.max_workers: "
            "must be at least 1, found 0"
        ),
        "pipeline.yaml:8: tasks[0].resources.cpus: expected a number, found 'few'",
    ]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("[module purge, conda activate x]", ("module purge", "conda activate x")),
        ("module purge", ("module purge",)),
        ("", ()),
        ("[]", ()),
        (
            "|\n      module purge\n\n      # the new one\n      conda activate x\n",
            ("module purge", "conda activate x"),
        ),
        (
            "|\n      module load a \\\n        b\n      export X=1 # why\n",
            ("module load a    b", "export X=1 # why"),
        ),
        (
            "|\n      if true; then\n        export X=1\n      fi\n",
            ("if true; then\n  export X=1\nfi",),
        ),
        (
            "|\n      cat > x <<END\n      # kept\n      END\n",
            ("cat > x <<END\n# kept\nEND",),
        ),
    ],
)
def test_setup_commands_are_a_list_or_a_block(load, written, expected):
    pipeline = load(one_task(setup_commands=written))

    assert pipeline.tasks[0].spec.setup_commands == expected


def test_an_anchor_key_without_the_prefix_is_refused_with_a_fix(mistakes):
    text = f"{one_task()}common: &common {{keep_output: false}}\n"

    assert mistakes(text) == [
        ("pipeline.yaml:6: common: unknown key; for a YAML anchor, name it 'x-common'")
    ]


def test_keys_for_anchors_are_left_out(load):
    anchors = "x-common: &common {keep_output: false}\n"
    text = one_task()

    pipeline = load(f"{anchors}{text}    <<: *common\n")

    assert pipeline.tasks[0].spec.keep_output is False


def test_empty_params_and_staging_are_as_good_as_none(load):
    pipeline = load(one_task(params="") + "staging:\n")

    assert pipeline.tasks[0].spec.params == {}
    assert load(one_task() + "staging: {steps: }\n").staging.steps == ()


def test_duplicate_names_are_refused(mistakes):
    assert mistakes("""
        tasks:
          - {name: a, kind: local, module: pipelines:Upper, input_ext: .txt}
          - {name: a, kind: local, module: pipelines:Upper, input_ext: .txt}
        """) == ["pipeline.yaml:3: tasks[1].name: another task is named 'a', too"]


@pytest.mark.parametrize(
    ("first", "second"),
    [("a-b", "a_b"), ("all", "all_"), ("if_", "if"), ("a-b_c", "a_b-c")],
)
def test_names_that_give_one_rule_are_refused(mistakes, first, second):
    text = """
        tasks:
          - {name: FIRST, kind: local, module: pipelines:Upper, input_ext: .txt}
          - {name: SECOND, kind: local, module: pipelines:Upper, input_ext: .txt}
        """.replace("FIRST", first).replace("SECOND", second)

    assert mistakes(text) == [
        (
            f"pipeline.yaml:3: tasks[1].name: {second!r} and {first!r} "
            "have the same rule name"
        ),
    ]


def test_unknown_parent_without_a_near_name_lists_the_tasks(mistakes):
    assert mistakes("""
        tasks:
          - {name: a, kind: local, module: pipelines:Upper, input_ext: .txt}
          - {name: b, kind: local, module: pipelines:Upper, input_ext: .txt}
          - name: c
            kind: local
            module: pipelines:Upper
            depends_on: 'x: y'
            input_ext: .out
        """) == [
        "pipeline.yaml:7: tasks[2].depends_on: 'x: y' is not a task (tasks: a, b)",
    ]


def test_child_of_a_task_with_mistakes_gets_none_for_it(mistakes):
    assert mistakes("""
        tasks:
          - {name: 1st, kind: local, module: pipelines:Upper, input_ext: .txt}
          - name: b
            kind: local
            module: pipelines:Upper
            depends_on: 1st
            input_ext: .out
        """) == [
        (
            "pipeline.yaml:2: tasks[0].name: Invalid task name: '1st'; "
            "start with a letter, then letters, digits, '-' or '_'"
        ),
    ]


def test_every_cycle_is_reported(mistakes):
    task = "- {name: %s, kind: local, module: pipelines:Upper, depends_on: %s, %s}\n"
    ext = "input_ext: .out"

    assert mistakes(
        "tasks:\n"
        + task % ("a", "b", ext)
        + task % ("b", "a", ext)
        + task % ("self", "self", ext)
        + task % ("into", "a", ext),
    ) == [
        (
            "pipeline.yaml:2: tasks[0].depends_on: "
            "the tasks depend on each other: a -> b -> a"
        ),
        (
            "pipeline.yaml:4: tasks[2].depends_on: "
            "the tasks depend on each other: self -> self"
        ),
    ]


def test_roots_with_different_extensions_are_refused(mistakes):
    assert mistakes("""
        tasks:
          - {name: a, kind: local, module: pipelines:Upper, input_ext: .txt}
          - {name: b, kind: local, module: pipelines:Upper, input_ext: .md}
        """) == [
        (
            "pipeline.yaml:3: tasks[1].input_ext: '.md' differs from the '.txt' of "
            "'a'; "
            "tasks without depends_on read the same files"
        ),
    ]


@pytest.mark.parametrize(
    ("module", "params", "expected"),
    [
        (
            "Store",
            "{}",
            ["6: tasks[0].params.db_path: is required; give it a value"],
        ),
        (
            "Store",
            "{db_path: }",
            ["6: tasks[0].params.db_path: is required; give it a value"],
        ),
        (
            "Store",
            "{db_path: a, db-path: b}",
            ["6: tasks[0].params.db-path: is given twice, also as 'db_path'"],
        ),
        (
            "Upper",
            "{a: 1}",
            ["6: tasks[0].params.a: is not a parameter of the task (it has none)"],
        ),
        (
            "Typed",
            "{zzz: 1}",
            [
                (
                    "6: tasks[0].params.zzz: is not a parameter of the task "
                    "(parameters: flag, names, number, share, text)"
                ),
            ],
        ),
        (
            "Typed",
            "{number: 1.5}",
            [f"6: tasks[0].params.number: {reason('number', '1.5')}"],
        ),
        (
            "Typed",
            "{flag: 3}",
            ["6: tasks[0].params.flag: expected true or false, found '3'"],
        ),
        (
            "Typed",
            "{text: [a, b]}",
            ["6: tasks[0].params.text: expected one value, found a list of 2 values"],
        ),
        (
            "Typed",
            "{text: {a: b}}",
            [
                (
                    "6: tasks[0].params.text: expected one value or a list of values, "
                    "found a mapping"
                ),
            ],
        ),
        (
            "Typed",
            "{names: [a, [b], c]}",
            [
                (
                    "6: tasks[0].params.names: expected one value or a list of values, "
                    "found a list in a list"
                ),
            ],
        ),
        (
            "Typed",
            "{names: [a, null]}",
            ["6: tasks[0].params.names: expected a list of values, found null in it"],
        ),
    ],
)
def test_params_are_checked_against_the_class(mistakes, module, params, expected):
    text = one_task(module=f"pipelines:{module}", params=params)

    assert mistakes(text) == [f"pipeline.yaml:{line}" for line in expected]


def test_params_left_at_their_default_are_known_with_it(load):
    text = one_task(module="pipelines:Typed", params="{number: 1, no-flag: yes}")

    [task] = load(text).tasks

    # An empty text and no list are nothing to show.
    assert task.param_defaults == {"share": "0.5"}
    assert load(one_task(module="pipelines:Typed")).tasks[0].param_defaults == {
        "number": "1",
        "share": "0.5",
        "flag": "false",
    }


def test_params_keep_the_text_that_was_written(load):
    text = one_task(
        module="pipelines:Typed",
        params='{text: 1.10, number: 0x10, flag: on, names: [080, "", -x]}',
    )

    pipeline = load(text)

    assert pipeline.tasks[0].param_texts == {
        "text": "1.10",
        "number": "16",
        "flag": "on",
        "names": ["080", "", "-x"],
    }


def test_anchors_and_merge_keys_share_keys_of_tasks(load):
    pipeline = load("""
        tasks:
          - &first
            name: a
            kind: local
            module: pipelines:Typed
            input_ext: .txt
            params: &params {text: x, number: 2}
          - <<: *first
            name: b
            params: {<<: *params, text: y}
        """)

    assert [task.spec.params for task in pipeline.tasks] == [
        {"text": "x", "number": 2},
        {"text": "y", "number": 2},
    ]


def test_key_given_twice_is_a_mistake(mistakes):
    assert mistakes(one_task() + "    kind: local\n") == [
        "pipeline.yaml:6: tasks[0].kind: is given twice",
    ]


@pytest.mark.parametrize(
    ("staging", "expected"),
    [
        ("[]", "6: staging: expected a mapping, found a list"),
        ("{steps: 3}", "6: staging.steps: expected a list, found 3"),
        ("{step: []}", "6: staging.step: unknown key; did you mean 'steps'?"),
        ("{max_workers: 3}", "6: staging.max_workers: unknown key"),
        ("{steps: [a]}", "6: staging.steps[0]: expected a mapping, found 'a'"),
        ("{steps: [{count: 3}]}", "6: staging.steps[0]: has no 'kind'"),
        (
            "{steps: [{kind: min_siz, bytes: 3}]}",
            (
                "6: staging.steps[0]: 'min_siz' is not one of 'min_size', 'max_size', "
                "'min_age', 'filename_match', 'companion_file', 'max_staged', "
                "'max_batch', "
                "'sort_by', 'callable'; did you mean 'min_size'?"
            ),
        ),
        (
            "{steps: [{kind: min_size}]}",
            "6: staging.steps[0].bytes: is required",
        ),
        (
            "{steps: [{kind: min_size, byte: 3, bytes: 3}]}",
            "6: staging.steps[0].byte: unknown key; did you mean 'bytes'?",
        ),
        (
            "{steps: [{kind: min_age, seconds: 0}]}",
            "6: staging.steps[0].seconds: must be greater than 0, found 0",
        ),
        (
            "{steps: [{kind: sort_by, key: colour}]}",
            (
                "6: staging.steps[0].key: "
                "expected 'name', 'size' or 'mtime', found 'colour'"
            ),
        ),
        (
            "{steps: [{kind: filename_match, pattern: '('}]}",
            (
                "6: staging.steps[0].pattern: '(' is not a regular expression: "
                "missing ), unterminated subpattern at position 0"
            ),
        ),
        (
            "{steps: [{kind: callable, function: choose}]}",
            (
                "6: staging.steps[0].function: "
                "'choose' is not of the form 'module:function'"
            ),
        ),
        (
            "{steps: [{kind: companion_file, ext: .err}]}",
            (
                "6: staging.steps[0].ext: Invalid file extension: '.err'; "
                "'.err' is kept for error files"
            ),
        ),
    ],
)
def test_mistake_of_staging_is_reported_with_its_line(mistakes, staging, expected):
    assert mistakes(one_task() + f"staging: {staging}\n") == [
        f"pipeline.yaml:{expected}",
    ]


def test_line_of_a_staging_step_is_that_of_the_step(mistakes):
    text = """
staging:
  steps:
    - kind: max_batch
      count: 3
    - kind: min_size
      bytes: none
"""

    assert mistakes(one_task() + text) == [
        "pipeline.yaml:12: staging.steps[1].bytes: expected a number, found 'none'",
    ]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("timeout: 0", "greater than 0"),
        ("timeout: true", "expected a number, found true"),
        ("timeout: .inf", "finite"),
        ("workers: 0", "must be at least 1"),
        ("workers: 1.5", "expected a whole number"),
    ],
)
def test_timeout_and_workers_that_cannot_be_are_refused(load, line, reason):
    with pytest.raises(PipelineError, match=reason):
        load(one_task() + f"    {line}\n")


def test_timeout_and_workers_are_read(load):
    spec = load(one_task() + "    timeout: 1.5\n    workers: 3\n").tasks[0].spec
    assert (spec.timeout, spec.workers) == (1.5, 3)


#: More than a file name may have.
LONG = 300 * "x"
NO_SOFTWARE = "must be a name or a path without spaces, quotes or braces"


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"conda": "envs/none"}, "conda: 'envs/none' is not a directory"),
        ({"conda": "none.yaml"}, "conda: 'none.yaml' is not a file"),
        ({"container": "none.sif"}, "container: 'none.sif' does not exist"),
        ({"conda": f"{LONG}/"}, f"conda: '{LONG}/' is not a directory"),
        ({"conda": f"{LONG}.yaml"}, f"conda: '{LONG}.yaml' is not a file"),
        ({"container": f"{LONG}.sif"}, f"container: '{LONG}.sif' does not exist"),
        ({"conda": "a b"}, f"conda: 'a b' {NO_SOFTWARE}"),
        ({"container": "a://{}"}, f"container: 'a://{{}}' {NO_SOFTWARE}"),
        (
            {"envmodules": "[cuda/12, a;b]"},
            (
                "envmodules[1]: 'a;b' is not the name of an environment module, "
                "such as ffmpeg/6.0"
            ),
        ),
        (
            {"conda": "x", "container": "docker://y"},
            (
                "container: cannot be combined with conda; put the environment into "
                "the image"
            ),
        ),
    ],
)
def test_software_that_cannot_be_is_refused(mistakes, keys, expected):
    [line] = mistakes(one_task(**keys))
    assert line.partition(": tasks[0].")[2] == expected


def test_paths_of_software_start_at_the_pipeline_file(load, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    (tmp_path / "envs" / "speech").mkdir(parents=True)
    (tmp_path / "speech.yml").touch()
    (tmp_path / "image.sif").touch()

    def spec(**keys):
        return load(one_task(**keys)).tasks[0].spec

    assert spec(conda="envs/speech").conda == f"{tmp_path}/envs/speech"
    assert spec(conda="speech.yml").conda == f"{tmp_path}/speech.yml"
    assert spec(conda="speech").conda == "speech"
    assert spec(container="image.sif").container == f"{tmp_path}/image.sif"
    assert spec(container="docker://a/b:1").container == "docker://a/b:1"
    assert spec(envmodules="cuda/12").envmodules == ("cuda/12",)


def test_paths_of_software_may_start_at_the_home_directory(load, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine").mkdir()
    (tmp_path / "image.sif").touch()

    def spec(**keys):
        return load(one_task(**keys)).tasks[0].spec

    assert spec(conda="~/mine").conda == f"{tmp_path}/mine"
    assert spec(container="~/image.sif").container == f"{tmp_path}/image.sif"


def test_batch_size_is_that_of_the_file_or_of_the_class(load):
    def size(**keys):
        return load(one_task(**keys)).tasks[0].batch_size

    assert size(module="pipelines:Embed") == 8
    assert size(module="pipelines:Embed", batch_size=3) == 3
    assert size() == 1


def test_batch_size_is_for_tasks_that_have_batches(mistakes):
    [line] = mistakes(one_task(batch_size=3))
    assert line == (
        "pipeline.yaml:6: tasks[0].batch_size: is only for tasks with run_batch, "
        "which Upper does not have"
    )


def test_batch_size_is_at_least_one(mistakes):
    assert mistakes(one_task(module="pipelines:Embed", batch_size=0)) == [
        "pipeline.yaml:6: tasks[0].batch_size: must be at least 1, found 0"
    ]
