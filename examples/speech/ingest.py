"""Collect the vectors of an embedding service in one DuckDB table."""

# Heavy packages are imported inside the methods, so that reading this module
# (for its options, or to compile a pipeline) needs none of them.

import json
from pathlib import Path
from typing import Annotated

import typer

from tigerflow.tasks import LocalTask
from tigerflow.utils import SetupContext


def read_embedding(path: Path) -> list[float]:
    """Return the one vector in an answer of the embedding service."""
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))
        (item,) = answer["data"]
        return [float(value) for value in item["embedding"]]
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{path.name} does not hold one embedding ({error!r})"
        raise ValueError(msg) from error


class Ingest(LocalTask):
    """Store one row per file; a local task, as DuckDB allows a single writer."""

    class Params:
        """Which database to fill, and how long its vectors are."""

        db_path: Annotated[
            Path,
            typer.Option(help="Path to the DuckDB database file"),
        ]
        dimension: Annotated[
            int,
            typer.Option(help="Numbers in one embedding (voyage-3.5: 1024)", min=1),
        ] = 64

    @staticmethod
    def setup(context: SetupContext) -> None:
        """Open the database, and create the file and its table if need be."""
        import duckdb

        context.conn = duckdb.connect(str(context.db_path))
        # A type takes no bound parameter; `int` makes sure that a number goes in.
        context.conn.execute(f"""
            CREATE TABLE IF NOT EXISTS embeddings (
                id VARCHAR PRIMARY KEY,
                embedding FLOAT[{int(context.dimension)}],
                created_at TIMESTAMP DEFAULT CURRENT_TIMESTAMP
            )
        """)

    @staticmethod
    def run(context: SetupContext, input_file: Path, output_file: Path) -> None:
        """Store the vector of one file; the row is what this task produces."""
        embedding = read_embedding(input_file)
        if len(embedding) != context.dimension:
            msg = (
                f"{input_file.name} holds {len(embedding)} numbers, but the table "
                f"takes {context.dimension}; set the `dimension` parameter"
            )
            raise ValueError(msg)

        # A file may come twice, e.g. after an interrupted run: REPLACE keeps one
        # row per file. The time is spelt out because a replaced row would keep
        # the time of its first version.
        context.conn.execute(
            "INSERT OR REPLACE INTO embeddings (id, embedding, created_at) "
            "VALUES (?, ?, CURRENT_TIMESTAMP)",
            [input_file.stem, embedding],
        )

    @staticmethod
    def teardown(context: SetupContext) -> None:
        """Close the database, which also folds its write-ahead log into the file."""
        context.conn.close()


Ingest.cli()
