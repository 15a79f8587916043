"""Names of stretches of time: the windows that a look judges, and how far back a page reaches. No scipy: pages read this."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from mlops.core import clock, errors

HOUR_MINUTES, WEEK_MINUTES = 60, 7 * 24 * 60
# How far back, and the steps (hours) in which a column's history is drawn.
RANGES: dict[str, tuple[timedelta, int]] = {
    "24h": (timedelta(hours=24), 1),
    "7d": (timedelta(days=7), 6),
    "30d": (timedelta(days=30), 24),
    "90d": (timedelta(days=90), 24),
}
DEFAULT_RANGE = "7d"


@dataclass(frozen=True)
class Range:
    """``?range=7d``: its code, its beginning, and the step of a line over it."""

    code: str
    since: datetime
    step: timedelta


def chosen(code: str | None) -> Range:
    """The range a page was asked for. Raises Invalid."""
    code = code or DEFAULT_RANGE
    if code not in RANGES:
        raise errors.Invalid(f"There is no range {code!r}.", hint=f"Choose {', '.join(RANGES)}.")
    span, hours = RANGES[code]
    return Range(code, clock.now() - span, timedelta(hours=hours))


def lengths(own_minutes: int) -> list[int]:
    """The windows' lengths in minutes, shortest first: an hour, the rule's own, a week; equal ones once."""
    return sorted({HOUR_MINUTES, own_minutes, WEEK_MINUTES})


def code(minutes: int) -> str:
    """60 -> "1h", 1440 -> "24h", 10080 -> "7d", 45 -> "45m": how a window is called in an address."""
    if minutes % (24 * 60) == 0 and minutes > 24 * 60:
        return f"{minutes // (24 * 60)}d"
    return f"{minutes // 60}h" if minutes % 60 == 0 else f"{minutes}m"


def named(minutes: int) -> str:
    """60 -> "the last hour", 1440 -> "the last 24 hours", 10080 -> "the last 7 days"."""
    if minutes == HOUR_MINUTES:
        return "the last hour"
    length = code(minutes)
    return f"the last {length[:-1]} {({'d': 'days', 'h': 'hours', 'm': 'minutes'})[length[-1]]}"
