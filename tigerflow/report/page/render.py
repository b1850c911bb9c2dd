"""A run directory -> one HTML file that needs nothing else.

What the page shows is text from users: names, messages, tracebacks. The template
escapes all of it, and the page's policy forbids every script but its own, and the
network. For one journal and one state of the files, the page is always the same.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files

import jinja2
from markupsafe import Markup

from tigerflow.report.page import charts, sections, shown
from tigerflow.report.page.chronicle import Run, seconds_of
from tigerflow.report.page.failures import group_failures
from tigerflow.report.run_report import RunReport
from tigerflow.rundir.judgement import FileState
from tigerflow.rundir.plan import Plan

#: More kinds of failures are counted only.
GROUPS_SHOWN = 50


def render_page(report: RunReport, plan: Plan, runs: Sequence[Run]) -> str:
    """Return the page of a run directory."""
    style = _part("page.css")
    script = charts.javascript(_part("page.js"))
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True
    )
    environment.lstrip_blocks = True
    environment.filters |= {
        "count": shown.count,
        "percent": shown.percent,
        "took": shown.took,
        "moment": shown.moment,
        "when": _when,
        "rate": shown.rate,
        "plain": shown.plain,
        "name": shown.name,
        "chart": _embedded,
    }
    template = environment.from_string(_part("page.html"))
    return template.render(
        style=Markup(style),  # noqa: S704 -- ours
        script=Markup(script),  # noqa: S704 -- ours, and the library's
        policy=_policy(script),
        report=report,
        plan=plan,
        FileState=FileState,
        graph=sections.graph(report, plan, runs),
        groups=group_failures(report.tasks),
        groups_shown=GROUPS_SHOWN,
        facts=sections.facts(plan, runs),
        **sections.over_time(report, plan, runs),
    )


def _part(name: str) -> str:
    return (files("tigerflow.report.page") / name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """Return what the page may do: run its own script, and show what is in it."""
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        f"default-src 'none'; script-src 'sha256-{digest}'; "
        "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
    )


def _embedded(spec: charts.Spec) -> str:
    """Return JSON that cannot end the element that it stands in."""
    text = json.dumps(spec, separators=(",", ":"))
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Markup(safe)  # noqa: S704 -- no markup is left in it


def _when(text: str) -> str:
    """Return a time as others on the page; what is none, as it is."""
    at = seconds_of(text)
    return shown.plain(text) if at is None else f"{shown.moment(at)} UTC"
