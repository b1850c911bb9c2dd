#!/usr/bin/env bash
# pyshp 3.1.6 takes what follows the last dot of a name for an extension, and puts its own
# in place of it. So data sets that are named by date or version replace one another, and
# the name of a data set is not one that it can be read by.
#
# Guess: survey-2026.07.01 and survey-2026.07.02 are written beside each other.
# Seen: survey-2026.07.dbf, .shp and .shx, which hold the second; and
# Reader("survey-2026.07") looks for survey-2026.dbf.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -qq pyshp==3.1.6
mkdir "$place/data"
cd "$place/data"
"$place/venv/bin/python" - <<'CODE'
import os

import shapefile

for day in ("01", "02"):
    with shapefile.Writer(f"survey-2026.07.{day}") as survey:
        survey.field("day")
        survey.point(1, 1)
        survey.record(day)
names = sorted(os.listdir())
print(names)
assert names == [f"survey-2026.07.{suffix}" for suffix in ("dbf", "shp", "shx")]
with shapefile.Reader("survey-2026.07.01") as survey:
    print(survey.records())
    assert [record.day for record in survey.records()] == ["02"]
try:
    shapefile.Reader("survey-2026.07")
except shapefile.ShapefileException as error:
    print(error)
else:
    raise SystemExit("CHANGED: it reads what it has written")
CODE
