"""Snakemake's own tools on what a service made, what Snakemake made, and a mix."""

import csv
import json
import re
import tarfile
import zipfile
from collections import Counter

import pytest
from flows import HEAD, LEFT, RIGHT
from runs import DEADLINE_S, World
from services import NOTHING_TO_DO, Watched

pytestmark = pytest.mark.snakemake

STEMS = ("a", "b", "c")
TREE = """
class Head(LocalTask):
    \"\"\"Write a text in capitals.\"\"\"
    def run(context, input_file, output_file):
        output_file.write_text(input_file.read_text().upper())


class Left(LocalTask):
    class Params:
        mark: str = "<"
    def run(context, input_file, output_file):
        output_file.write_text(input_file.read_text() + context.mark)


class Right(LocalAsyncTask):
    async def run(context, input_file, output_file):
        output_file.write_text(input_file.read_text() + ">")
"""
TASKS = (HEAD, LEFT | {"params": {"mark": "*"}}, RIGHT)
#: More than two windows take.
MANY = 250


def _flow(world):
    watched = Watched(world)
    watched.add_module(TREE)
    watched.write(*TASKS)
    watched.compile(*TASKS)
    return watched


def _by_service(watched):
    assert watched.once() == 0, watched.said


def _by_snakemake(watched):
    code, said = watched.snakemake()
    assert code == 0, said


def _in_turns(watched):
    _by_service(watched)
    watched.add_inputs("later")
    _by_snakemake(watched)
    watched.add_inputs("last")
    _by_service(watched)


@pytest.fixture(scope="module", params=[_by_service, _by_snakemake, _in_turns])
def made(request, tmp_path_factory):
    """A finished output directory, made in each of the ways; tools change nothing."""
    with World(tmp_path_factory.mktemp("made")) as world:
        watched = _flow(world)
        watched.add_inputs(*STEMS)
        request.param(watched)
        yield watched


def _outputs(made):
    stems = sorted(path.stem for path in made.inputs.iterdir())
    return {
        f"{task}/{stem}{extension}"
        for task, extension in (("head", ".out"), ("left", ".md"), ("right", ".out"))
        for stem in stems
    }


def _tool(made, *options):
    code, said = made.snakemake(*options)
    assert code == 0, said
    return said


def test_dry_run_has_nothing_to_do(made):
    assert NOTHING_TO_DO in _tool(made, "--dry-run")


@pytest.mark.parametrize("option", ["--summary", "--detailed-summary"])
def test_summary_has_each_output_with_its_rule_and_as_current(made, option):
    said = _tool(made, option)

    table = said[said.index("output_file\t") :].splitlines()
    rows = list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert {row["output_file"] for row in rows} == _outputs(made)
    for row in rows:
        assert row["rule"] == row["output_file"].partition("/")[0]
        assert row["date"] not in {"", "-"}
        assert (row["status"], row["plan"]) == ("ok", "no update")


def test_report_has_each_job_with_its_runtime(made):
    _tool(made, "--report", "report.html")

    stems = len(list(made.inputs.iterdir()))
    assert _jobs_of_report(made.out / "report.html") == {
        "head": stems,
        "left": stems,
        "right": stems,
    }


def test_report_tells_the_jobs_of_many_windows_apart(world):
    watched = _flow(world)
    watched.add_inputs(*(f"f{number}" for number in range(MANY)))
    _by_service(watched)

    _tool(watched, "--report", "report.html")

    counts = _jobs_of_report(watched.out / "report.html")
    assert counts == {"head": MANY, "left": MANY, "right": MANY}


def _jobs_of_report(path):
    """Return how many jobs of each rule a report counts, which all have a runtime."""
    text = path.read_text()
    rules = json.loads(_after("rules = ", text))
    counts = {name: rule["n_jobs"] for name, rule in rules.items()}
    runtimes = json.loads(_after("runtimes_spec = ", text))["data"]["values"]
    assert Counter(each["rule"] for each in runtimes) == counts
    assert all(0 <= each["runtime"] < DEADLINE_S for each in runtimes)
    return counts


def _after(words, text):
    start = text.index(words) + len(words)
    _, end = json.JSONDecoder().raw_decode(text, start)
    return text[start:end]


def test_zipped_report_has_a_page(made):
    _tool(made, "--report", "report.zip")

    with zipfile.ZipFile(made.out / "report.zip") as file:
        assert file.namelist() == ["report/report.html"]


@pytest.mark.parametrize("option", ["--rulegraph", "--dag", "--filegraph"])
def test_graph_is_that_of_the_tasks(made, option):
    said = _tool(made, option)

    graph = said[said.index("digraph") :]
    for task in ("head", "left", "right"):
        assert task in graph
    if option == "--rulegraph":
        names = dict(re.findall(r'(\d+)\[label = "(\w+)"', graph))
        edges = {(names[a], names[b]) for a, b in re.findall(r"(\d+) -> (\d+)", graph)}
        assert edges == {
            *(("head", "left"), ("head", "right")),
            *((task, "all") for task in ("head", "left", "right")),
        }


def test_list_has_the_tasks_and_what_they_say_of_themselves(made):
    said = _tool(made, "--list-rules")

    assert {"all", "head (Write a text in capitals.)", "left", "right"} <= {
        *said.splitlines()
    }


def test_archive_has_the_workflow_and_its_inputs(made):
    _tool(made, "--archive", "archive.tar.gz")

    with tarfile.open(made.out / "archive.tar.gz") as archive:
        names = archive.getnames()
    assert ".tigerflow/workflow/Snakefile" in names
    assert {f".tigerflow/input/{stem}.txt" for stem in STEMS} <= set(names)
