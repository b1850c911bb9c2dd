"""The environments of a pipeline's workers, for one run directory."""

import hashlib
import platform
from collections.abc import Iterator
from pathlib import Path
from shlex import join, quote

from tigerflow.errors import PipelineError
from tigerflow.pipeline.amounts import parse_gpus
from tigerflow.pipeline.schema import SlurmTaskSpec, TaskSpec
from tigerflow.pipeline.software import is_environment_file
from tigerflow.pipeline.spec import Pipeline, PipelineTask
from tigerflow.tasks.shell.environment import (
    activate_conda,
    container_options,
    load_modules,
)

#: Where Snakemake creates environments, below the run directory.
CONDA = Path(".snakemake") / "conda"

_PLATFORMS = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}


def setup_commands(spec: TaskSpec, run_dir: Path) -> list[str]:
    """Return the commands before a worker starts; the task's own commands come last."""
    return [
        *load_modules(spec.envmodules),
        *activate_conda(_environment(spec, run_dir)),
        *spec.setup_commands,
    ]


def container_words(task: PipelineTask, directories: list[Path]) -> list[str]:
    """Return options and image for `apptainer exec`; directories stay visible in it."""
    spec = task.spec
    has_gpus = False
    if isinstance(spec, SlurmTaskSpec):
        _, count = parse_gpus(spec.worker_resources.gpus or 0)
        has_gpus = count > 0
    return container_options(spec.container, directories, has_gpus=has_gpus)


def check_environments(
    pipeline: Pipeline, input_dir: Path, run_dir: Path, snakefile: Path
) -> None:
    """Check that the environments exist which only Snakemake can create.

    Raises:
        PipelineError: some are missing; it has a line for each, with the commands.
    """
    compiles = join(
        ["tigerflow", "compile", *map(str, (pipeline.path, input_dir, run_dir))]
    )
    missing = [
        f"{pipeline.path}: task {task.name!r}: no environment has been created from "
        f"{task.spec.conda!r} yet; run: {compiles}; then once: "
        f"snakemake -s {quote(str(snakefile))} --sdm conda --conda-create-envs-only"
        for task in pipeline.tasks
        if is_environment_file(task.spec.conda)
        and not _is_made(environment_prefix(Path(task.spec.conda), run_dir))
    ]
    if missing:
        raise PipelineError(missing)


def _environment(spec: TaskSpec, run_dir: Path) -> str | None:
    if spec.conda is not None and is_environment_file(spec.conda):
        return str(environment_prefix(Path(spec.conda), run_dir))
    return spec.conda


def environment_prefix(file: Path, run_dir: Path) -> Path:
    """Return where Snakemake creates the environment of a file, for a run directory.

    The name is a digest of the place and of the file's content, as in Snakemake.
    """
    place = run_dir / CONDA
    digest = hashlib.md5(str(place.resolve()).encode(), usedforsecurity=False)
    for part in _parts(file):
        if part.is_file():
            digest.update(part.read_bytes())
    return place / f"{digest.hexdigest()}_"


def _is_made(prefix: Path) -> bool:
    # Snakemake writes this mark last.
    return prefix.with_suffix(".env_setup_done").exists()


def _parts(file: Path) -> Iterator[Path]:
    yield file.with_suffix(".post-deploy.sh")
    machine = platform.machine()
    yield file.with_suffix(f".{_PLATFORMS.get(machine, machine)}.pin.txt")
    yield file
