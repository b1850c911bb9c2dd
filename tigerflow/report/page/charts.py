"""Draw the charts of a page as Vega-Lite, from counts made elsewhere.

A chart of the wrong shape is fixed here, a wrong count in `bins`, in `lanes` (workers)
or in `chronicle`. The only module that knows Altair, whose charts are checked against
Vega-Lite's schema when they are made, and vl-convert, which has the JavaScript that
draws them. Colours are those of the page's style sheet, so that charts follow it into
the dark.
"""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import vl_convert

from tigerflow.report.page.bins import DurationBin, Moment
from tigerflow.report.page.lanes import Lanes, WorkerState
from tigerflow.report.page.shown import NONE, percent, rate_unit, took

Spec = dict[str, Any]

_TIME_HEIGHT, _DURATION_HEIGHT, _LANE_HEIGHT = 160, 72, 14

_DONE, _FAILED = "done", "failed"
_FATES = alt.Scale(domain=[_DONE, _FAILED], range=["var(--done)", "var(--failed)"])
_STATES = alt.Scale(
    domain=[state.value for state in WorkerState],
    range=["var(--pending)", "var(--setup)", "var(--idle)", "var(--done)"],
)

#: Of a logarithmic axis of seconds.
_TICKS_S = [
    *(0.0001, 0.001, 0.01, 0.1, 1, 10),
    *(60, 600, 3600, 36_000, 86_400, 864_000),
]
_TICK_TEXT = (
    "datum.value < 1 ? format(datum.value * 1000, '~g') + ' ms'"
    " : datum.value < 60 ? datum.value + ' s'"
    " : datum.value < 3600 ? datum.value / 60 + ' min'"
    " : datum.value < 86400 ? datum.value / 3600 + ' h'"
    " : datum.value / 86400 + ' d'"
)

#: Of lanes: a long name of a task is cut, its worker's number is not.
_NUMBER = "lastindexof(datum.label, ' ')"
_LANE = (
    f"truncate(slice(datum.label, 0, {_NUMBER}), 14) + slice(datum.label, {_NUMBER})"
)

#: Up to how many seconds a time axis has labels of which form.
_TIME_FORMS = (
    (180, "%H:%M:%S"),
    (129_600, "%H:%M"),
    (864_000, "%d %b %H:%M"),
    (math.inf, "%d %b %Y"),
)

#: Of axes beside charts that stand below each other: as wide as each other.
_BESIDE: Spec = {"tickCount": 4, "minExtent": 42}

_CONFIG = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--quiet)",
        "titleColor": "var(--quiet)",
        "gridColor": "var(--line)",
        "domainColor": "var(--line)",
        "tickColor": "var(--line)",
        "labelFontSize": 11,
        "titleFontSize": 11,
        "titleFontWeight": "normal",
    },
    "legend": {
        "orient": "top",
        "title": None,
        "labelColor": "var(--quiet)",
        "labelFontSize": 11,
        "symbolType": "square",
        "offset": 4,
    },
}


#: Tooltips of a time in UTC.
_WHEN = tuple(
    alt.Tooltip(
        f"{title}:T", title=title, timeUnit="utcyearmonthdatehoursminutesseconds"
    )
    for title in ("from", "to")
)


def javascript(program: str) -> str:
    """Return a module of a program and the library that draws, `vegaEmbed` to it."""
    return vl_convert.javascript_bundle(program, vl_version=_vega_lite_version())


def throughput(moments: Sequence[Moment]) -> Spec:
    """Files that were done or failed, over time."""
    width_s = moments[0].end - moments[0].start
    most = max(moment.done + moment.failed for moment in moments)
    unit, seconds = rate_unit(most / width_s)
    scale = seconds / width_s
    values = []
    for moment in moments:
        place = {"from": _ms(moment.start), "to": _ms(moment.end)}
        base = 0.0
        for fate, number in ((_DONE, moment.done), (_FAILED, moment.failed)):
            if number:
                top = base + number * scale
                values.append(
                    place
                    | {"fate": fate, "low": _short(base), "high": _short(top)}
                    | {"files": number}
                )
                base = top
    chart = _chart(values).mark_bar()
    encoded = chart.encode(
        x=_time_axis("from:T", moments),
        x2="to:T",
        y=alt.Y("low:Q", title=f"files {unit}", axis=alt.Axis(**_BESIDE)),
        y2="high:Q",
        color=alt.Color("fate:N", scale=_FATES),
        tooltip=[*_WHEN, "fate:N", alt.Tooltip("files:Q", format=",")],
    )
    return _spec(encoded, _TIME_HEIGHT, "Files done and failed over time")


def queue_depth(moments: Sequence[Moment]) -> Spec:
    """Files that were staged and not yet done or failed, over time."""
    values = [
        {"from": _ms(m.start), "to": _ms(m.end), "low": 0, "files": m.depth}
        for m in moments
        if m.depth
    ]
    chart = _chart(values).mark_bar(color="var(--queue)")
    encoded = chart.encode(
        x=_time_axis("from:T", moments),
        x2="to:T",
        y=alt.Y("low:Q", title="files", axis=alt.Axis(**_BESIDE, tickMinStep=1)),
        y2="files:Q",
        tooltip=[*_WHEN, alt.Tooltip("files:Q", title="most files", format=",")],
    )
    return _spec(encoded, _TIME_HEIGHT, "Files in progress over time")


def durations(
    task: str, bins: Sequence[DurationBin], domain: tuple[float, float], median: float
) -> Spec:
    """How long a task's files took; `domain` is that of all tasks."""
    values = []
    for each in bins:
        place = {"from": each.least_s, "to": each.most_s}
        tip = f"{took(each.least_s)} to {took(each.most_s)}"
        base = 0
        for fate, number in ((_DONE, each.done), (_FAILED, each.failed)):
            if number:
                values.append(
                    place
                    | {"fate": fate, "low": base, "high": base + number}
                    | {"files": number, "time": tip}
                )
                base += number
    x = alt.X(
        "from:Q",
        title=None,
        scale=alt.Scale(type="log", domain=list(domain), nice=False),
        axis=alt.Axis(
            values=[tick for tick in _TICKS_S if domain[0] <= tick <= domain[1]],
            labelExpr=_TICK_TEXT,
        ),
    )
    bars = (
        _chart(values)
        .mark_bar()
        .encode(
            x=x,
            x2="to:Q",
            y=alt.Y("low:Q", title="files", axis=alt.Axis(tickCount=2, tickMinStep=1)),
            y2="high:Q",
            color=alt.Color("fate:N", scale=_FATES, legend=None),
            tooltip=["time:N", "fate:N", alt.Tooltip("files:Q", format=",")],
        )
    )
    rule = (
        _chart([{"median": median}])
        .mark_rule(color="var(--ink)", strokeDash=[3, 2])
        .encode(x=alt.X("median:Q"))
    )
    title = f"How long the files of {task} took, on a logarithmic scale"
    return _spec(alt.layer(bars, rule), _DURATION_HEIGHT, title)


def workers(lanes: Lanes, moments: Sequence[Moment]) -> Spec:
    """When each worker lived, and what it was about."""
    values = [
        {
            "lane": segment.lane,
            "state": segment.state.value,
            "from": _ms(segment.start),
            "to": _ms(segment.end),
            "strength": 0.25 + 0.75 * segment.share,
            "busy": percent(segment.share) if segment.state == "busy" else NONE,
            "host": segment.life.host,
        }
        for segment in lanes.segments
    ]
    chart = _chart(values).mark_rect()
    encoded = chart.encode(
        x=_time_axis("from:T", moments),
        x2="to:T",
        y=alt.Y(
            "lane:N",
            title=None,
            sort=list(lanes.names),
            scale=alt.Scale(domain=list(lanes.names), paddingInner=0.2),
            axis=alt.Axis(labelLimit=110, labelExpr=_LANE, domain=False, ticks=False),
        ),
        color=alt.Color("state:N", scale=_STATES),
        opacity=alt.Opacity("strength:Q", scale=None, legend=None),
        tooltip=["lane:N", "state:N", *_WHEN, "busy:N", "host:N"],
    )
    height = _LANE_HEIGHT * len(lanes.names)
    return _spec(encoded, height, "What each worker was about, over time")


def _chart(values: Sequence[Any]) -> alt.Chart:
    data: Any = alt.Data  # untyped, in Altair
    return alt.Chart(data(values=values))


def _spec(chart: Any, height: int, description: str) -> Spec:
    # Of one chart alone: as wide as the page, however wide that is.
    sized = chart.properties(
        width="container", height=height, description=description, config=_CONFIG
    )
    spec: Spec = sized.to_dict()
    spec["autosize"] = {"type": "fit-x", "contains": "padding"}
    return spec


def _time_axis(field: str, moments: Sequence[Moment]) -> alt.X:
    span_s = moments[-1].end - moments[0].start
    form = next(form for most_s, form in _TIME_FORMS if span_s <= most_s)
    # As expressions: Vega-Lite takes numbers for another domain than that of `x2`.
    least, most = (
        alt.ExprRef(str(_ms(at))) for at in (moments[0].start, moments[-1].end)
    )
    return alt.X(
        field,
        title=None,
        scale=alt.Scale(type="utc", domainMin=least, domainMax=most, nice=False),
        axis=alt.Axis(grid=False, tickCount=6, labelOverlap=True, format=form),
    )


def _vega_lite_version() -> str:
    """Return the version of Vega-Lite that the charts are made for: `6.4`."""
    return ".".join(alt.SCHEMA_VERSION.removeprefix("v").split(".")[:2])


def _ms(at: float) -> int:
    return round(1000 * at)


def _short(number: float) -> float:
    return float(f"{number:.6g}")
