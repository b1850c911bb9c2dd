#!/usr/bin/env bash
# tifffile 2026.3.3 writes OME-TIFF only to a name that ends in .ome.tif or .ome.tiff. With
# any other, such as one to be renamed when the file is whole, the same call writes a format
# of its own, without a word; under the right name, the file is then no OME-TIFF.
#
# Guess: the metadata decides, or a warning says that axes need OME.
# Seen: scan.ome.tif: is_ome True; written as scan.ome.tif.part and renamed: is_ome False,
# is_shaped True.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -qq tifffile==2026.3.3 numpy==2.3.5
cd "$place"
"$place/venv/bin/python" -W error - <<'CODE'
import os

import numpy
import tifffile

planes = numpy.zeros((3, 16, 16), dtype="uint8")
for name in ("scan.ome.tif", "scan.ome.tif.part", ".scan.tif"):
    tifffile.imwrite(
        name, planes, photometric="minisblack", metadata={"axes": "CYX"}
    )
    os.rename(name, "renamed.ome.tif")
    with tifffile.TiffFile("renamed.ome.tif") as image:
        print(f"{name}: is_ome {image.is_ome}, is_shaped {image.is_shaped}")
        assert image.is_ome == (name == "scan.ome.tif")
        assert image.is_shaped != image.is_ome
CODE
