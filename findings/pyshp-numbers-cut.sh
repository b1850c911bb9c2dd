#!/usr/bin/env bash
# pyshp 3.1.6 cuts a number that is too long for its field at the right, without a warning:
# 1000 in a field of three digits is read back as 100. (For texts it warns.)
#
# Guess: an error, or stars, as other writers of this format put.
# Seen: 1000 -> 100, -1234 -> -12, with warnings as errors.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -qq pyshp==3.1.6
cd "$place"
"$place/venv/bin/python" -W error - <<'CODE'
import shapefile

numbers = [999, 1000, -1234]
with shapefile.Writer("counts") as counts:
    counts.field("count", "N", 3)
    for number in numbers:
        counts.point(1, 1)
        counts.record(number)
with shapefile.Reader("counts") as counts:
    read = [record["count"] for record in counts.records()]
print(*(f"{number} -> {back}" for number, back in zip(numbers, read)))
assert read == [999, 100, -12]
CODE
