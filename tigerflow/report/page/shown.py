"""Numbers and names as a page shows them."""

import math
import re
from datetime import UTC, datetime

from tigerflow.naming import printable

#: In the place of a value that is not known.
NONE = "\N{EN DASH}"

_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86400

# What has no sign of its own, but tab and line feed; lone surrogates.
_UNSHOWN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")

#: Params whose values a page must not carry about.
_SECRET = re.compile(r"(key|token|secret|password|passwd|credentials?)$", re.IGNORECASE)


def count(number: float) -> str:
    """Return a whole number with commas: 12,345."""
    return f"{number:,.0f}"


def percent(share: float) -> str:
    """Return a share: 12 %; only nothing is 0 %, and only all is 100 %."""
    whole = round(100 * share)
    if whole == 0 and share > 0:
        return "< 1 %"
    if whole == 100 and share < 1:  # noqa: PLR2004 -- all
        return "> 99 %"
    return f"{whole} %"


def took(seconds: float | None) -> str:
    """Return a duration in its unit: 12 ms, 1.2 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    if seconds is None:
        return NONE
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if round(seconds, 1) < _MINUTE_S:
        return f"{seconds:.1f} s"
    if round(seconds) < _HOUR_S:
        return _two(round(seconds), _MINUTE_S, ("min", "s"))
    if round(seconds / _MINUTE_S) * _MINUTE_S < _DAY_S:
        return _two(round(seconds / _MINUTE_S), 60, ("h", "min"))
    return _two(round(seconds / _HOUR_S), 24, ("d", "h"))


def _two(number: int, size: int, units: tuple[str, str]) -> str:
    whole, rest = divmod(number, size)
    return f"{whole} {units[0]} {rest} {units[1]}" if rest else f"{whole} {units[0]}"


def moment(at: float | None) -> str:
    """Return a time, UTC: 2026-11-22 05:00:01."""
    if at is None or not math.isfinite(at):
        return NONE
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S")


def plain(text: object) -> str:
    """Return a text of several lines without characters that no page can show."""
    return _UNSHOWN.sub("\N{REPLACEMENT CHARACTER}", str(text))


def name(text: object) -> str:
    """Return a file's name, or another short text, in one line."""
    return plain(printable(str(text)))


def param(key: str, value: object) -> str:
    """Return a param's value in a line, but not that of a secret."""
    if value is None:
        return "none"
    if _SECRET.search(key):
        return "(hidden)"
    if isinstance(value, list):
        return ", ".join(plain(each) for each in value)
    return plain(value)


def rate_unit(per_second: float) -> tuple[str, int]:
    """Return the unit in which a rate has digits before the point, and its seconds."""
    for unit, seconds in (("a second", 1), ("a minute", 60), ("an hour", 3600)):
        if per_second * seconds >= 1:
            return unit, seconds
    return "a day", _DAY_S


def rate(per_second: float) -> str:
    """Return a rate of files: 3.2 files a second."""
    unit, seconds = rate_unit(per_second)
    number = per_second * seconds
    digits = f"{number:,.0f}" if number >= 100 else f"{number:.3g}"  # noqa: PLR2004 -- digits
    return f"{digits} files {unit}"
