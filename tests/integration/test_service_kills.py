"""A service that is killed at any moment, and started again."""

import json
import random

import pytest
from flows import HEAD, LEFT, RIGHT
from lives import END, START, Life
from services import TREE, Watched, kill

pytestmark = pytest.mark.snakemake

SEED = 20_240_229

#: Files that are in a worker at once: one in the head, one left, four right.
IN_FLIGHT = 6


def choose_moments(chooser):
    """Return 20 (effects of work, what is seen then, or None for that alone)."""
    work = [(chooser.randint(1, 60), None) for _ in range(10)]
    start = [(0, name) for name in chooser.sample([*START], 5)]
    end = [(chooser.randint(1, 30), name) for name in chooser.sample([*END], 5)]
    return chooser.sample(work + start + end, 20)


def live_until(life, effects, then):
    """Wait for what is to be seen before the kill."""
    if effects:
        life.until(lambda life: len(life.notes) >= effects, str(then))
        # Only a request to stop ends it before all is done.
        assert life.process.poll() is None, life.words
    if then in START:
        life.until(START[then], then)
        assert life.process.poll() is None, life.words
    elif then in END:
        life.process.terminate()
        life.until(END[then], then)


def contents(flow):
    """Return what is in each task's directory; of errors, what is always the same."""
    found = {}
    for path in flow.out.glob("[!.]*/*"):
        content = path.read_text()
        if path.suffix == ".err":
            content = json.loads(content) | {"timestamp": "then"}
        found[str(path.relative_to(flow.out))] = content
    return found


def test_service_killed_at_twenty_moments_ends_as_one_that_was_left_alone(world):
    moments = choose_moments(random.Random(SEED))
    stems = [f"f{number:03}" for number in range(498)]
    calm, flow = Watched(world, "calm"), Watched(world)
    flow.add_module(TREE)
    flow.write(HEAD, LEFT, RIGHT)
    flow.add_inputs("bad", "left", *stems)
    assert calm.once() == 1, calm.said
    flow.forget()
    for effects, then in moments:
        print(f"seed {SEED}: killed after {effects} runs, {then or 'at work'}")
        life = Life.start(flow, "--once")
        live_until(life, effects, then)
        kill(life.process.pid)
        life.process.wait()
    assert flow.once() == 1, flow.said
    flow.until_nothing_is_left()
    assert contents(flow) == contents(calm)
    # 500 in the head, 499 in two branches, less two that fail there.
    assert len(contents(flow)) == 500 + 499 + 499
    assert not [*(flow.out / ".snakemake" / "incomplete").glob("*")]
    assert "Traceback" not in flow.said + flow.worker_logs
    # Each kill repeats what was in flight, and nothing else.
    runs = [line for line in flow.noted() if "setup" not in line]
    runs = [line for line in runs if "teardown" not in line]
    assert len(runs) <= 500 + 2 * 499 + len(moments) * IN_FLIGHT
