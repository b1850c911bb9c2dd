"""Plans for tests of what judges files by them."""

from tigerflow.rundir.plan import Plan, PlannedTask


def plan_of(*tasks):
    """Return a plan: (name, parent, keep_output) for each task."""
    return Plan(
        ".tar.gz",
        tuple(
            PlannedTask(name, parent, ".out", keep_output=keep)
            for name, parent, keep in tasks
        ),
    )


class Times:
    """Dates of results, by path."""

    def __init__(self, times):
        self.times = times

    def output(self, task, stem):
        return self.times.get(task.output(stem))

    def error(self, task, stem):
        return self.times.get(task.error(stem))
