"""Command lines: of a task, in `task`, and `tigerflow` itself, in `root`.

Apart, so that a task starts without what only pipelines need.
"""
