"""Find the files that ship beside the package: `workflow/`, `profiles/`, `starter/`."""

from pathlib import Path

from tigerflow.errors import MissingAssetError


def asset(name: str) -> Path:
    """Return the path of a shipped file, such as `profiles/local/profile.yaml`.

    A checkout comes first: an editable install has no copy inside the package.

    Raises:
        MissingAssetError: the installation is incomplete.
    """
    package = Path(__file__).parent
    places = (package.parent, package / "_data")
    for place in places:
        if (place / name).is_file():
            return place / name
    raise MissingAssetError(name, places)
