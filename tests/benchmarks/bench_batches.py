"""Measure what `run_batch` brings with a small real model; print a Markdown table.

    python tests/benchmarks/bench_batches.py [--repeats N] [--files N]

The model is a forest of scikit-learn's, which is installed in a directory of its own.
It reads handwritten digits, one image a file; the data come with scikit-learn.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from flows import SNAKEMAKE
from runs import World
from tables import machine, print_table

PACKAGES = Path(tempfile.gettempdir()) / "tigerflow-bench-scikit-learn"

SIZES = (1, 8, 32)

#: Notes when its setup is done; what then happens is what is measured.
TASK = """
from pathlib import Path

from tigerflow.tasks import LocalTask


class Digits(LocalTask):
    @staticmethod
    def setup(context):
        import pickle

        here = Path(__file__).parent
        context.model = pickle.loads((here / "model").read_bytes())
        (here / "ready").touch()

    @staticmethod
    def run_batch(context, pairs):
        images = [list(map(float, source.read_text().split())) for source, _ in pairs]
        digits = context.model.predict(images)
        for (_, output), digit in zip(pairs, digits, strict=True):
            output.write_text(f"{digit}\\n")


Digits.cli()
"""

#: Trains the model, and writes so many images as texts of their 64 numbers.
PREPARE = """
import pickle, sys
from pathlib import Path
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier

root, count = Path(sys.argv[1]), int(sys.argv[2])
images, digits = load_digits(return_X_y=True)
model = RandomForestClassifier(200, random_state=0).fit(images, digits)
(root / "model").write_bytes(pickle.dumps(model))
(root / "in").mkdir()
for number in range(count):
    text = " ".join(map(str, images[number % len(images)]))
    (root / "in" / f"d{number:05}.txt").write_text(text)
"""


def main() -> None:
    """Run all measurements."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--files", type=int, default=500)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        prepare(Path(name), options.files)
        print(f"{machine()}\n")
        head = ("way", *(f"batch_size {size}" for size in SIZES), "gain")
        print_table(head, rows(Path(name), options.repeats))


def prepare(directory: Path, files: int) -> None:
    """Make the model and the files; install scikit-learn, unless it is there."""
    if not (PACKAGES / "sklearn").exists():
        words = ["-m", "pip", "install", "--quiet", "--target", str(PACKAGES)]
        subprocess.run([sys.executable, *words, "scikit-learn"], check=True)
    words = ["-c", PREPARE, str(directory), str(files)]
    environment = os.environ | {"PYTHONPATH": str(PACKAGES)}
    subprocess.run([sys.executable, *words], env=environment, check=True)


def rows(prepared: Path, repeats: int) -> Iterator[Sequence[str]]:
    """Measure each way with each size, in turn."""
    for way, start in WAYS.items():
        found: dict[int, list[float]] = {size: [] for size in SIZES}
        for size in SIZES * repeats:
            found[size].append(one_rate(start, prepared, size))
        rates = {size: statistics.median(each) for size, each in found.items()}
        shown = (f"{rate:.0f} files/s" for rate in rates.values())
        yield (way, *shown, f"{max(rates.values()) / rates[1]:.1f} x")


def one_rate(start: Callable[["Project"], None], prepared: Path, size: int) -> float:
    """Return files a second, from the end of setup to the last output."""
    with tempfile.TemporaryDirectory() as name:
        project = Project(Path(name), prepared, size)
        start(project)
        project.world.close()
        results = [path.stat().st_mtime for path in project.root.rglob("d*.out")]
        assert len(results) == sum(1 for _ in (project.root / "in").iterdir())
        return len(results) / (max(results) - (project.root / "ready").stat().st_mtime)


class Project:
    """Files, the task, and a pipeline of it."""

    def __init__(self, root: Path, prepared: Path, size: int) -> None:
        self.root = root
        self.size = size
        self.world = World(root)
        self.environment = self.world.environment(PYTHONPATH=str(PACKAGES))
        shutil.copytree(prepared, root, dirs_exist_ok=True)
        (root / "out").mkdir()
        (root / "digits.py").write_text(TASK)
        task = {
            "name": "digits",
            "kind": "local",
            "module": "digits.py",
            "input_ext": ".txt",
            "batch_size": size,
        }
        (root / "pipeline.yaml").write_text(json.dumps({"tasks": [task]}))

    def call(self, *words: str) -> None:
        """Run a command to its end."""
        with (self.root / "said.log").open("ab") as log:
            subprocess.run(
                words,
                cwd=self.root,
                env=self.environment,
                stdout=log,
                stderr=log,
                check=True,
            )


def alone(project: Project) -> None:
    """Run the task by itself."""
    places = ["--input-dir=in", "--input-ext=.txt", "--output-dir=out"]
    size = f"--batch-size={project.size}"
    words = [*places, "--output-ext=.out", "--once", size]
    project.call(sys.executable, "digits.py", *words)


def service(project: Project) -> None:
    """Run the pipeline's service."""
    words = ["watch", "--once", "pipeline.yaml", "in", "out"]
    project.call(sys.executable, "-m", "tigerflow", *words)


def snakemake(project: Project, *options: str) -> None:
    """Run the compiled workflow."""
    words = ["compile", "pipeline.yaml", "in", "out"]
    project.call(sys.executable, "-m", "tigerflow", *words)
    workflow = "out/.tigerflow/workflow"
    profile = ["--profile", f"{workflow}/profiles/local"]
    project.call(SNAKEMAKE, "-s", f"{workflow}/Snakefile", "-c2", *profile, *options)


WAYS = {
    "the task by itself": alone,
    "`tigerflow watch --once`": service,
    "`snakemake --executor tigerflow`": lambda b: snakemake(
        b, "--executor", "tigerflow"
    ),
    "`snakemake`, a client for each file": snakemake,
}


if __name__ == "__main__":
    main()
