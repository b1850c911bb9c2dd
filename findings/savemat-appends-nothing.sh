#!/usr/bin/env bash
# scipy 1.17.1: savemat's `appendmat`, True by default, "to append the .mat extension to the
# end of the given filename, if not already present", appends it only when the name as it
# is cannot be opened. Programs that look for NAME.mat find nothing.
#
# Guess: savemat("run1", …) makes run1.mat.
# Seen: it makes run1, and whosmat("run1") reads that.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -qq scipy==1.17.1 numpy==2.3.5
mkdir "$place/data"
cd "$place/data"
"$place/venv/bin/python" - <<'CODE'
import os

from scipy.io import savemat, whosmat

savemat("run1", {"x": 1}, appendmat=True)
print(os.listdir(), whosmat("run1"))
assert os.listdir() == ["run1"]
CODE
