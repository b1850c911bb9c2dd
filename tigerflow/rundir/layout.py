"""Every path below an output directory.

OUT/<task>/<stem><output_ext>       results
OUT/<task>/<stem>.err               errors
OUT/.tigerflow/input                link to the input directory
OUT/.tigerflow/workflow/            the compiled workflow
OUT/.tigerflow/pipeline.json        what the pipeline makes of each file; see `plan`
OUT/.tigerflow/tasks/<task>/        outputs with keep_output: false
OUT/.tigerflow/run.log              what the service logs
OUT/.tigerflow/running.json         which files its workers process just now; see `live`
OUT/.tigerflow/logs/<task>.log      what the task's workers print and log
OUT/.tigerflow/inputs<output_ext>.jsonl
                                    what a task by itself notes of its inputs
OUT/.tigerflow/mailboxes/<task>/<job>/<number>/
                                    messages between the service and a worker elsewhere
"""

from dataclasses import dataclass
from pathlib import Path

STATE = Path(".tigerflow")
INPUT_LINK = STATE / "input"
WORKFLOW = STATE / "workflow"
#: In a workflow: what submits workers as jobs, and the profile that says how.
WORKERS_SNAKEFILE, WORKERS_PROFILE = "workers.smk", "profiles/workers"
PLAN = STATE / "pipeline.json"
JOURNAL = STATE / "journal.jsonl"
RUN_LOG = STATE / "run.log"
RUNNING = STATE / "running.json"
#: Log of a worker host that clients start; see `client`.
HOST_LOG = STATE / "logs" / "host.log"
#: What the Snakemakes of a service say.
SNAKEMAKE_LOG = STATE / "logs" / "snakemake.log"
#: Of Snakemake, when that in the user's home cannot be used.
CACHE = STATE / "cache"

#: What workers in jobs, and those who give them files, talk through.
MAILBOXES = STATE / "mailboxes"
#: A number that grows for as long as the dispatcher of the mailboxes lives.
PULSE = MAILBOXES / "pulse"

#: What a mailbox has: messages to the worker, messages from it, what it prints.
MAILBOX_INBOX, MAILBOX_OUTBOX, MAILBOX_LOG = "inbox", "outbox", "log"
#: The worker's sign of life.
MAILBOX_PULSE = "pulse"
#: Empty but for blanks until its worker's process has ended; then its exit code, as of
#: `Popen`. Written over: a host may remember for a minute that there was no such file.
MAILBOX_EXIT = "exit"


def signatures_file(output_ext: str) -> Path:
    """Return what a task by itself notes of its inputs, below its output directory.

    Programs that share the directory differ in the extension of their outputs.
    """
    return STATE / f"inputs{output_ext}.jsonl"


@dataclass(frozen=True)
class RunLayout:
    """The paths of one run; relative ones hold inside its output directory."""

    output_dir: Path

    @property
    def input_link(self) -> Path:
        """The link to the input directory."""
        return self.output_dir / INPUT_LINK

    @property
    def workflow(self) -> Path:
        """Where the compiled workflow is, unless the user chose another place."""
        return self.output_dir / WORKFLOW

    @property
    def jobs_log(self) -> Path:
        """What is said at the submission of the workers' jobs, and of how they end."""
        return self.output_dir / STATE / "logs" / "jobs.log"

    def task_log(self, task: str) -> Path:
        """What the task's workers print and log."""
        return self.output_dir / STATE / "logs" / f"{task}.log"


def result_directory(task: str, *, keep_output: bool) -> Path:
    """Return where a task's outputs go, relative to the output directory."""
    return Path(task) if keep_output else STATE / "tasks" / task


def error_directory(task: str) -> Path:
    """Return where a task's `.err` files go, relative to the output directory.

    The same whether outputs are kept or not, so that errors are always found.
    """
    return Path(task)


def worker_file(task: str) -> Path:
    """Return the file with the description of a task, relative to the workflow."""
    return Path("tasks") / f"{task}.json"


def mailboxes(task: str) -> Path:
    """Return where the mailboxes of a task's workers are, relative to the output."""
    return MAILBOXES / task


def pulse_of(mailbox: Path) -> Path:
    """Return the file in which the dispatcher of a mailbox shows that it lives."""
    return mailbox.parents[2] / "pulse"


def exit_text(code: int | str) -> str:
    """Return what is in `MAILBOX_EXIT`, which always takes the same room."""
    return f"{code:>6}\n"


def job_end(job: str | Path) -> Path:
    """Return what a job of workers makes when it ends well."""
    return Path(job) / "ended"


def job_begun(job: str | Path) -> Path:
    """Return what a job of workers makes when it begins, which it may do once."""
    return Path(job) / "begun"


def job_number(job: str | Path) -> Path:
    """Return where the scheduler's number of a job of workers is."""
    return Path(job) / "number"
