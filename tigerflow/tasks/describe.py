"""Describe a task as JSON: `python -m tigerflow.tasks.describe`, see `inquiry`.

In its own process, a module that crashes, exits, hangs, prints or hides another module
while it is imported harms no other. Standard input is one JSON object: `module` (as in
a pipeline file), `directory` (that of the pipeline file), `params` (null, or key ->
text, list of texts, or null). Standard output is one line: an object with the fields of
a `TaskDescription`, or with `error`, one sentence.
"""

import hashlib
import inspect
import json
import os
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tigerflow.errors import TigerflowError
from tigerflow.tasks import kinds
from tigerflow.tasks.base import Task, check_definition, has_method
from tigerflow.tasks.fields import FieldDescription, ParamText, describe_fields
from tigerflow.tasks.loader import Reference, load_task
from tigerflow.tasks.openings import relative_openings
from tigerflow.tasks.param_values import convert
from tigerflow.tasks.places import Places
from tigerflow.tasks.remarks import remarks

_KINDS = (kinds.LocalTask, kinds.LocalAsyncTask, kinds.SlurmTask)


@dataclass(frozen=True)
class TaskDescription:
    """A task class in words."""

    class_name: str
    kind: str
    #: Import path of the module, or the path of its file.
    module: str
    #: The class's docstring, or the module's, or nothing.
    doc: str
    #: The module's docstring.
    module_doc: str
    fields: tuple[FieldDescription, ...]
    #: A digest of the source files of the class and of its bases.
    code: str
    #: Mistakes in the given params, by key.
    param_mistakes: dict[str, str] = field(default_factory=dict)
    #: The most files in one call of `run_batch`; None if the class has no such method.
    batch_size: int | None = None
    #: Sentences about code that its author may want to change.
    remarks: list[str] = field(default_factory=list)
    #: Sentences about relative paths that it opens.
    openings: list[str] = field(default_factory=list)


def describe_task(
    reference: Reference,
    directory: Path,
    params: dict[str, ParamText] | None = None,
) -> TaskDescription:
    """Load a task and describe it; if `params` are given, check them.

    Raises:
        TigerflowError: the task cannot be loaded, or cannot run.
    """
    task = load_task(reference, directory)
    fields = task.fields()
    check_definition(task)
    mistakes: dict[str, str] = {}
    if params is not None:
        _, mistakes = convert(fields, params, Places(directory))
    module = sys.modules.get(task.__module__)
    file = Path(getattr(module, "__file__", None) or "-")
    return TaskDescription(
        class_name=task.__name__,
        kind=task.kind.value,
        module=task.__module__,
        doc=_docstring(task),
        module_doc=inspect.cleandoc((module and module.__doc__) or ""),
        fields=describe_fields(fields),
        code=_code_digest(task),
        param_mistakes=mistakes,
        batch_size=task.batch_size if has_method(task, "run_batch") else None,
        remarks=list(remarks(file)),
        openings=list(relative_openings(file, directory)),
    )


def _docstring(task: type[Task]) -> str:
    # Not inspect.getdoc, which returns the docstring of LocalTask if there is no other.
    return inspect.cleandoc(task.__dict__.get("__doc__") or "")


def _code_digest(task: type[Task]) -> str:
    """Return a digest of the files that define the class and its bases.

    Modules that these import are left out, since there is no natural end to that.
    """
    digest = hashlib.sha256()
    ours = (object, *_KINDS, *(base for kind in _KINDS for base in kind.__mro__))
    for each in task.__mro__:
        module = sys.modules.get(each.__module__)
        file = getattr(module, "__file__", None)
        if each not in ours and file is not None:
            digest.update(Path(file).read_bytes())
    return digest.hexdigest()


def main() -> None:
    """Read the request and answer it."""
    request = json.load(sys.stdin)
    # Prints of the user's module must not get into the answer.
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    directory = Path(request["directory"])
    reference = Reference.parse(request["module"], directory)
    result: dict[str, Any]
    try:
        result = asdict(describe_task(reference, directory, request["params"]))
    except TigerflowError as error:
        result = {"error": str(error)}
    json.dump(result, answer)
    answer.close()
    # Threads of the module must not keep the process alive.
    os._exit(0)


if __name__ == "__main__":
    main()
