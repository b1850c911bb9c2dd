"""Show what the words example has in its database: `python show.py words.duckdb`."""

import sys

import duckdb

with duckdb.connect(sys.argv[1], read_only=True) as connection:
    files, words = connection.execute(
        "SELECT count(DISTINCT file), sum(n) FROM counts",
    ).fetchone()
    print(f"{words} words of {files} files; the most frequent:")
    for word, n, in_files in connection.execute(
        "SELECT word, sum(n), count(*) FROM counts "
        "GROUP BY word ORDER BY 2 DESC, 1 LIMIT 5",
    ).fetchall():
        print(f"  {word:12} {n:4} times in {in_files} files")
