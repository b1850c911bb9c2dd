"""Makes the installed Snakemake one that has other names for some of its internals.

`RENAMED` has the names, with commas between them. Each is renamed wherever Snakemake
and its plugins use it, so they work as before.
"""

import os
import re
import sys
from importlib.machinery import PathFinder, SourceFileLoader

_NAMES = os.environ.get("RENAMED", "").split(",")
# Not the `prepare` of Python's own class of that name.
_WORD = re.compile(rf"(?<!sorter\.)\b(?:{'|'.join(map(re.escape, _NAMES))})\b".encode())


class _Renaming(SourceFileLoader):
    def get_code(self, fullname):
        source = self.get_data(self.get_filename(fullname))
        return self.source_to_code(
            _WORD.sub(rb"\g<0>_in_another_version", source), self.path
        )


class _Finder:
    @staticmethod
    def find_spec(name, path=None, target=None):
        is_snakemakes = name.startswith("snakemake") and "tigerflow" not in name
        spec = PathFinder.find_spec(name, path, target) if is_snakemakes else None
        if spec is None or not isinstance(spec.loader, SourceFileLoader):
            return None
        if not _WORD.search(spec.loader.get_data(spec.origin)):
            return None
        spec.loader = _Renaming(name, spec.origin)
        return spec


if _NAMES != [""]:
    sys.meta_path.insert(0, _Finder)
