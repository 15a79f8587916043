"""Traffic in a sentence: "1,204 requests in the last 24 hours, 0.3 % failed, p95 12 ms, 20 % more than the day before"."""

from __future__ import annotations

from mlops.core import words
from serving.periods import Period
from serving.traffic import Counts


def sentence(now: Counts, before: Counts, period: Period) -> str:
    asked = f"{now.requests:,} request{'' if now.requests == 1 else 's'} in {period.words}"
    if not now.requests:
        last = f"; {before.requests:,} {period.words_before}" if before.requests else ""
        return f"No requests in {period.words}{last}."
    parts = [asked, "none failed" if not now.errors else f"{_share(now.errors / now.requests)} failed"]
    if (p95_ms := now.p95_ms) is not None:
        parts.append(f"p95 {words.ms(p95_ms)}")
    parts.append(_change(now.requests, before.requests, period))
    return ", ".join(filter(None, parts)) + "."


def _share(share: float) -> str:
    if share < 0.0001:
        return "less than 0.01 %"
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def _change(now: int, before: int, period: Period) -> str:
    if not before:
        return f"none {period.words_before}"
    ratio = now / before
    if ratio >= 3:
        return (
            f"{ratio:.0f} times as many as {period.words_before}"
            if ratio < 100
            else f"many more than {period.words_before}"
        )
    change = round(100 * (ratio - 1))
    if change == 0:
        return f"as many as {period.words_before}"
    return f"{abs(change)} % {'more' if change > 0 else 'fewer'} than {period.words_before}"
