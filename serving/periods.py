"""``since=24h``: how far back, as people write it. ``range=24h``, or ``since=`` and ``until=``: a page's period, in its URL."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

from django.utils.dateparse import parse_datetime

from mlops.core import clock, errors

_SPAN = re.compile(r"^(\d{1,6})\s*([smhd])$")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
LONGEST = timedelta(days=366)


def parse_since(text: str) -> datetime:
    """``90s``, ``30m``, ``24h``, ``7d`` before now, or an ISO time; at most a year back. Raises Invalid."""
    now = clock.now()
    if found := _SPAN.match(text.strip()):
        span = timedelta(**{_UNITS[found[2]]: int(found[1])})
        return now - min(span, LONGEST)
    try:
        moment = parse_datetime(text.strip().replace(" ", "+"))  # a + in a query string arrives as a space
    except ValueError:
        moment = None
    if moment is None:
        raise errors.Invalid(
            f"since={text!r} is not understood.",
            hint="Write 90s, 30m, 24h, 7d or 2026-11-21T09:30:00Z.",
            fields={"since": ["Write for example 24h."]},
        )
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(moment, now - LONGEST)


RANGES: dict[str, timedelta] = {
    "1h": timedelta(hours=1),
    "24h": timedelta(hours=24),
    "7d": timedelta(days=7),
    "30d": timedelta(days=30),
}
_WORDS = {"1h": "the last hour", "24h": "the last 24 hours", "7d": "the last 7 days", "30d": "the last 30 days"}
_BEFORE = {"1h": "the hour before", "24h": "the day before", "7d": "the week before", "30d": "the 30 days before"}


@dataclass(frozen=True)
class Period:
    """What a page shows: ``name`` of RANGES, empty for one with two ends of its own. ``given``: the URL named it."""

    name: str
    since: datetime
    until: datetime
    given: bool = True

    @property
    def span(self) -> timedelta:
        return self.until - self.since

    @property
    def open(self) -> bool:
        """Whether it goes on until now, so that its page may look again."""
        return bool(self.name)

    @property
    def before(self) -> Period:
        """As long, and just before it."""
        return Period("", self.since - self.span, self.since)

    @property
    def words(self) -> str:
        return _WORDS.get(self.name) or f"{self.since:%Y-%m-%d %H:%M} to {self.until:%Y-%m-%d %H:%M} UTC"

    @property
    def words_before(self) -> str:
        return _BEFORE.get(self.name) or "the same time before"

    @property
    def query(self) -> str:
        """For a link to the same period."""
        if self.name:
            return urlencode({"range": self.name})
        return urlencode({"since": f"{self.since:%Y-%m-%dT%H:%M:%S}", "until": f"{self.until:%Y-%m-%dT%H:%M:%S}"})


def period(query: Mapping[str, str], default: str = "24h", names: Mapping[str, timedelta] = RANGES) -> Period:
    """From a page's query: ``range``, or ``since`` and perhaps ``until`` (UTC unless they say otherwise). Raises Invalid."""
    now = clock.now()
    if query.get("since") or query.get("until"):
        until = parse_since(query["until"]) if query.get("until") else now
        since = parse_since(query["since"]) if query.get("since") else until - names[default]
        until = min(until, now)
        if since >= until:
            raise errors.Invalid(
                "The period ends before it begins.",
                hint="Choose a later end.",
                fields={"until": ["Choose a later end."]},
            )
        return Period("", since, until)
    name = query.get("range") or default
    if name not in names:
        raise errors.Invalid(f"There is no range {name!r}.", hint=f"Choose {', '.join(names)}.")
    return Period(name, now - names[name], now, given="range" in query)
