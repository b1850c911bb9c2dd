"""What a task's `envmodules`, `conda` and `container` mean for its processes.

Snakemake's rules have them too. But a rule's job only hands a file to a worker, which
stays; so it is the worker that runs in the environment, whoever starts it.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from shlex import join, quote

#: A shell has the function only when it has read one of these.
_FIND_MODULE = """\
if ! type module >/dev/null 2>&1; then
    for init in "${MODULESHOME:-}/init/bash" /usr/share/modules/init/bash \\
        /usr/share/lmod/lmod/init/bash /etc/profile.d/modules.sh /etc/profile.d/lmod.sh
    do
        if [ -r "$init" ]; then . "$init"; break; fi
    done
fi"""

# Its function `conda` is what can change the environment of a shell.
_FIND_CONDA = 'eval "$("${CONDA_EXE:-conda}" shell.bash hook)"'

_ENTER = (
    'exec "$(command -v apptainer || command -v singularity || echo apptainer)" "$@"'
)


def load_modules(names: Sequence[str]) -> list[str]:
    """Return the commands that load these environment modules and no others."""
    if not names:
        return []
    return [_FIND_MODULE, f"module purge && module load {join(names)}"]


def activate_conda(environment: str | None) -> list[str]:
    """Return the commands that activate a conda environment, by name or directory."""
    if environment is None:
        return []
    return [_FIND_CONDA, f"conda activate {quote(environment)}"]


def container_options(
    image: str | None, directories: Iterable[Path], *, has_gpus: bool
) -> list[str]:
    """Return the words of `apptainer exec` before a command; none without an image."""
    if image is None:
        return []
    binds = [word for each in directories for word in ("--bind", str(each))]
    return [*binds, *(["--nv"] if has_gpus else []), image]


def in_container(
    options: Sequence[str], program: Sequence[str], run_dir: Path
) -> list[str]:
    """Return the command that runs a program in a container; as it is without one.

    The executable is looked for when setup commands have run: one may be a module.
    """
    if not options:
        return list(program)
    words = ["exec", "--pwd", str(run_dir), *options, *program]
    return ["sh", "-c", _ENTER, "sh", *words]
