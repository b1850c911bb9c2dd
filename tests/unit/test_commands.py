"""Which setup commands a check may run, and how they run before a worker."""

import subprocess

import pytest

from tigerflow.tasks.shell.commands import is_shell_only
from tigerflow.tasks.shell.launch import setup_script


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
def test_commands_that_change_only_the_shell_may_run(command):
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
def test_commands_that_might_do_more_do_not_run(command):
    assert not is_shell_only(command)


def run_before_a_worker(*commands):
    words = setup_script(commands, ["echo", "worker"])
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr.splitlines()[-1:]


@pytest.mark.parametrize(
    ("commands", "named", "code"),
    [
        (["false"], "false", 1),
        (["exit 3"], "exit 3", 3),
        (["exit 0"], "exit 0", 0),
        (["set -u", "echo $no_such_variable"], "echo $no_such_variable", 127),
        (["true", "(exit 4)", "true"], "(exit 4)", 4),
        (["true\nexit 5"], "true …", 5),
    ],
)
def test_setup_command_that_fails_or_ends_the_shell_is_named(commands, named, code):
    sentence = f"setup command failed: {named} (exit code {code})"
    assert run_before_a_worker(*commands) == (code, "", [sentence])


def test_setup_commands_that_succeed_leave_no_trap_behind():
    commands = ["export A=1 # why", "set -eu", "test $A = 1"]
    assert run_before_a_worker(*commands) == (0, "worker\n", [])
