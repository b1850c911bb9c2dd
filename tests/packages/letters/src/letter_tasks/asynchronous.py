"""Count the vowels of many texts at once."""

from pathlib import Path

from letter_tasks import _base
from tigerflow.tasks import LocalAsyncTask
from tigerflow.utils import SetupContext


class Letters(LocalAsyncTask):
    class Params(_base.Params):
        pass

    @staticmethod
    async def setup(context: SetupContext) -> None:
        _base.load(context)

    @staticmethod
    async def run(context: SetupContext, input_file: Path, output_file: Path) -> None:
        _base.count(context, input_file, output_file)


if __name__ == "__main__":
    Letters.cli()
