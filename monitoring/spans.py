"""The windows of one look: the last hour, the rule's own window, the last seven days, each judged from counts.

A fast, heavy drift shows in the hour, a slow or small one only among the rows of a week. One of them is told: the one in
which it is worst. What only the week still holds, and the rule's own window no longer shows, is over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from monitoring import columns, lookback, windows
from monitoring.columns import Watched
from monitoring.drift import verdict as drift
from monitoring.drift.tally import Tally
from monitoring.drift.window import ColumnWindow, Hour
from monitoring.models import Baseline

Totals = Mapping[str, Tally]
# Since when: for how long back single hours are looked at where the window is shorter.
SINCE = timedelta(days=3)


@dataclass(frozen=True)
class Judged:
    """One window: what was counted in it, and what follows from that. over: it held a drift that has ended."""

    minutes: int
    start: datetime
    end: datetime
    totals: Totals
    found: drift.Verdict
    over: bool = False

    @property
    def severity(self) -> drift.Severity:
        return "ok" if self.over else self.found.severity

    @property
    def sentence(self) -> str:
        text = self.found.sentence
        return f"Back to the baseline over the shorter window; the days before: {text}" if self.over else text


def judge(
    baseline: Baseline, watched: Sequence[Watched], end: datetime, own_minutes: int, policy: drift.Policy
) -> list[Judged]:
    """Every window that ends now, shortest first. The longest one is read with its single hours, the others without."""
    *shorter, longest = lookback.lengths(own_minutes)
    start = end - timedelta(minutes=longest)
    all_of_it = windows.past(baseline, watched, start, end, start)
    hours = {name: [hour for hour in past.hours if hour.start >= end - SINCE] for name, past in all_of_it.items()}
    found = []
    for minutes in shorter:
        start = end - timedelta(minutes=minutes)
        totals = windows.total(baseline, watched, start, end)
        found.append(_judge(baseline, watched, (start, end), totals, hours, policy))
    totals = {name: past.total for name, past in all_of_it.items()}
    hours = {name: past.hours for name, past in all_of_it.items()}
    found.append(_judge(baseline, watched, (end - timedelta(minutes=longest), end), totals, hours, policy))
    own = next(each for each in found if each.minutes == own_minutes)
    return [_settled(each, own, policy) for each in found]


def told(judged: Sequence[Judged], own_minutes: int) -> Judged:
    """The window to tell of: the worst one; of equally bad ones the rule's own, then the shortest. Where all still learn: the one
    with the most rows."""
    worst = max(drift.ORDER[each.severity] for each in judged)
    alike = [each for each in judged if drift.ORDER[each.severity] == worst]
    if worst == drift.ORDER["learning"]:
        return max(alike, key=lambda each: each.found.rows)
    return next((each for each in alike if each.minutes == own_minutes), alike[0])


def _judge(
    baseline: Baseline,
    watched: Sequence[Watched],
    stretch: tuple[datetime, datetime],
    totals: Totals,
    hours: Mapping[str, Sequence[Hour]],
    policy: drift.Policy,
) -> Judged:
    start, end = stretch
    now = [
        ColumnWindow(
            each.name, each.bins, each.tally, totals[each.name], each.role != columns.FEATURE, hours[each.name]
        )
        for each in watched
    ]
    minutes = round((end - start).total_seconds() / 60)
    return Judged(minutes, windows.start_of(baseline, start), end, totals, drift.judge(now, policy))


def _settled(judged: Judged, own: Judged, policy: drift.Policy) -> Judged:
    """A longer window whose columns the rule's own window, with enough rows, shows back at the baseline is over."""
    if judged.minutes <= own.minutes or not judged.found.moved or own.found.severity != "ok":
        return judged
    now = {column.name: column for column in own.found.columns}
    back = all(_is_back(now[column.name], policy) for column in judged.found.moved)
    return Judged(**{**vars(judged), "over": True}) if back else judged


def _is_back(column: drift.ColumnVerdict, policy: drift.Policy) -> bool:
    """Whether the effect itself is small, not only unproven. A mean of so few rows may be off by two of its own errors; a mix of K
    places by chance alone has a distance of about sqrt(K / 2 pi) of them (mean absolute deviation of a normal, K times)."""
    if column.severity != "ok":
        return False
    noise = 2 * math.sqrt(1 / column.rows + 1 / column.reference_rows)
    distance, mix = column.wasserstein_normed or 0.0, column.mix or 0.0
    mix_noise = noise / 2 * math.sqrt(len(column.parts) / (2 * math.pi)) * 1.5
    return (
        (column.psi or 0.0) < policy.psi_warning
        and distance < max(policy.wasserstein_warning, noise)
        and mix < max(policy.mix_warning, mix_noise)
    )


def to_json(judged: Judged, told_of: Judged) -> dict[str, Any]:
    """The window as a check keeps it; the columns of the one that is told are kept by the check itself."""
    rows = [] if judged is told_of else [_column(each, judged.totals[each.name]) for each in ordered(judged.found)]
    return {
        "minutes": judged.minutes,
        "start": judged.start.isoformat(),
        "end": judged.end.isoformat(),
        "rows": judged.found.rows,
        "verdict": judged.severity,
        "sentence": judged.sentence,
        "columns": rows,
    }


def ordered(found: drift.Verdict) -> list[drift.ColumnVerdict]:
    """By severity, then by effect: those that moved most come first."""
    return sorted(found.columns, key=lambda each: (-drift.ORDER[each.severity], -(each.psi or 0.0)))


_KEPT = ("name", "kind", "severity", "sentence", "significant", "p_value", "alpha", "psi", "kl", "js", "hellinger", "ks",
         "wasserstein", "wasserstein_normed", "mix", "since", "since_at_least")  # fmt: skip


def _column(found: drift.ColumnVerdict, total: Tally) -> dict[str, Any]:
    kept = {name: getattr(found, name) for name in _KEPT}
    cause = found.causes[0].sentence if found.causes else ""
    return kept | {"cause": cause, "current": total.counts.tolist()}
