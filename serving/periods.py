"""``since=24h``: how far back, as people write it."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

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
