"""The Tab key, in real shells with the completion that `--install-completion` installs.

Zsh, which not every machine has, must be there in CI only.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from runs import DEADLINE_S
from services import TREE
from terminals import terminal

PROGRAMS = Path(sys.executable).parent
PACKAGES = Path(__file__).parents[1] / "packages"
PROMPT = "ready> "
#: A plain terminal: no bell, no colours, all at once what may follow.
INPUTRC = """
set bell-style none
set enable-bracketed-paste off
set show-all-if-ambiguous on
set completion-query-items -1
set page-completions off
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A home directory in which bash has our completion."""
    home = tmp_path_factory.mktemp("home")
    (home / ".inputrc").write_text(INPUTRC)
    subprocess.run(
        # Not as the last word: bash would put itself out of the way.
        ["bash", "-c", "tigerflow --install-completion; exit"],
        env=_environment(home),
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=DEADLINE_S,
    )
    with (home / ".bashrc").open("a") as file:
        file.write(f"PS1='{PROMPT}'\n")
    return home


def _environment(home, **more):
    kept = {k: v for k, v in os.environ.items() if not k.startswith("TIGERFLOW_")}
    path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    own = {"HOME": str(home), "PATH": path, "TERM": "dumb"}
    return kept | own | {"PYTHONPATH": str(PACKAGES / "good")} | more


@pytest.fixture
def tab(home, tmp_path):
    """Type a line, press Tab; return the line then, and what is offered."""

    def press(typed, shows=""):
        words = ["bash", "--noprofile", "-i"]
        how = {"env": _environment(home), "columns": 200}
        with terminal(words, tmp_path, **how) as bash:
            bash.until_shown(PROMPT.strip())
            bash.press(f"{typed}\t".encode())
            bash.until_shown(shows)
            # What it reads only when the Tab key is done with.
            bash.press(b"#end")
            *offered, line = bash.until_shown("#end")
        line = line.removeprefix(PROMPT).removesuffix("#end")
        return line, sorted(word for each in offered[1:] for word in each.split())

    return press


@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("tigerflow comp", "tigerflow compile "),
        ("tigerflow tasks in", "tigerflow tasks info "),
        ("tigerflow report --inc", "tigerflow report --include "),
        ("tigerflow tasks info ec", "tigerflow tasks info echo "),
        ("tigerflow report -i status,e", "tigerflow report -i status,errors "),
        # Paths: those of other options as the shell does.
        ("tigerflow run pi", "tigerflow run pipeline.yaml "),
        ("tigerflow compile ./su", "tigerflow compile ./sub/"),
        ("tigerflow watch sub/", "tigerflow watch sub/other.yml "),
        ("tigerflow run pipeline.yaml inp", "tigerflow run pipeline.yaml inputs/"),
        ("tigerflow run --workers-profile s", "tigerflow run --workers-profile sub/"),
        ("tigerflow run my", "tigerflow run my\\ own.yaml "),
        ("tigerflow run no-such", "tigerflow run no-such"),
    ],
)
def test_bash_completes(tab, tmp_path, typed, completed):
    for name in ("pipeline.yaml", "results.csv", "my own.yaml", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "inputs").mkdir()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "other.yml").touch()
    (tmp_path / "sub" / "tasks.py").touch()

    assert tab(typed)[0] == completed


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("tigerflow tasks ", ["info", "list"]),
        ("tigerflow tasks info ", ["echo", "shout", "shout-afar"]),
        ("tigerflow run ", ["deeper/", "one.yaml", "two.yml"]),
        ("tigerflow check ", ["deeper/", "one.yaml", "two.yml"]),
    ],
)
def test_bash_offers_possible_continuations(tab, tmp_path, typed, offered):
    for name in ("one.yaml", "two.yml", "notes.txt", ".hidden.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "deeper").mkdir()

    assert tab(typed, shows=offered[0])[1] == offered


@pytest.mark.snakemake
def test_bash_offers_failed_files_for_a_retry(tab, flow, tmp_path):
    flow.add_module(TREE)
    flow.write({"name": "head", "module": "tasks.py:Head"})
    flow.add_inputs("good", "bad")
    assert flow.once() == 1

    assert flow.root == tmp_path
    assert tab("tigerflow retry out ")[0] == "tigerflow retry out bad.txt "
    # Of no run, there is nothing to be offered; the shell has its files.
    assert tab("tigerflow retry in go")[0] == "tigerflow retry in go"


@pytest.fixture
def failed(flow, tmp_path):
    """Make a run in which files of these names have failed, below `tmp_path`."""

    def make(*names):
        flow.add_module(TREE)
        flow.write({"name": "head", "module": "tasks.py:Head"})
        for name in names:
            (flow.inputs / name).write_text("bad")
        assert flow.once() == 1
        assert flow.root == tmp_path

    return make


@pytest.mark.snakemake
def test_bash_offers_the_tasks_of_a_run(tab, failed):
    failed("bad.txt")

    line = "tigerflow retry out --task "
    assert tab(line)[0] == f"{line}head "
    assert tab("tigerflow retry in --task h")[0] == "tigerflow retry in --task h"


@pytest.mark.snakemake
@pytest.mark.parametrize(
    ("typed", "completed"),
    [
        ("it", "it\\'s\\ \\$\\(x\\)\\ \\*\\ \\\"\\&.txt "),
        ("'two", "'two words.txt' "),
        ('"two w', '"two words.txt" '),
        ("'it", "'it"),
    ],
)
def test_bash_quotes_the_names_of_failed_files(tab, failed, typed, completed):
    failed("it's $(x) * \"&.txt", "two words.txt")

    line = "tigerflow retry out "
    assert tab(f"{line}{typed}")[0] == f"{line}{completed}"


@pytest.fixture
def zsh():
    if (zsh := shutil.which("zsh")) is None:
        missing = "zsh is not installed"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(missing)
    return zsh


@pytest.fixture
def zsh_tab(zsh, tmp_path):
    """Type a line, press Tab, and wait until it is completed."""
    home = tmp_path / "home"
    (home / ".zsh").mkdir(parents=True)
    script = f"autoload -Uz compinit; compinit -u\nsource {home}/completion\n"
    (home / ".zshrc").write_text(f"unsetopt PROMPT_SP\n{script}PS1='{PROMPT}'\n")
    env = _environment(home)
    source = [zsh, "-fc", "tigerflow --show-completion > completion; exit"]
    subprocess.run(source, check=True, timeout=DEADLINE_S, env=env, cwd=home)

    def press(typed, completed, cwd=home):
        with terminal([zsh, "-i"], cwd, columns=200, env=env) as shell:
            shell.until_shown(PROMPT.strip())
            shell.press(f"{typed}\t".encode())
            shell.until_shown(completed)

    return press


def test_zsh_completes(zsh_tab, tmp_path):
    (tmp_path / "home" / "pipeline.yaml").touch()

    zsh_tab("tigerflow tasks info ec", "tigerflow tasks info echo")
    zsh_tab("tigerflow run pi", "tigerflow run pipeline.yaml")


@pytest.mark.snakemake
def test_zsh_quotes_the_names_of_failed_files(zsh_tab, failed, tmp_path):
    failed("two $(x) * &.txt")

    line = "tigerflow retry out "
    quoted = "two\\ \\$\\(x\\)\\ \\*\\ \\&.txt"
    zsh_tab(f"{line}tw", f"{line}{quoted}", cwd=tmp_path)
    zsh_tab("tigerflow retry out --task h", "retry out --task head", cwd=tmp_path)
