"""Run directories that look as if a service had worked in them for long; seeded."""

import heapq
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BEGAN = datetime(2026, 11, 22, 5, 0, tzinfo=UTC).timestamp()

_ERRORS = (
    ("ValueError", "no speech in the first {n} s", 6),
    ("TimeoutError", "run took longer than 30 s", 2),
    ("UnicodeDecodeError", "'utf-8' codec can't decode byte 0xff in position {n}", 1),
)


@dataclass(frozen=True)
class Past:
    """A task of a past run, and how it went."""

    name: str
    parent: str | None
    output_ext: str
    kind: str = "local"
    workers: int = 1
    #: Files in flight in each worker.
    limit: int = 1
    #: Of the logarithm of seconds.
    mean: float = -2.0
    spread: float = 0.8
    #: Of files that fail.
    failing: float = 0.002
    setup_s: float = 8.0

    @property
    def plan(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "depends_on": self.parent,
            "output_ext": self.output_ext,
            "keep_output": True,
        }


SPEECH = (
    Past("transcribe", None, ".txt", "slurm", workers=12, mean=0.6, setup_s=25),
    Past("embed", "transcribe", ".npy", "local_async", limit=16, mean=-1.0, spread=0.4),
    Past("language", "transcribe", ".json", workers=2, mean=-3.2, setup_s=1.5),
)


def write_run(
    out: Path, files: int, *, tasks: Sequence[Past] = SPEECH, seed: int = 7
) -> None:
    """Make a run directory with inputs, results, errors and a journal."""
    inputs = out.parent / f"{out.name} videos"
    state = out / ".tigerflow"
    for directory in (inputs, state, *(out / task.name for task in tasks)):
        directory.mkdir(parents=True, exist_ok=True)
    (state / "input").symlink_to(inputs)
    plan = {"input_ext": ".mp4", "tasks": [task.plan for task in tasks]}
    (state / "pipeline.json").write_text(json.dumps(plan))
    story = Story(files, tasks, random.Random(seed))
    for stem in story.stems:
        (inputs / f"{stem}.mp4").touch()
    with (state / "journal.jsonl").open("w") as journal:
        for at, event in sorted(story.events(), key=lambda pair: pair[0]):
            kind = event.pop("event")
            whole = {"event": kind, "at": _text(at)} | event
            journal.write(json.dumps(whole) + "\n")
    for task in tasks:
        for stem in story.done[task.name]:
            (out / task.name / f"{stem}{task.output_ext}").touch()
        for stem, error in story.errors[task.name].items():
            (out / task.name / f"{stem}.err").write_text(json.dumps(error))


class Story:
    """What happened in a run."""

    def __init__(
        self, files: int, tasks: Sequence[Past], chance: random.Random
    ) -> None:
        self.stems = [f"clip_{number:06}" for number in range(files)]
        self._tasks = tasks
        self._chance = chance
        self.done: dict[str, list[str]] = {task.name: [] for task in tasks}
        self.errors: dict[str, dict[str, Any]] = {task.name: {} for task in tasks}
        self._lives: list[tuple[float, dict[str, Any]]] = []

    def events(self) -> Iterator[tuple[float, dict[str, Any]]]:
        """Yield (time, event), in no order; then, `done` and `errors` are known."""
        yield BEGAN, self._start
        known: dict[str | None, dict[str, float]] = {None: {}}
        for first in range(0, len(self.stems), 100):
            batch = self.stems[first : first + 100]
            # Two thirds are there at the start; others come in waves.
            wave = max(0, first - 2 * len(self.stems) // 3) // 2000
            at = BEGAN + 0.3 + first * 1e-4 + wave * 900
            names = [f"{stem}.mp4" for stem in batch]
            signatures = [[1000, 1] for _ in names]
            yield at, {"event": "staged", "files": names, "signatures": signatures}
            known[None] |= dict.fromkeys(batch, at)
        last: dict[str, float] = {}
        for task in self._tasks:
            ended: dict[str, float] = {}
            known[task.name] = ended
            for at, event in self._run(task, known[task.parent], ended):
                last[event["file"]] = max(last.get(event["file"], 0), at)
                yield at, event
            yield from self._lives
            self._lives.clear()
        failed = set().union(*self.errors.values())
        for stem, at in last.items():
            kind = "file_failed" if stem in failed else "file_done"
            fields = {"file": f"{stem}.mp4", "size": 1000, "mtime_ns": 1}
            yield at + 0.01, {"event": kind} | fields
        end = max(last.values(), default=BEGAN) + 2
        yield end, {"event": "run_stopped", "reason": "stopped"}

    @property
    def _start(self) -> dict[str, Any]:
        tasks = self._tasks
        return {
            "event": "run_started",
            "pid": 4711,
            "host": "login2",
            "version": "0.3.2",
            "python": "3.11.7",
            "snakemake": "9.27.0",
            "tasks": {task.name: task.parent for task in tasks},
            "versions": {task.name: f"{i:016x}" for i, task in enumerate(tasks)},
            "kinds": {task.name: task.kind for task in tasks},
            "modules": {task.name: f"/home/ada/{task.name}.py:Task" for task in tasks},
            "params": {
                task.name: {"model": "medium", "beam-size": "5", "api_key": "s3cret"}
                for task in tasks
            },
        }

    def _run(
        self, task: Past, ready: dict[str, float], ended: dict[str, float]
    ) -> Iterator[tuple[float, dict[str, Any]]]:
        """Yield the tries of a task; files come when their time in `ready` has come."""
        order = sorted(ready.items(), key=lambda pair: (pair[1], pair[0]))
        if not order:
            return
        free = []
        for number in range(1, task.workers + 1):
            free += self._launch(task, number, order[0][1])
        heapq.heapify(free)
        last = 0.0
        for stem, at in order:
            free_from, worker, slot = heapq.heappop(free)
            began = max(free_from, at) + 0.002
            took = self._chance.lognormvariate(task.mean, task.spread)
            if self._chance.random() < 0.001:
                took *= 20
            end = began + took
            last = max(last, end)
            heapq.heappush(free, (end, worker, slot))
            is_failed = self._chance.random() < task.failing
            if is_failed:
                self._fail(task, stem, end)
            else:
                self.done[task.name].append(stem)
                ended[stem] = end
            yield (
                end,
                {
                    "event": "task_failed" if is_failed else "task_done",
                    "task": task.name,
                    "file": stem,
                    "started": _text(began),
                    "seconds": round(took, 4),
                    "worker": worker,
                },
            )
        for number in range(1, task.workers + 1):
            self._tell(task, number, last + 1, "ended", "ended with exit code 0")

    def _launch(
        self, task: Past, number: int, at: float
    ) -> list[tuple[float, int, int]]:
        self._tell(task, number, at, "launched")
        if task.kind == "slurm":
            at += self._chance.uniform(5, 400)
            self._tell(task, number, at, "started", f"node{number:02}")
        at += task.setup_s * self._chance.uniform(0.8, 1.3)
        self._tell(task, number, at, "ready")
        return [(at, number, slot) for slot in range(task.limit)]

    def _tell(
        self, task: Past, number: int, at: float, state: str, note: str = ""
    ) -> None:
        fields = {"task": task.name, "worker": number, "state": state, "note": note}
        self._lives.append((at, {"event": "worker"} | fields))

    def _fail(self, task: Past, stem: str, at: float) -> None:
        kinds = [each[:2] for each in _ERRORS for _ in range(each[2])]
        kind, text = self._chance.choice(kinds)
        message = text.format(n=self._chance.randrange(1, 60))
        self.errors[task.name][stem] = {
            "file": stem,
            "timestamp": _text(at),
            "exception_type": kind,
            "message": message,
            "traceback": "Traceback (most recent call last):\n"
            f'  File "/home/ada/{task.name}.py", line 31, in run\n'
            "    segments = model.transcribe(str(input_file))\n"
            f"{kind}: {message}\n",
        }


def _text(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
