"""Commands for the `envmodules`, `conda` and `container` of a task's processes.

Snakemake's rules have these directives, too. But a rule's job only hands a file to a
persistent worker, so the worker has to run in the environment, whoever starts it.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from shlex import join, quote

from tigerflow.tasks.shell.commands import Look

#: A shell has the function `module` only after it has read one of these files.
_FIND_MODULE = """\
if ! type module >/dev/null 2>&1; then
    for init in "${MODULESHOME:-}/init/bash" /usr/share/modules/init/bash \\
        /usr/share/lmod/lmod/init/bash /etc/profile.d/modules.sh /etc/profile.d/lmod.sh
    do
        if [ -r "$init" ]; then . "$init"; break; fi
    done
fi"""

# Only the shell function `conda` can change the environment of a shell.
_FIND_CONDA = 'eval "$("${CONDA_EXE:-conda}" shell.bash hook)"'

_CONTAINERS = ("apptainer", "singularity")

_ENTER = (
    f'exec "$(command -v {_CONTAINERS[0]} || command -v {_CONTAINERS[1]} '
    f'|| echo {_CONTAINERS[0]})" exec --pwd "$PWD" "$@"'
)


def load_modules(names: Sequence[str]) -> list[str]:
    """Return the commands that load exactly these environment modules."""
    if not names:
        return []
    return [_FIND_MODULE, _load(names)]


def activate_conda(environment: str | None) -> list[str]:
    """Return the commands that activate a conda environment, by name or directory."""
    if environment is None:
        return []
    return [_FIND_CONDA, _activate(environment)]


def look_at_modules(names: Sequence[str]) -> Look:
    """Return how to check that these environment modules can be loaded."""
    return Look(_load(names), is_run=True, preparation=_FIND_MODULE)


def look_at_conda(environment: str, *, is_made: bool) -> Look:
    """Return how to check that a conda environment can be activated.

    If it does not exist yet, only conda is looked up.
    """
    return Look(_activate(environment), is_run=is_made, preparation=_FIND_CONDA)


def look_at_container() -> Look:
    """Return how to check that there is a program that runs containers."""
    program, alternative = _CONTAINERS
    return Look(program, is_run=False, alternative=alternative)


def _load(names: Sequence[str]) -> str:
    return f"module purge && module load {join(names)}"


def _activate(environment: str) -> str:
    return f"conda activate {quote(environment)}"


def container_options(
    image: str | None, directories: Iterable[Path], *, has_gpus: bool
) -> list[str]:
    """Return arguments for `apptainer exec`; none if there is no image."""
    if image is None:
        return []
    binds = [word for each in directories for word in ("--bind", str(each))]
    return [*binds, *(["--nv"] if has_gpus else []), image]


def in_container(options: Sequence[str], program: Sequence[str]) -> list[str]:
    """Return the command that runs a program in a container, if there are options.

    It starts in the current directory, which setup commands may have changed. The
    executable is looked up after these, since an environment module may provide it.
    """
    if not options:
        return list(program)
    return ["sh", "-c", _ENTER, "sh", *options, *program]
