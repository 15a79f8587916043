"""Values that are not there, or are something else than they were."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from monitoring.drift import values as raw
from monitoring.drift.causes.cause import LEAST_SHARE, Cause, Change
from monitoring.drift.causes.words import percent, shape

_PLAIN = {
    "numeric string": "numbers sent as text",
    "string": "text",
    "boolean": "true/false",
    "number": "numbers",
    "object": "lists or objects",
    "unreadable time": "times nobody can read",
}
_EUROPEAN = re.compile(r"^\s*-?[\d.]*,\d+\s*$")
_WITH_UNIT = re.compile(r"^\s*[^\d\s.,-]{0,3}\s*-?[\d.,]+\s*[^\d\s.,]{0,5}\s*$")


def wrong_type(change: Change) -> Cause | None:
    """The column's type changed, for some rows or all; of dates: their format."""
    before, now = change.share(change.bins.wrong_type_index)
    if now - before < LEAST_SHARE or not change.now.wrong_types:
        return None
    what, count = max(change.now.wrong_types.items(), key=lambda item: item[1])
    share, numbers = now - before, {"found": what, "rows": count, "was": before, "is": now}
    if change.bins.kind == "datetime":
        seen = _example(change, lambda value: isinstance(value, (int, float)) or not _is_time(value))
        known = _example(change, _is_time, before=True)
        as_what = f', such as "{seen}"' if seen else ""
        instead = f' for "{known}"' if seen and known else ""
        sentence = f"{percent(now)} of the times have another format than the baseline (ISO 8601){as_what}{instead}"
        return Cause("date_format", sentence, share, 1.5 * share, numbers)
    sentence = f"{percent(now)} of the values have another type than the baseline: {_PLAIN[what]}{_how(change, what)} (baseline {percent(before)})"
    return Cause("wrong_type", sentence, share, 1.5 * share, numbers)


def _how(change: Change, what: str) -> str:
    """What the texts in a column of numbers look like."""
    if what != "string" or change.bins.kind != "numeric":
        return ""
    texts = [value for value in change.now_values if isinstance(value, str)]
    for words, pattern in (("with a decimal comma", _EUROPEAN), ("with a unit or a currency", _WITH_UNIT)):
        if texts and sum(bool(pattern.match(text)) for text in texts) > len(texts) / 2:
            return f' {words}, such as "{shape(texts[0])}"'
    return f', such as "{shape(texts[0])}"' if texts else ""


def _example(change: Change, wanted: Callable[[Any], bool], *, before: bool = False) -> str:
    values = change.before_values if before else change.now_values
    return next((shape(str(value)) for value in values if value is not None and wanted(value)), "")


def _is_time(value: Any) -> bool:
    return isinstance(value, str) and raw.is_timestamp(value)


def missing(change: Change) -> Cause | None:
    """More values are missing, or the column is gone."""
    before, now = change.share(change.bins.missing_index)
    numbers = {"was": before, "is": now}
    if now == 1 and before < 1:
        return Cause(
            "column_missing",
            f"no row has a value any more (baseline {percent(before)} missing)",
            1 - before,
            1.5,
            numbers,
        )
    if now - before >= LEAST_SHARE:
        sentence = f"{percent(now)} of the values are missing (baseline {percent(before)})"
        return Cause("missing_spike", sentence, now - before, 1.5 * (now - before), numbers)
    if before - now >= LEAST_SHARE:
        sentence = f"fewer values are missing: {percent(now)} (baseline {percent(before)}); they may be filled in now"
        return Cause("missing_gone", sentence, before - now, before - now, numbers)
    return None
