"""Count the vowels of a text on a compute node."""

from letter_tasks import _base
from tigerflow.tasks import SlurmTask


class Letters(SlurmTask):
    class Params(_base.Params):
        pass

    setup = staticmethod(_base.load)
    run = staticmethod(_base.count)


if __name__ == "__main__":
    Letters.cli()
