"""Who may read the params of a pipeline whose file is private."""

import os
import stat

import pytest
from runs import DEADLINE_S

pytestmark = pytest.mark.snakemake

SECRET = "SECRET42"

WORK = """
class Work(LocalTask):
    class Params:
        key: str
    def run(context, input_file, output_file):
        print("the key is", context.key)
        output_file.write_text("done")
"""


@pytest.fixture
def masked():
    """Set the umask, for this process and those that it starts."""
    before = os.umask(0o022)
    os.umask(before)
    yield os.umask
    os.umask(before)


def write(flow, mode):
    flow.add_module(WORK)
    flow.add_inputs("a")
    flow.write({"name": "work", "params": {"key": SECRET}})
    flow.pipeline.chmod(mode)


def mode_of(path):
    return stat.S_IMODE(path.stat().st_mode)


def modes(flow):
    """Return the mode of each file of ours that has the secret, by its name."""
    state = flow.out / ".tigerflow"
    files = [path for path in state.rglob("*") if path.is_file()]
    return {path.name: mode_of(path) for path in files if SECRET in path.read_text()}


@pytest.mark.parametrize(
    ("mode", "umask", "expected", "result"),
    [
        (0o600, 0o022, 0o600, 0o644),
        (0o600, 0o002, 0o600, 0o664),
        (0o640, 0o022, 0o640, 0o644),
        (0o440, 0o022, 0o640, 0o644),
        (0o644, 0o022, 0o644, 0o644),
        (0o644, 0o077, 0o600, 0o600),
        # A group works on in a directory that it shares.
        (0o664, 0o002, 0o664, 0o664),
    ],
)
def test_what_has_params_is_read_by_those_that_may_read_the_pipeline_file(
    flow, masked, mode, umask, expected, result
):
    masked(umask)
    write(flow, mode)

    assert flow.once() == 0, flow.said

    names = ("Snakefile", "journal.jsonl", "work.json", "work.log")
    assert modes(flow) == dict.fromkeys(names, expected)
    directory = expected | (expected & 0o444) >> 2
    assert mode_of(flow.out / ".tigerflow") == directory
    assert mode_of(flow.out / "work" / "a.out") == result


@pytest.mark.parametrize("executor", ["local", "tigerflow"])
def test_plain_snakemake_keeps_params_private(flow, masked, executor):
    masked(0o022)
    write(flow, 0o600)
    compiled = flow.command("compile", flow.pipeline, flow.inputs, flow.out)
    assert compiled.wait(DEADLINE_S) == 0, flow.said

    assert flow.snakemake("--executor", executor)[0] == 0

    names = ("Snakefile", "work.json", "work.log")
    assert modes(flow) == dict.fromkeys(names, 0o600)
    # What Snakemake notes has modes of its own.
    assert mode_of(flow.out / ".snakemake") == 0o700


def test_what_others_could_read_is_closed_when_the_pipeline_file_is(flow, masked):
    masked(0o022)
    write(flow, 0o644)
    assert flow.once() == 0, flow.said
    assert set(modes(flow).values()) == {0o644}
    flow.pipeline.chmod(0o600)

    assert flow.once() == 0, flow.said

    assert set(modes(flow).values()) == {0o600}
    assert mode_of(flow.out / ".snakemake") == 0o700


def test_a_workflow_that_is_compiled_elsewhere_is_as_private(flow, masked):
    masked(0o022)
    write(flow, 0o600)
    elsewhere = flow.root / "workflow"
    words = [flow.pipeline, flow.inputs, flow.out, "--to", elsewhere]

    assert flow.command("compile", *words).wait(DEADLINE_S) == 0, flow.said

    files = [path for path in elsewhere.rglob("*") if path.is_file()]
    assert {mode_of(path) for path in files} == {0o600}
