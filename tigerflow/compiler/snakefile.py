"""Rules -> the text of a Snakefile, as snakefmt would leave it. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tigerflow.compiler.rules import Rule, has_software
from tigerflow.naming import printable
from tigerflow.rundir.layout import INPUT_LINK, job_end, mailboxes

_WIDTH = 88


def render_snakefile(
    rules: tuple[Rule, ...],
    *,
    pipeline_name: str,
    input_ext: str,
    output_dir: str,
    workflow_dir: str,
) -> str:
    """Return the Snakefile; the same arguments give the same text.

    Args:
        rules: one for each task.
        pipeline_name: file name of the pipeline, for the comment at the top.
        input_ext: extension of the pipeline's input files.
        output_dir: absolute path of the run directory.
        workflow_dir: where the Snakefile is, as seen from the run directory.
    """
    parallel = sum(rule.limit for rule in rules if rule.threads == 0)
    helpers = [
        "find_stems",
        "limit_files",
        "refuse_beside_service",
        "run_command",
        "stop_workers",
    ]
    onstart = ["refuse_beside_service()"]
    if parallel:
        helpers.append("allow_local_jobs")
        onstart += [
            "# Jobs that only wait for a worker need no core, but they count as jobs.",
            f"allow_local_jobs(workflow, {parallel})",
        ]
    if any(map(has_software, rules)):
        helpers.append("keep_apart")
        onstart += [
            "# Workers load their task's software themselves, whatever --sdm says.",
            "keep_apart(workflow)",
        ]
    parts = [
        _origin(pipeline_name),
        _import("tigerflow.workflow", sorted(helpers)),
        f"workdir: {_text(output_dir)}\n\n\n",
        "# Hands one file to a worker of the task, and waits for the result.\n",
        f"RUN = run_command(workflow, {_text(workflow_dir)})\n\n",
        f"STEMS = find_stems({_text(str(INPUT_LINK))}, {_text(input_ext)})\n\n",
        _limits(rules),
        _block("wildcard_constraints:", ['stem="[^/]*",']),
        _local_rules(rules),
    ]
    parts += [
        _block("onstart:", onstart),
        _block("onsuccess:", ["stop_workers()"]),
        _block("onerror:", ["stop_workers()"]),
        _rule_all(rules),
        *map(_rule, rules),
    ]
    return "".join(parts).rstrip("\n") + "\n"


def _origin(pipeline_name: str) -> str:
    return (
        f"# Generated from {printable(pipeline_name)} by `tigerflow compile`.\n"
        "# Edit that file and compile again: changes made here are overwritten.\n"
    )


def render_workers(
    rules: tuple[Rule, ...], pipeline_name: str | None, output_dir: str
) -> str:
    """Return the Snakefile with which workers are submitted as jobs.

    Args:
        rules: one for each task.
        pipeline_name: file name of the pipeline; None for a task that runs by itself.
        output_dir: absolute path of the run directory.
    """
    origin = "# Written at each start of the task.\n"
    parts = [
        origin if pipeline_name is None else _origin(pipeline_name),
        "#\n",
        "# The jobs in which workers of Slurm tasks run. They are submitted while\n",
        "# files wait, and get files from the process that submitted them.\n",
        _import("tigerflow.workflow", ["workers_command"]),
        f"workdir: {_text(output_dir)}\n\n\n",
        "WORKERS = workers_command()\n\n\n",
        *(_worker_rule(rule) for rule in rules if rule.worker_job),
    ]
    return "".join(parts).rstrip("\n") + "\n"


def _worker_rule(rule: Rule) -> str:
    job = rule.worker_job
    assert job is not None  # noqa: S101 -- the caller has checked
    place = mailboxes(rule.task) / "{job}"
    resources = [f"{name}={_one_line(value)}" for name, value in job.resources.items()]
    lines = [
        f"rule {rule.name}:",
        *_docstring(rule.doc),
        *_directive("output", [_text(str(job_end(place)))]),
        f"    threads: {job.threads}",
        *_directive("resources", resources),
        "    shell:",
        # `exec`, since a shell would not pass on the scheduler's signals.
        f'        "exec {{WORKERS}} {mailboxes(rule.task)}/{{wildcards.job}}"',
    ]
    return "\n".join(lines) + "\n\n\n"


def _import(module: str, names: list[str]) -> str:
    line = f"from {module} import {', '.join(names)}"
    if len(line) > _WIDTH:
        listed = "".join(f"    {name},\n" for name in names)
        line = f"from {module} import (\n{listed})"
    return f"{line}\n\n\n"


def _limits(rules: Iterable[Rule]) -> str:
    lines = [f"    {name}={limit},\n" for name, limit in render_limits(rules).items()]
    return (
        "# The most files in flight, unless a profile or --resources sets a limit.\n"
        f"limit_files(\n    workflow,\n{''.join(lines)})\n\n\n"
    )


def render_limits(rules: Iterable[Rule]) -> Mapping[str, int]:
    """Return the limit of files in flight for each rule, as resources for a profile."""
    return {f"{rule.name}_files": rule.limit for rule in rules}


def _block(head: str, lines: Iterable[str]) -> str:
    return f"{head}\n" + "".join(f"    {line}\n" for line in lines) + "\n\n"


def _local_rules(rules: tuple[Rule, ...]) -> str:
    names = ["all", *(rule.name for rule in rules if rule.is_local)]
    return _block("localrules:", [f"{name}," for name in names])


def _rule_all(rules: tuple[Rule, ...]) -> str:
    targets = [
        f"        expand({_text(rule.output)}, stem=STEMS),"
        for rule in rules
        if rule.is_target
    ]
    return "rule all:\n    input:\n" + "\n".join(targets) + "\n\n\n"


def _rule(rule: Rule) -> str:
    output = _text(rule.output)
    lines = [
        f"rule {rule.name}:",
        *_docstring(rule.doc),
        *_directive("input", [_text(rule.input)]),
        *_directive("output", [f"temp({output})" if rule.is_temp else output]),
    ]
    lines += _software(rule)
    lines.append(f"    threads: {rule.threads}")
    resources = [f"{name}={_one_line(value)}" for name, value in rule.resources.items()]
    lines += _directive("resources", resources)
    if rule.params:
        # In one dictionary: Snakemake compares the values of params without their
        # names, and would see wildcards in text outside of a dictionary.
        lines += _directive("params", [f"task={_literal(dict(rule.params), 8, 6)}"])
    command = f'"{{RUN}} {rule.task} {{input:q}} {{output:q}}"'
    lines += ["    shell:", f"        {command}"]
    return "\n".join(lines) + "\n\n\n"


def _software(rule: Rule) -> Iterator[str]:
    for name, value in (("conda", rule.conda), ("container", rule.container)):
        if value is not None:
            yield f"    {name}:"
            yield f"        {_text(value)}"
    if rule.envmodules:
        yield from _directive("envmodules", map(_text, rule.envmodules))


def _directive(name: str, items: Iterable[str]) -> Iterator[str]:
    yield f"    {name}:"
    for item in items:
        yield f"        {item},"


def _docstring(doc: str) -> Iterator[str]:
    text = "".join(each if each.isprintable() else " " for each in doc)
    text = " ".join(text.split()).replace("\\", "\\\\").replace('"""', r"\"\"\"")
    if text:
        # A quote must not touch those around the text.
        before = " " if text.startswith('"') else ""
        after = " " if text.endswith('"') else ""
        yield f'    """{before}{text}{after}"""'


def _literal(value: Any, indent: int, used: int) -> str:
    """Return a Python literal: on one line if it fits, else with one item per line."""
    line = _one_line(value)
    if not isinstance(value, dict | list) or not value:
        return line
    if indent + used + len(line) + 1 <= _WIDTH:
        return line
    inner = " " * (indent + 4)
    if isinstance(value, dict):
        items = [
            f"{_text(key)}: {_literal(item, indent + 4, len(_text(key)) + 2)}"
            for key, item in value.items()
        ]
        opening, closing = "{", "}"
    else:
        items = [_literal(item, indent + 4, 0) for item in value]
        opening, closing = "[", "]"
    lines = "".join(f"{inner}{item},\n" for item in items)
    return f"{opening}\n{lines}{' ' * indent}{closing}"


def _one_line(value: Any) -> str:
    match value:
        case str():
            return _text(value)
        case dict():
            items = (f"{_text(key)}: {_one_line(item)}" for key, item in value.items())
            return "{" + ", ".join(items) + "}"
        case list():
            return "[" + ", ".join(map(_one_line, value)) + "]"
        case float() if value != value or value in {float("inf"), float("-inf")}:  # noqa: PLR0124 -- NaN
            return f'float("{value}")'
        case _:
            return repr(value)


def _text(value: str) -> str:
    """Return a string literal, with the quotes that need fewer escapes."""
    quote = "'" if value.count('"') > value.count("'") else '"'
    return f"{quote}{''.join(_escaped(each, quote) for each in value)}{quote}"


def _escaped(character: str, quote: str) -> str:
    if character in {"\\", quote}:
        return f"\\{character}"
    if character.isprintable():
        return character
    return character.encode("unicode_escape", "surrogatepass").decode("ascii")
