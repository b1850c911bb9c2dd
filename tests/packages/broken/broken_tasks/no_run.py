from tigerflow.tasks import LocalTask


class NoRun(LocalTask):
    pass
