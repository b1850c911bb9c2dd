"""What Snakemake says of mistakes in profiles of workers; no scheduler is needed."""

import pytest
from runs import DEADLINE_S
from services import Watched

pytestmark = pytest.mark.snakemake

TASK = {
    "name": "work",
    "kind": "slurm",
    "max_workers": 2,
    "worker_resources": {"cpus": 1, "memory": "1G", "time": "00:10:00"},
}

WORK = """
class Work(SlurmTask):
    def run(context, input_file, output_file):
        output_file.touch()
"""

MISTAKES = {
    "a resource that the task lacks": (
        """
executor: cluster-generic
cluster-generic-submit-cmd: "submit {resources.gpu}"
""",
        "AttributeError: 'ResourceList' object has no attribute 'gpu'",
    ),
    "a plugin that is missing": ("executor: nosuch\n", "invalid choice: 'nosuch'"),
    "a missing option of the plugin": (
        "executor: cluster-generic\n",
        "cluster-generic-submit-cmd",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_profile_mistake_is_reported_once_in_snakemakes_words(world, name):
    profile, sentence = MISTAKES[name]
    flow = Watched(world)
    flow.add_module(WORK)
    flow.write(TASK)
    flow.add_inputs("a")
    place = flow.root / "mistaken"
    place.mkdir()
    (place / "profile.yaml").write_text(f"{profile}jobs: 10\n")
    service = flow.watch("--once", "--workers-profile", str(place))
    assert service.wait(DEADLINE_S) == 1
    assert flow.said.count(sentence) == 1, flow.said
    assert "without reporting" not in flow.said
    assert flow.said.count("(see ") == 1
