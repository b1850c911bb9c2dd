"""Count the vowels of a text."""

from letter_tasks import _base
from tigerflow.tasks import LocalTask


class Letters(LocalTask):
    class Params(_base.Params):
        pass

    setup = staticmethod(_base.load)
    run = staticmethod(_base.count)


if __name__ == "__main__":
    Letters.cli()
