"""A worker host that submits the workers of Slurm tasks as jobs.

    python -P -m tigerflow.engine.hosting LISTENER_DESCRIPTOR WORKFLOW_DIR PROFILE

Our executor starts it in the run directory, where clients would start
`tigerflow.workers.dispatch.host`. It ends in the same cases, after all its jobs.
"""

import asyncio
import sys
from pathlib import Path

from tigerflow.engine.forks import Forks
from tigerflow.engine.submission import Submitter
from tigerflow.errors import ExitCode
from tigerflow.workers.dispatch.host import inherited, serve


def main(descriptor: str, workflow_dir: str, profile: str) -> ExitCode:
    """Serve a listener; submit by the `profile` what the workflow has of workers."""
    run_dir = Path.cwd()
    with (
        inherited(descriptor) as listener,
        Forks(Path(f"{listener.getsockname()}.forks")) as forks,
    ):
        workflow = run_dir / workflow_dir
        submitter = Submitter(workflow, run_dir, forks, run_dir / profile)
        return asyncio.run(serve(listener, submitter.submit))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
