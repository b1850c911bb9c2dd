"""Rehearse the submission of workers: what would Slurm be asked, and what does it say?

Snakemake and its plugin do what they do for a run, in a directory that goes at the
end. Only `sbatch` is ours: it notes its words, has Slurm's own look at them with
`--test-only`, and refuses. So no job comes of it.
"""

import asyncio
import contextlib
import os
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tigerflow.compiler.workflow_directory import write_workers
from tigerflow.engine.forks import Forks
from tigerflow.engine.internals import check_snakemake
from tigerflow.engine.submission import SILENT, Submitter
from tigerflow.errors import RehearsalError
from tigerflow.pipeline.document import read_document
from tigerflow.pipeline.schema import SlurmTaskSpec
from tigerflow.pipeline.spec import Pipeline
from tigerflow.rundir.layout import RunLayout, mailboxes
from tigerflow.workers.client import runtime_directory
from tigerflow.workers.dispatch.scheduler import JobEvent, SubmitError

#: Ends with an error in any case. What it notes goes to files of the job's name, with
#: which the comment ends.
_SBATCH = """\
#!/bin/sh
PATH=$TIGERFLOW_REHEARSAL_PATH
for word in "$@"; do
    case $word in
    rule_* | *" rule_"*) job=$TIGERFLOW_REHEARSAL/${word##*_}; break ;;
    esac
done
printf '%s\\0' "$@" >"$job.words"
if ! command -v sbatch >/dev/null; then
    echo "there is no Slurm here" >&2
elif ! timeout 30 scontrol ping >/dev/null 2>&1; then
    echo "Slurm does not answer here" >&2
elif timeout 60 sbatch --test-only "$@"; then
    touch "$job.accepted"
else
    touch "$job.refused"
fi
exit 1
"""

#: What the plugin asks Slurm. If Slurm does not answer, the plugin gets nothing.
_QUESTIONS = ("sacct", "sacctmgr", "sinfo", "sshare")
_QUESTION = """\
#!/bin/sh
PATH=$TIGERFLOW_REHEARSAL_PATH
timeout 30 "${0##*/}" "$@" 2>/dev/null || true
"""

_SLURM = "slurm"

#: No job has this number. Slurm 26.05 writes a word too many: "at TIME a using".
_START = re.compile(
    r"^Job \d+ to start (at \S+(?: on cluster \S+)?)(?: a)?(?= using |$)"
)

#: What Snakemake says to find its job again; the rest is what the job is to get.
_SNAKEMAKES = frozenset({"--job-name", "--output", "-D"})
_SNAKEMAKES_ALONE = frozenset({"--parsable", "--export=ALL", "/dev/stdin"})


@dataclass(frozen=True)
class Rehearsal:
    """What would be submitted for one task, and what Slurm says of it."""

    #: That of sbatch, without the words by which Snakemake finds its job again; empty
    #: if the plugin would not come so far.
    command: str
    #: In Slurm's words, or the plugin's.
    verdict: str
    #: Whether the job would be taken; None where nobody can tell just now.
    is_accepted: bool | None


def rehearse(
    pipeline: Pipeline, profile: Path | None = None
) -> Mapping[str, Rehearsal]:
    """Return what comes of each Slurm task's submission, by the task's name.

    Args:
        pipeline: a valid pipeline.
        profile: a Snakemake profile in place of our own.

    Raises:
        UnsupportedSnakemakeError: Snakemake is too old or too new.
        RehearsalError: Snakemake itself failed.
        PipelineError: the profile is no YAML.
    """
    tasks = [t.name for t in pipeline.tasks if isinstance(t.spec, SlurmTaskSpec)]
    if not tasks:
        return {}
    check_snakemake()
    executors = _executors(profile) if profile else {_SLURM}
    if executors != {_SLURM}:
        # Another plugin than Slurm's would submit them for real.
        named = ", ".join(sorted(executors)) or "none"
        verdict = f"the executor of {str(profile)!r} is not slurm, but {named}"
        return dict.fromkeys(tasks, Rehearsal("", verdict, is_accepted=None))
    try:
        with (
            tempfile.TemporaryDirectory(prefix="check-", dir=runtime_directory()) as it,
            _stage(Path(it) / "stage"),
            Forks(Path(it) / "forks") as forks,
        ):
            workflow = write_workers(pipeline, Path(it))
            RunLayout(Path(it)).jobs_log.parent.mkdir(parents=True)
            submitter = Submitter(workflow, Path(it), forks, profile)
            return asyncio.run(_rehearse(submitter, tasks, Path(it)))
    except OSError as error:
        raise RehearsalError(str(error)) from error


def _executors(profile: Path) -> set[str]:
    """Return all that files of a profile say; Snakemake takes one of the files."""
    contents = [read_document(path).data for path in profile.glob("*.yaml")]
    return {
        str(data["executor"])
        for data in contents
        if isinstance(data, dict) and "executor" in data
    }


@contextlib.contextmanager
def _stage(directory: Path) -> Iterator[None]:
    """Have what this process starts find our sbatch first, and no other."""
    directory.mkdir()
    for name in ("sbatch", *_QUESTIONS):
        path = directory / name
        path.write_text(_SBATCH if name == "sbatch" else _QUESTION, encoding="ascii")
        path.chmod(0o700)
    before = dict(os.environ)
    real = os.environ.get("PATH", os.defpath)
    os.environ |= {
        "PATH": os.pathsep.join([str(directory), real]),
        "TIGERFLOW_REHEARSAL": str(directory),
        "TIGERFLOW_REHEARSAL_PATH": real,
    }
    # A shell would take it, which a site has exported, before any program.
    os.environ.pop("BASH_FUNC_sbatch%%", None)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


async def _rehearse(
    submitter: Submitter, tasks: Sequence[str], scratch: Path
) -> Mapping[str, Rehearsal]:
    names = {str(number): task for number, task in enumerate(tasks)}
    places = [mailboxes(task) / job for job, task in names.items()]
    try:
        submission = submitter.submit_at(places)
    except SubmitError as error:
        raise RehearsalError(str(error)) from error
    told: dict[str, JobEvent] = {}
    async for event in submission.events():
        if event.kind == "submitted":
            # Nothing that we know of does that.
            submission.cancel()
        told.setdefault(event.job, event)
    if missing := names.keys() - told.keys():
        said = told[""].text
        if said == SILENT:
            said = _last_line(RunLayout(scratch).jobs_log)
        raise RehearsalError(said or f"no word on {names[min(missing)]}")
    return {t: _result(scratch / "stage" / j, told[j]) for j, t in names.items()}


def _result(notes: Path, event: JobEvent) -> Rehearsal:
    words, accepted, refused = (
        notes.with_suffix(f".{what}") for what in ("words", "accepted", "refused")
    )
    if not words.exists():
        # The plugin has seen before what is wrong.
        return Rehearsal("", event.text, is_accepted=False)
    given = words.read_text(encoding="utf-8").split("\0")[:-1]
    is_known = (accepted.exists() or refused.exists()) and not event.is_outage
    return Rehearsal(
        shlex.join(["sbatch", *_options(given)]),
        plain_verdict(event.text),
        is_accepted=accepted.exists() if is_known else None,
    )


def plain_verdict(said: str) -> str:
    """Return what Slurm says of a job that it would take, as of one to come."""
    return _START.sub(r"it would start \1", said)


def _options(words: list[str]) -> Iterator[str]:
    each = iter(words)
    for word in each:
        if word in _SNAKEMAKES:
            next(each, None)
        elif word == "--comment":
            # Before Snakemake's is the user's.
            comment, _, _ = next(each, "").rpartition(" rule_")
            yield from ["--comment", comment] if comment else []
        elif word not in _SNAKEMAKES_ALONE:
            yield word


def _last_line(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
