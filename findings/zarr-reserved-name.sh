#!/usr/bin/env bash
# zarr 3.1.6 and duckdb 2.0.1 where a name was reserved by an empty file, as mkstemp does:
# zarr overwrites no file, not even with mode="w" or overwrite=True, but its ZipStore takes
# an empty file for a new store, also with mode="a"; duckdb refuses an empty file.
#
# Guess: overwrite=True overwrites; an empty file is a new database, as with SQLite.
# Seen: FileExistsError for each way to make a store in a directory; ZipStore "a" and "w"
# write to it; duckdb: "exists, but it is not a valid DuckDB database file".
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -qq zarr==3.1.6 duckdb==2.0.1
cd "$place"
"$place/venv/bin/python" - <<'CODE'
import os
import tempfile

import duckdb
import zarr

ARRAY = {"shape": (3,), "dtype": "i4"}


def reserved():
    descriptor, name = tempfile.mkstemp()
    os.close(descriptor)
    return name


for make in (
    lambda name: zarr.open(name, mode="w", **ARRAY),
    lambda name: zarr.open_group(name, mode="w"),
    lambda name: zarr.create_array(name, overwrite=True, **ARRAY),
):
    try:
        make(reserved())
    except FileExistsError as error:
        print(f"FileExistsError: {error.strerror}")
    else:
        raise SystemExit("CHANGED: zarr overwrites a file")
for mode in ("a", "w"):
    name = reserved()
    with zarr.storage.ZipStore(name, mode=mode) as store:
        zarr.create_array(store, **ARRAY)
    print(f"ZipStore {mode}: {os.path.getsize(name)} bytes")
    assert os.path.getsize(name)
try:
    duckdb.connect(reserved())
except duckdb.IOException as error:
    print(str(error).partition(" exists")[1:])
    assert "exists, but it is not a valid DuckDB database file" in str(error)
else:
    raise SystemExit("CHANGED: duckdb takes an empty file for a new database")
CODE
