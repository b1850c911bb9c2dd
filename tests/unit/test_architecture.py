"""The page for people who change the package names only what exists."""

import importlib
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "tigerflow"
DOCS = PACKAGE.parent / "docs"

_FLOORS = {p.stem for p in PACKAGE.iterdir() if p.suffix == ".py" or p.is_dir()}
_NAME = re.compile(r"`((?:[a-z_]+\.)+[A-Za-z_]\w*)(?:\(\))?`")


def _names(page):
    found = _NAME.findall((DOCS / page).read_text(encoding="utf-8"))
    # `workers.smk` is a file.
    names = [name for name in found if not name.endswith(".smk")]
    return [name for name in names if name.partition(".")[0] in _FLOORS]


def _resolve(name):
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        module = "tigerflow." + ".".join(parts[:count])
        try:
            found = importlib.import_module(module)
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            continue
        for attribute in parts[count:]:
            found = getattr(found, attribute)
        return found
    raise ModuleNotFoundError(name)


@pytest.mark.parametrize("page", ["architecture.md", "decisions.md"])
def test_every_name_on_the_page_exists(page):
    names = _names(page)
    assert names
    missing = []
    for name in names:
        try:
            _resolve(name)
        except (ModuleNotFoundError, AttributeError):
            missing.append(name)
    assert missing == []


def test_every_part_of_the_package_is_on_a_floor_of_the_page():
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    parts = {name for name in _FLOORS if not name.startswith(("_", "py"))}
    assert {part for part in parts if f"`{part}`" not in text} == set()
