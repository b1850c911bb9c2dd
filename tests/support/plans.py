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
