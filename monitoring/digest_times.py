"""When a digest is due: whole local days and weeks, in the reader's time zone. No rows, no clock.

A period ends at a local midnight and is named by the day that begins there ("2026-11-23"). Local days have 23 to 25 hours where
clocks are put forward and back; an hour that a clock leaves out counts as the next that there is, one it shows twice as the first.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

DAILY, WEEKLY = "daily", "weekly"
DAYS = {DAILY: 1, WEEKLY: 7}


@dataclass(frozen=True)
class Times:
    """What a reader chose. hour: 0-23, local; weekday: 0 (Monday) to 6, of weekly ones."""

    frequency: str
    zone: ZoneInfo
    hour: int = 7
    weekday: int = 0

    @property
    def days(self) -> int:
        return DAYS[self.frequency]


@dataclass(frozen=True)
class Period:
    """since, until, due: aware, UTC. name: the local day that begins at ``until``; names of one reader sort by time."""

    name: str
    since: datetime
    until: datetime
    due: datetime


def latest(times: Times, now: datetime) -> Period:
    """The period whose digest was due last, at or before ``now``."""
    day = now.astimezone(times.zone).date()
    if times.frequency == WEEKLY:
        day -= timedelta(days=(day.weekday() - times.weekday) % 7)
    found = _ending(times, day)
    return found if found.due <= now else _ending(times, day - timedelta(days=times.days))


def following(times: Times, now: datetime) -> datetime:
    """When the next one after ``now`` is due."""
    day = date.fromisoformat(latest(times, now).name)
    return _ending(times, day + timedelta(days=times.days)).due


def _ending(times: Times, day: date) -> Period:
    return Period(
        day.isoformat(),
        since=_moment(day - timedelta(days=times.days), 0, times.zone),
        until=_moment(day, 0, times.zone),
        due=_moment(day, times.hour, times.zone),
    )


def _moment(day: date, hour: int, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(hour), zone).astimezone(UTC)
