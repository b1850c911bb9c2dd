"""What Snakemake has noted of outputs, read as it writes it: see the contract tests."""

import contextlib
import hashlib
import json
import os
from base64 import urlsafe_b64encode
from pathlib import Path

from tigerflow.rundir.signatures import Signature, signature_of

_METADATA = Path(".snakemake") / "metadata"

#: Snakemake notes no checksum of an input that is larger.
LARGEST_CHECKED = 1_000_000


def recorded_checksum(run_dir: Path, output: str, source: str) -> str | None:
    """Return the checksum of the input that an output was made from; None: unknown.

    Both paths are relative to `run_dir`, as the rules have them.
    """
    try:
        record = json.loads(_record_path(run_dir, output).read_bytes())
        return str(record["input_checksums"][source])
    except (OSError, ValueError, KeyError, TypeError):
        # There is none, or it is torn: Snakemake does not write it at once either.
        return None


def forget_record(run_dir: Path, output: str) -> None:
    """Remove what is noted of an output: Snakemake does not when it notes nothing new.

    With `--drop-metadata`, a checksum of an earlier content would stay.
    """
    with contextlib.suppress(OSError, ValueError):
        _record_path(run_dir, output).unlink()


def checksum_of(path: Path, signature: Signature) -> str | None:
    """Return a file's checksum in Snakemake's form.

    None when Snakemake would note none, or when it no longer has this signature.
    """
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size > LARGEST_CHECKED:
                return None
            digest = hashlib.file_digest(file, "sha256")
            if signature_of(os.fstat(file.fileno())) != signature:
                return None
    except OSError:
        return None
    return f"sha256:{digest.hexdigest()}"


def _record_path(run_dir: Path, output: str) -> Path:
    directory = run_dir / _METADATA
    longest = os.pathconf(directory, "PC_NAME_MAX") or 255
    name = urlsafe_b64encode(output.encode()).decode()
    step = longest - 1
    parts = [name[i : i + step] for i in range(0, len(name), step)]
    return directory.joinpath(*(f"@{part}" for part in parts[:-1]), parts[-1])
