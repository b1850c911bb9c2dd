"""Load word counts into a DuckDB file."""

from pathlib import Path
from typing import Annotated

import typer

from tigerflow.tasks import LocalTask
from tigerflow.utils import SetupContext


class Load(LocalTask):
    """Load the counts of one text into a table.

    DuckDB lets one process write at a time. A LocalTask has one worker, and that
    worker has the database open from `setup` to `teardown`.
    """

    class Params:
        database: Annotated[Path, typer.Option(help="DuckDB file; made when missing")]

    @staticmethod
    def setup(context: SetupContext) -> None:
        import duckdb

        context.connection = duckdb.connect(str(context.database))
        context.connection.execute(
            "CREATE TABLE IF NOT EXISTS counts (file TEXT, word TEXT, n INTEGER)",
        )
        print(f"Connected to {context.database}")

    @staticmethod
    def run(context: SetupContext, input_file: Path, output_file: Path) -> None:
        import json

        counts = json.loads(input_file.read_text(encoding="utf-8"))["counts"]
        rows = [(input_file.stem, word, n) for word, n in counts.items()]
        connection = context.connection
        # All or nothing, and a file that comes again replaces what it brought before.
        connection.execute("BEGIN")
        try:
            connection.execute("DELETE FROM counts WHERE file = ?", [input_file.stem])
            if rows:
                connection.executemany("INSERT INTO counts VALUES (?, ?, ?)", rows)
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise
        print(f"{input_file.stem}: {len(rows)} different words")

    @staticmethod
    def teardown(context: SetupContext) -> None:
        context.connection.close()
        print("Connection closed")


Load.cli()
