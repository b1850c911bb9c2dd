"""What tests that play the workers of a pool have them do."""

import asyncio

from tigerflow.settings import Settings
from tigerflow.tasks.worker_task import WorkerTask

TASK = WorkerTask(
    name="work",
    module="tasks.py",
    directory="/",
    params={},
    setup_commands=[],
    output_ext=".out",
    workers=1,
    concurrency_limit=1,
    threads=1,
    remote=True,
)
SETTINGS = Settings(worker_wall_time_grace=10)


async def settle():
    """Let everything happen that can."""
    for _ in range(20):
        await asyncio.sleep(0)
