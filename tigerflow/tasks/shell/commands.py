"""Check the commands that run before a worker, without starting a worker."""

import contextlib
import os
import re
import shlex
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tigerflow.tasks.shell.launch import bash, launch_environment

#: Seconds for all commands together, after which we assume that they hang.
TIMEOUT_S = 60

#: Commands that only change the shell in which they run, so that a check may run them.
_SHELL_ONLY = frozenset(
    {
        ".", ":", "[", "alias", "cd", "deactivate", "declare", "echo", "export",
        "hash", "ml", "module", "popd", "printf", "pushd", "pwd", "set", "shopt",
        "source", "test", "true", "type", "ulimit", "umask", "unalias", "unset"
    }
)  # fmt: skip

#: The same for commands with certain second words.
_SHELL_ONLY_WITH = {
    "conda": ("activate", "deactivate"),
    "mamba": ("activate", "deactivate"),
    "micromamba": ("activate", "deactivate"),
    "pyenv": ("activate", "deactivate", "shell"),
    "nvm": ("use",),
    "spack": ("load", "unload"),
}

_JOINED_BY = frozenset({";", "&&", "||"})

_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=.*", re.DOTALL)

#: Command substitutions that conda's documentation recommends.
_CONDA = re.compile(
    r"\$\((?:[\w./~-]*/)?(?:conda|mamba|micromamba) "
    r"(?:info --base|shell\.bash hook|shell hook [\w =-]*)\)"
)

# The start of a message of bash: its name, `-c`, and the line in our script.
_SPEAKER = re.compile(r"^.*?: line \d+: ", re.MULTILINE)


@dataclass(frozen=True)
class Look:
    """A command before a worker, and how to check it: its program is looked up."""

    command: str
    #: Whether it runs, too, since it changes nothing but the shell.
    is_run: bool
    #: A command that runs first, even if it fails, to provide the program.
    preparation: str = ""
    #: Another program that would do.
    alternative: str | None = None


@dataclass(frozen=True)
class Doubt:
    """A reason why a command before a worker may fail."""

    #: Index of its `Look`.
    index: int
    sentence: str
    #: Whether a worker on this machine is sure to have the same problem.
    is_certain: bool


def check_syntax(command: str) -> str:
    """Return a setup command as it is, if bash can parse it; nothing is executed.

    A command that is not complete, for example with an unclosed quote, would include
    the commands after it.

    Raises:
        ValueError: bash cannot parse it; the error has bash's message.
    """
    if "\0" in command:
        message = f"{command!r} has a null character, which no command can have"
        raise ValueError(message)
    # In braces, as in `setup_script`.
    words = bash(f"{{\n{command}\n}}", "-O", "extglob", "-n")
    environment = os.environ | {"LC_ALL": "C"}
    try:
        reader = subprocess.run(
            words, capture_output=True, env=environment, check=False
        )
    except OSError:
        # Without bash, there is no way to check it.
        return command
    if reader.returncode != 0:
        _, *reasons = _SPEAKER.split(reader.stderr.decode(errors="replace"))
        reason = reasons[0].strip() if reasons else "it is incomplete"
        message = f"bash cannot read {command!r}: {reason}"
        raise ValueError(message)
    return command


def look_at(command: str) -> Look:
    """Return how to check a setup command that `check_syntax` has accepted.

    It runs if it changes nothing but the shell itself: `module load`, `source`, `conda
    activate`, `export`. Any other command could do anything.
    """
    return Look(command, is_run=is_shell_only(command))


def find_doubts(looks: Sequence[Look], home: Path) -> list[Doubt]:
    """Return the commands that would fail on this machine, as far as we can know.

    The program of each command is looked up in a bash that has run the commands before
    it, if they may run. It starts in `home`.
    """
    with tempfile.TemporaryDirectory() as directory:
        notes = Path(directory)
        script = "\n".join(_script(looks, notes))
        (notes / "notes").touch()
        ending = _run(script, home)
        return list(_read(looks, notes, ending))


def _script(looks: Sequence[Look], notes: Path) -> Iterator[str]:
    file = shlex.quote(str(notes / "notes"))
    for index, look in enumerate(looks):
        output = shlex.quote(str(notes / str(index)))
        run = ":"
        if look.is_run:
            report = f'echo "{index} failed $?" >>{file}'
            run = f"{{\n{look.command}\n}} >{output} 2>&1 || {report}"
        yield f"echo '{index} begun' >>{file}"
        if look.preparation:
            yield f"{{\n{look.preparation}\n}} >{output} 2>&1"
        missing = f"echo '{index} missing' >>{file}"
        found = " || ".join(f"type -- {word} >/dev/null 2>&1" for word in _words(look))
        yield f"if {found or 'true'}; then\n{run}\nelse {missing}; fi"
    yield f"echo 'end' >>{file}"


def _words(look: Look) -> list[str]:
    """Return the names of programs, of which one must exist, quoted for bash."""
    words = [_program(look.command), look.alternative]
    return [word for word in words if word is not None]


def _run(script: str, directory: Path) -> str:
    """Run a script in bash; return why it ended, for the case that it ended early."""
    process = subprocess.Popen(
        bash(script),
        cwd=directory,
        env=launch_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        return f"ends the shell (exit code {process.wait(TIMEOUT_S)})"
    except subprocess.TimeoutExpired:
        return f"takes longer than {TIMEOUT_S} seconds"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _read(looks: Sequence[Look], notes: Path, ending: str) -> Iterator[Doubt]:
    # After this command, the shell may differ from a worker's.
    last_known = next(
        (index for index, look in enumerate(looks) if not look.is_run), len(looks)
    )
    for index, what in _noted(notes, ending):
        is_certain = index <= last_known
        last_known = min(index, last_known)
        command = looks[index].command
        if what == "missing":
            unless = "" if is_certain else ", unless an earlier command provides it"
            sentence = f"{_first_word(command)!r} is not found{unless}"
        else:
            sentence = f"{command!r} {what}{_said(notes / str(index))}"
        yield Doubt(index, sentence, is_certain)


def _noted(notes: Path, ending: str) -> Iterator[tuple[int, str]]:
    """Yield what was noted about commands that are missing or fail."""
    *lines, last = (notes / "notes").read_text().splitlines() or ["end"]
    for line in lines:
        index, what, *code = line.split()
        if what == "missing":
            yield int(index), what
        elif what == "failed":
            yield int(index), f"fails with exit code {code[0]}"
    if last != "end":
        yield int(last.split()[0]), ending


def _said(output: Path) -> str:
    try:
        lines = output.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f": {_SPEAKER.sub('', last)}" if last else ""


def is_shell_only(command: str) -> bool:
    """Tell whether a command changes nothing but the shell that runs it."""
    command = _CONDA.sub("CONDA", command)
    simple = _simple_commands(command)
    return simple is not None and all(map(_is_harmless, simple))


def _is_harmless(words: Sequence[str]) -> bool:
    match words:
        case []:
            return True
        case ["eval", "CONDA"]:
            return True
        case [name, second, *_] if second in _SHELL_ONLY_WITH.get(name, ()):
            return True
        case _:
            return words[0] in _SHELL_ONLY


def _simple_commands(command: str) -> list[list[str]] | None:
    """Return the words of each simple command, without assignments.

    None if the command has anything else, such as a pipe.
    """
    if "\n" in command:
        # A line break separates commands, but the lexer treats it as a space.
        return None
    simple: list[list[str]] = [[]]
    for token in _tokens(command) or ["&"]:
        if token in _JOINED_BY:
            simple.append([])
        elif not token.strip("();<>|&") or "`" in token or "$(" in token:
            return None
        elif simple[-1] or not _ASSIGNMENT.fullmatch(token):
            simple[-1].append(token)
    return simple


def _tokens(command: str) -> list[str]:
    """Return words and the operators between them; nothing if bash's rules differ."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    lexer.commenters = ""
    try:
        tokens = list(lexer)
    except ValueError:
        return []
    is_comment = [token.startswith("#") for token in tokens]
    return tokens[: is_comment.index(True)] if True in is_comment else tokens


def _first_word(command: str) -> str | None:
    """Return the first word of a command after assignments; None for an operator."""
    for token in _tokens(command):
        if not token.strip("();<>|&"):
            return None
        if not _ASSIGNMENT.fullmatch(token):
            return token
    return None


def _program(command: str) -> str | None:
    """Return the first word, quoted for bash; None if it has a substitution."""
    word = _first_word(command)
    if word is None or "$(" in word or "`" in word:
        return None
    home = "$HOME/" if word.startswith("~/") else ""
    word = word.removeprefix("~/") if home else word
    return '"' + home + re.sub(r'(["\\])', r"\\\1", word) + '"'
