"""`python -m tigerflow`."""

import sys
from pathlib import Path

from tigerflow import main

# Python searches the current directory first, where any file may be named as a module
# is; unless this package is there.
if not sys.flags.safe_path and sys.path[0] != str(Path(__file__).parents[1]):
    del sys.path[0]

main()
