"""Software of tasks: a real `module`, and programs that stand for conda and apptainer.

Environment modules come from Debian, which has no conda and no apptainer. What stands
for conda knows the commands that TigerFlow and Snakemake give it; what stands for
apptainer shows a program only what an image has, and what is bound, by bubblewrap.
"""

import os
import shutil
import sys
from pathlib import Path
from platform import machine

import pytest

_ROOT = Path(__file__).parents[2]
#: What gives a bash the function `module`.
MODULE_SHELL = Path("/usr/share/modules/init/bash")

#: As conda calls it.
PLATFORM = {"x86_64": "linux-64"}.get(machine(), f"linux-{machine()}")

_CONDA = """\
#!/bin/bash
base={base}
echo "$*" >> "$base/calls"
case "$1 $2" in
"shell.bash hook")
    cat <<'HOOK'
conda() {{
    case "$1" in
    activate) . {base}/bin/activate "$2" ;;
    *) {base}/bin/conda "$@" ;;
    esac
}}
HOOK
    ;;
"info --json") echo '{{"conda_prefix": "{base}", "platform": "{platform}"}}' ;;
"--version ") echo "conda 25.1.0" ;;
"config --get") echo '{{"get": {{"channel_priority": "strict"}}}}' ;;
"env export") echo "name: $4" ;;
"env create" | "create --quiet")
    while [ "$1" != --file ]; do shift; done
    file=${{1#--file=}}; [ "$1" = --file ] && {{ file=$2; shift; }}
    while [ "$1" != --prefix ]; do shift; done
    make-environment "$2" "$(sed -n 's/^name: //p' "$file")"
    ;;
"clean -y") ;;
*) echo "conda: what is $*?" >&2; exit 2 ;;
esac
"""

_ACTIVATE = """\
_prefix=$1
case "$1" in */*) ;; *) _prefix={base}/envs/$1 ;; esac
if [ -r "$_prefix/name" ]; then
    export CONDA_PREFIX=$_prefix PATH=$_prefix/bin:$PATH
else
    echo "EnvironmentNameNotFound: Could not find conda environment: $1" >&2
    false
fi
"""

_MAKE_ENVIRONMENT = """\
#!/bin/sh
mkdir -p "$1/bin" "$1/conda-meta"
echo "$2" > "$1/name"
ln -s {python} "$1/bin/python"
"""

_APPTAINER = """\
#!/bin/bash
if [ "$1" = --version ]; then echo "apptainer version 1.3.0"; exit; fi
[ "$1" = exec ] || {{ echo "apptainer: what is $*?" >&2; exit 2; }}
shift
mounts=()
while :; do
    case "$1" in
    --pwd) directory=$2; shift 2 ;;
    --bind) mounts+=(--bind "$2" "$2"); shift 2 ;;
    --nv) export NV=1; shift ;;
    *) break ;;
    esac
done
image=$1
shift
export APPTAINER_CONTAINER=$image PATH=$image/bin:/usr/bin:/bin
exec bwrap --dev-bind / / --tmpfs {hidden} --ro-bind {root} {root} \\
    --ro-bind "$image" "$image" "${{mounts[@]}}" --chdir "$directory" "$@"
"""


class Software:
    """What a test has on its PATH and its MODULEPATH."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.base = directory / "conda"
        self._modules = directory / "modules"
        _write(
            self.base / "bin" / "conda",
            _CONDA.format(base=self.base, platform=PLATFORM),
        )
        _write(self.base / "bin" / "activate", _ACTIVATE.format(base=self.base))
        make = _MAKE_ENVIRONMENT.format(python=_python(directory))
        _write(self.base / "bin" / "make-environment", make)
        # Where the tests' files are.
        hidden = Path(*directory.resolve().parts[:2])
        text = _APPTAINER.format(hidden=hidden, root=_ROOT)
        _write(self.base / "bin" / "apptainer", text)
        self.add_image()

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables by which all that is found."""
        path = os.pathsep.join([str(self.base / "bin"), os.environ["PATH"]])
        return {"PATH": path, "MODULEPATH": str(self._modules)}

    @property
    def calls(self) -> list[str]:
        """What conda was called with."""
        return (self.base / "calls").read_text().splitlines()

    @property
    def image(self) -> Path:
        """An image, in which `python` has TigerFlow."""
        return self.directory / "image.sif"

    def add_image(self) -> None:
        (self.image / "bin").mkdir(parents=True)
        python = self.image / "bin" / "python"
        _write(python, f'#!/bin/sh\nexec {sys.executable} "$@"\n')

    def add_module(self, name: str, **variables: str) -> None:
        """Add an environment module that sets these."""
        lines = [f"setenv {key} {{{value}}}" for key, value in variables.items()]
        path = self._modules / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(["#%Module", *lines, ""]))

    def add_environment(self, name: str) -> Path:
        """Make a conda environment; return its directory."""
        prefix = self.base / "envs" / name
        (prefix / "bin").mkdir(parents=True)
        (prefix / "name").write_text(name)
        (prefix / "bin" / "python").symlink_to(_python(self.directory))
        return prefix


def what_is_missing() -> str | None:
    """Return a sentence on what a test of software needs that is not there."""
    if not MODULE_SHELL.exists() or shutil.which("bwrap") is None:
        return "no environment modules or bubblewrap: tests/system-packages.sh software"
    return None


def needed() -> None:
    """Skip the test where the software cannot be had; in CI fail."""
    if (missing := what_is_missing()) is not None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)


def _python(directory: Path) -> Path:
    """Return a `python` that a link may have another name for."""
    python = directory / "python"
    if not python.exists():
        _write(python, f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    return python


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
