import sys
import textwrap
import uuid
from pathlib import Path

import pytest

from tigerflow.errors import TaskDefinitionError, TaskLoadError
from tigerflow.library.echo import Echo
from tigerflow.tasks.base import check_definition
from tigerflow.tasks.loader import Reference, load_task

TASK = """
from tigerflow.tasks import LocalTask

class {name}(LocalTask):
    @staticmethod
    def run(context, input_file, output_file):
        pass
"""


@pytest.fixture(autouse=True)
def _forget_imports(monkeypatch):
    before = set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


@pytest.fixture
def write(weird_tmp_path):
    """Write a module under a name of its own, and return its path."""

    def write(*parts, name=None):
        path = weird_tmp_path / (name or f"task_{uuid.uuid4().hex}.py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(textwrap.dedent(part) for part in parts))
        return path

    return write


def load(path, suffix=""):
    return load_task(Reference.parse(f"{path.name}{suffix}", path.parent), path.parent)


def failure(path, suffix=""):
    with pytest.raises(TaskLoadError) as error:
        load(path, suffix)
    return str(error.value)


@pytest.mark.parametrize(
    "ending",
    [
        "",
        "Hello.cli()\n",
        "if __name__ == '__main__':\n    Hello.cli()\n",
    ],
    ids=["none", "bare", "guarded"],
)
def test_a_module_is_loaded_whatever_calls_cli_at_its_end(write, ending):
    path = write(TASK.format(name="Hello"), ending)

    assert load(path).__name__ == "Hello"


def test_a_module_that_is_loaded_twice_is_imported_once(write):
    path = write(TASK.format(name="Hello"))

    assert load(path) is load(path)


def test_two_modules_with_the_same_name_are_kept_apart(write):
    first = write(TASK.format(name="First"), name="a/same_name_task.py")
    second = write(TASK.format(name="Second"), name="b/same_name_task.py")

    assert load(first).__name__ == "First"
    assert load(second).__name__ == "Second"


@pytest.mark.parametrize("name", ["json.py", "my task-2.py", "class.py"])
def test_task_file_may_be_named_like_another_module_or_like_none(write, name):
    path = write(TASK.format(name="Hello"), name=name)

    assert load(path).__name__ == "Hello"
    assert sys.modules["json"].__name__ == "json"


def test_modules_in_the_directory_of_the_file_can_be_imported(write):
    helper = write("WORD = 'hello'\n")
    path = write(f"from {helper.stem} import WORD\n", TASK.format(name="Hello"))

    task = load(path)

    assert sys.modules[task.__module__].WORD == "hello"


def test_several_tasks_are_an_error_that_says_how_to_choose(write):
    path = write(TASK.format(name="First"), TASK.format(name="Second"))

    assert failure(path) == (
        f"{path.name} has several tasks (First, Second); "
        f"choose one, for example {path.name}:First"
    )


def test_the_named_one_of_several_tasks_is_loaded(write):
    path = write(TASK.format(name="First"), TASK.format(name="Second"))

    assert load(path, ":Second").__name__ == "Second"


def test_a_name_that_is_not_among_the_tasks_gets_the_nearest(write):
    path = write(TASK.format(name="First"), TASK.format(name="Second"))

    assert failure(path, ":Secnd") == (
        f"{path.name} has no task 'Secnd' (tasks: First, Second); "
        "did you mean 'Second'?"
    )


def test_imported_and_private_tasks_do_not_compete_with_the_own_one(write):
    base = write(TASK.format(name="Base"))
    path = write(
        f"from {base.stem} import Base\n",
        "from tigerflow.library.echo import Echo\n",
        TASK.format(name="_Private"),
        "class Own(Base):\n    pass\n",
    )

    assert load(path).__name__ == "Own"


def test_a_module_that_only_imports_a_task_leads_to_it(write):
    path = write("from tigerflow.library.echo import Echo\n")

    assert load(path) is Echo


def test_a_module_without_a_task_says_what_is_missing(write):
    path = write("x = 1\n")

    assert failure(path) == (
        f"{path.name} has no task; write a class that derives from LocalTask"
    )
    assert failure(path, ":x") == f"{path.name} has no task 'x' (tasks: none)"


@pytest.mark.parametrize("code", ["raise SystemExit(0)", "import sys; sys.exit('bye')"])
def test_a_module_that_exits_is_refused_with_a_fix(write, code):
    path = write(code)

    assert failure(path) == (
        f"{path.name} exits while it is imported; "
        "move the code that exits under: if __name__ == '__main__'"
    )


@pytest.mark.parametrize(
    ("code", "place", "reason"),
    [
        (
            "\nimport no_such_pkg",
            2,
            "ModuleNotFoundError: No module named 'no_such_pkg'",
        ),
        ("x = 1\n1 / 0", 2, "ZeroDivisionError: division by zero"),
        ("\n\ndef (:", 3, "SyntaxError: invalid syntax"),
        ("raise ValueError", 1, "ValueError"),
    ],
)
def test_a_module_that_fails_is_reported_with_line_and_reason(
    write,
    code,
    place,
    reason,
):
    path = write(code)

    assert failure(path) == f"cannot import {path.name}:{place}: {reason}"
    assert path.stem not in sys.modules


def test_the_line_is_that_of_the_module_not_of_what_it_calls(write):
    helper = write("def fail():\n    raise ValueError('deep')\n")
    path = write(f"import {helper.stem}\n\n{helper.stem}.fail()\n")

    assert failure(path) == f"cannot import {path.name}:3: ValueError: deep"


def test_a_file_with_relative_imports_says_why_it_cannot_be_imported(write):
    write("", name="pkg/__init__.py")
    path = write("from . import helper\n", name="pkg/relative_task.py")

    assert failure(path) == (
        "relative_task.py imports from its package ('from .… import …'); "
        f"write 'module: pkg.relative_task', and add {str(path.parents[1])!r} to "
        "PYTHONPATH"
    )
    with pytest.raises(TaskLoadError) as error:
        load_task(
            Reference.parse("pkg/relative_task.py", path.parents[1]), path.parents[1]
        )
    assert str(error.value) == (
        "relative_task.py imports from its package ('from .… import …'); "
        "write 'module: pkg.relative_task'"
    )


def test_a_relative_import_without_a_package_is_refused_with_a_fix(write):
    path = write("from .helper import x\n", name="alone_task.py")

    assert failure(path) == (
        "alone_task.py imports from its package ('from .… import …'), but is not in "
        "one; write 'from … import …' without the dot"
    )


@pytest.mark.parametrize(
    "ending",
    [
        "Second.cli()\n",
        "if __name__ == '__main__':\n    Second.cli()\n",
        "if '__main__' == __name__:\n    import sys\n    sys.exit(Second.cli())\n",
        "def main():\n    Second.cli()\n\nif __name__ == '__main__':\n    main()\n",
    ],
)
def test_of_several_tasks_the_one_that_the_program_runs_is_loaded(write, ending):
    path = write(TASK.format(name="First"), TASK.format(name="Second"), ending)

    assert load(path).__name__ == "Second"
    assert load(path, ":First").__name__ == "First"


def test_a_program_that_runs_several_tasks_says_not_which(write):
    ending = "First.cli()\nSecond.cli()\n"
    path = write(TASK.format(name="First"), TASK.format(name="Second"), ending)

    assert "choose one" in failure(path)


@pytest.mark.parametrize("line", ["import {0}", "from {0}.x import y"])
@pytest.mark.parametrize("is_package", [True, False])
def test_a_file_that_hides_the_package_it_imports_is_refused(
    write, tmp_path, line, is_package
):
    name = f"hidden_{uuid.uuid4().hex}"
    installed = tmp_path / "site"
    place = installed / name / "__init__.py" if is_package else installed / f"{name}.py"
    place.parent.mkdir(parents=True)
    place.touch()
    sys.path.append(str(installed))
    code = TASK.format(name="Hello").replace("pass", line.format(name))
    path = write(code, name=f"{name}.py")

    assert failure(path) == (
        f"{name}.py hides the module {name!r} that it imports in line 7; "
        "rename the file"
    )


@pytest.mark.parametrize("argument", ["", ", config", ", config=None"])
def test_methods_that_take_self_share_one_instance(write, argument):
    path = write(
        TASK.format(name="Base"),
        """
        class Hello(Base):
            def __init__(self{argument}):
                super().__init__()
                self.count = 0
            def setup(self, context):
                self.count += 1
            def run(self, context, input_file, output_file):
                self.count += 1
                return self.helper()
            def helper(self):
                return self.count
        """.replace("{argument}", argument),
    )
    task = load(path, ":Hello")

    check_definition(task)
    task.setup(None)

    assert [task.run(None, "a", "b"), task.run(None, "a", "b")] == [2, 3]


def test_methods_of_a_mixin_may_take_self(write):
    path = write(
        "from tigerflow.tasks import LocalTask\n",
        """
        class Mixin:
            def run(this, context, input_file, output_file):
                return this.word
        class Hello(Mixin, LocalTask):
            word = "hello"
        """,
    )
    task = load(path)

    check_definition(task)

    assert task.run(None, "a", "b") == "hello"


def test_a_class_without_an_instance_is_refused_with_a_fix(write):
    path = write(
        "from tigerflow.tasks import LocalTask\n",
        """
        class Hello(LocalTask):
            def __init__(self, config, model): ...
            def run(self, context, input_file, output_file): ...
        """,
    )

    with pytest.raises(TaskDefinitionError) as error:
        check_definition(load(path))
    assert str(error.value).startswith("Hello() cannot be created for methods")
    assert str(error.value).endswith("write @staticmethod above them")


def test_the_same_file_is_loaded_by_its_dotted_name(write, weird_tmp_path):
    package = f"pkg_{uuid.uuid4().hex}"
    write("", name=f"{package}/__init__.py")
    write("WORD = 1\n", name=f"{package}/helper.py")
    write(
        "from . import helper\n",
        TASK.format(name="Hello"),
        "Hello.cli()\n",
        name=f"{package}/hello.py",
    )

    for text in (f"{package}.hello", f"{package}.hello:Hello"):
        reference = Reference.parse(text, weird_tmp_path)
        assert load_task(reference, weird_tmp_path).__name__ == "Hello"


def test_ctrl_c_during_an_import_is_not_blamed_on_the_module(write):
    path = write("raise KeyboardInterrupt")

    with pytest.raises(KeyboardInterrupt):
        load(path)


def test_a_builtin_task_is_found_by_its_name(tmp_path):
    assert load_task(Reference.parse("echo", tmp_path), tmp_path) is Echo
    assert load_task(Reference.parse("echo:Echo", tmp_path), tmp_path) is Echo
    dotted = Reference.parse("tigerflow.library.echo:Echo", tmp_path)
    assert load_task(dotted, tmp_path) is Echo


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ecko", "there is no task and no module named 'ecko'; did you mean 'echo'?"),
        ("no.such.mod", "there is no task and no module named 'no.such.mod'"),
        ("gone.py", "there is no file '{directory}/gone.py'"),
        ("a/b", "'{directory}/a/b' is not a Python file; name a '.py' file"),
        (".py", "'{directory}/.py' is not a Python file; name a '.py' file"),
    ],
)
def test_a_reference_that_leads_nowhere_is_reported_with_its_place(
    tmp_path,
    text,
    message,
):
    with pytest.raises(TaskLoadError) as error:
        load_task(Reference.parse(text, tmp_path), tmp_path)

    assert str(error.value) == message.format(directory=tmp_path)


@pytest.mark.parametrize("text", ["", "..", "a..b", ".a"])
def test_malformed_reference_is_refused_with_a_sentence(tmp_path, text):
    with pytest.raises(TaskLoadError):
        load_task(Reference.parse(text, tmp_path), tmp_path)


@pytest.mark.parametrize(
    ("text", "path", "module", "class_name"),
    [
        ("a.py", "/base/a.py", None, None),
        ("a.py:B", "/base/a.py", None, "B"),
        ("/x/a.py", "/x/a.py", None, None),
        ("d:r/a.py", "/base/d:r/a.py", None, None),
        ("pkg.mod", None, "pkg.mod", None),
        ("pkg.mod:B", None, "pkg.mod", "B"),
        ("echo", None, "echo", None),
    ],
)
def test_a_reference_is_read_as_path_module_and_class(text, path, module, class_name):
    reference = Reference.parse(text, Path("/base"))

    assert reference.path == (Path(path) if path else None)
    assert (reference.module, reference.class_name) == (module, class_name)


def test_an_instance_that_counts_as_false_is_the_one_that_methods_get(write):
    path = write(
        TASK.format(name="Base"),
        """
        class Hello(Base):
            def __len__(self):
                return 0
            def run(self, context, input_file, output_file):
                return self
        """,
    )
    task = load(path, ":Hello")
    made = task()

    assert made.run(None, "a", "b") is made
