"""Which setup commands a check may run."""

import pytest

from tigerflow.tasks.commands import is_shell_only


@pytest.mark.parametrize(
    "command",
    [
        "module purge",
        "module purge && module load x; conda activate y",
        "source x || true",
        ". ~/venv/bin/activate  # ours",
        "X=1 Y='a b'",
        "FOO=1 module load x",
        'export PATH="$HOME/bin:$PATH"',
        "export X='a;b|c'",
        'eval "$(conda shell.bash hook)"',
        'eval "$(/opt/bin/micromamba shell hook --shell=bash)"',
        "source $(conda info --base)/etc/profile.d/conda.sh",
        "spack load gcc",
    ],
)
def test_what_changes_only_the_shell_may_be_run(command):
    assert is_shell_only(command)


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf x",
        "conda install x",
        "conda",
        "eval x",
        "eval CONDA x",
        "source x && rm y",
        "source x;rm y",
        "source x\nrm y",
        "source x & rm y",
        "source x&rm y",
        "source x | rm y",
        "source <(rm y)",
        "source x > y",
        "source `rm y`",
        "source $(rm y)",
        'export X="$(rm y)"',
        "X=${Y:-$(rm y)}",
        "X=`rm y`",
        'eval "$(conda shell.bash hook; rm y)"',
        "source $(conda info --base; rm y)",
        "eval rm y; echo $(conda info --base)",
        "(cd x)",
        "{ cd x; }",
        "! cd x",
        "if true; then cd x; fi",
        "FOO=1 rm x",
        "/bin/source x",
        "echo 'open",
    ],
)
def test_what_might_do_more_is_not_run(command):
    assert not is_shell_only(command)
