"""What a task does with loguru is its own business, and changes nothing of our log."""

import pytest
from single_task import SYNC, task

#: As the documentation of loguru says.
SET_UP = """
import sys
from loguru import logger
logger.remove(0)
logger.add(sys.stderr, format="mine: {message}")
logger.add("mine.log", format="{message}")
"""
#: The same for the logger of task packages, and all that was there is removed.
SET_UP_PACKAGE = """
import sys
from tigerflow.logconfig import logger
logger.info("as it was")
logger.remove()
logger.add(sys.stderr, format="mine: {message}")
"""
SILENT = """
from loguru import logger
logger.remove()
"""
#: As if TigerFlow were not there: loguru writes to standard error.
PLAIN = """
from loguru import logger
"""
RUN = """
    class Work(LocalTask):
        def run(context, input_file, output_file):
            logger.info("a line of the task")
"""


def _task_lines(log: str) -> list[str]:
    return [line for line in log.splitlines() if line.endswith("a line of the task")]


SET_UPS = [
    (SET_UP, ["mine: a line of the task"]),
    (SET_UP_PACKAGE, ["mine: a line of the task"]),
    (SILENT, []),
]


@pytest.mark.parametrize(("code", "expected"), SET_UPS)
def test_worker_leaves_the_loggers_of_a_task_alone(world, code, expected):
    run = world.run()
    run.add_task(f"{code}\n{RUN}".replace("\n    ", "\n"))

    assert run.process("a") == (0, "")
    assert run.stop() == ""
    assert _task_lines(run.log()) == expected
    assert run.log().count(" | INFO     | Setting up task") == 1
    assert run.log().count(" | INFO     | Task shutdown complete") == 1
    assert run.log().count(" | INFO     | as it was") == ("as it was" in code)


def test_worker_prints_a_line_of_loguru_once(world):
    run = world.run()
    run.add_task(f"{PLAIN}\n{RUN}".replace("\n    ", "\n"))

    assert run.process("a") == (0, "")
    assert len(_task_lines(run.log())) == 1


@pytest.mark.parametrize(("code", "expected"), SET_UPS)
def test_command_of_a_task_leaves_its_loggers_alone(bench, code, expected):
    bench.give(a="", b="")
    module = code + task(SYNC, run="logger.info('a line of the task')")

    service = bench.once(module)

    assert service.end() == 0, service.log
    assert _task_lines(service.log) == 2 * expected
    assert [line for line in service.messages() if line != "INFO as it was"] == [
        "INFO Setting up task",
        "INFO Task setup complete",
        *("INFO Starting processing: a.txt", "INFO Successfully processed: a.txt"),
        *("INFO Starting processing: b.txt", "INFO Successfully processed: b.txt"),
        "INFO Shutting down task",
        "INFO Task shutdown complete",
    ]
    mine = bench.path / "mine.log"
    lines = mine.read_text().splitlines() if mine.exists() else []
    assert lines == (["a line of the task"] * 2 if code is SET_UP else [])
