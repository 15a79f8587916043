"""Is it worse than it was? Labels decide when they are there; without them the estimate may warn, if its owner wants that.

A drop is told when it is beyond chance and beyond what the owner tolerates: the live metric, moved by the rule's tolerance towards
the baseline's, still lies below it by more than z standard errors of the two together (one-sided, alpha from the deployment's budget of
false alarms, shared by the metrics looked at). Numbers are plain; rows and clock stay outside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from monitoring import rules
from monitoring.drift.quality import intervals
from monitoring.drift.quality.metrics import HIGH_IS_GOOD, Metric
from monitoring.quality.words import lower, shown, title

# What is looked at, most telling first; others follow from these.
LOOKED_AT = ("accuracy", "f1", "auc", "mae")
CALM_CHECKS = 2


@dataclass(frozen=True)
class Facts:
    """What one look knows. live, before: metrics by name; alpha: of this whole look; labelled, answered: rows of the window."""

    live: Mapping[str, Metric]
    before: Mapping[str, Metric]
    alpha: float
    labelled: int
    answered: int
    version: int
    since: datetime | None = None
    estimated: bool = False
    before_source: str = "reference"


def judge(facts: Facts, limits: rules.Limits, kind: str) -> rules.Finding:
    """The rule's finding. threshold: tolerated drop, in the metric's points; of mae as a share of the baseline's."""
    names = [name for name in LOOKED_AT if name in facts.live and name in facts.before]
    if facts.labelled < limits.minimum_rows or not names:
        return rules.Finding(kind, rules.State.UNKNOWN)
    judged = {name: _gap(name, facts, limits.threshold, facts.alpha / len(names)) for name in names}
    worst = max(names, key=lambda name: judged[name][1])
    drop, beyond = judged[worst]
    live, before = facts.live[worst], facts.before[worst]
    state = rules.State.FIRING if beyond > 0 else rules.State.CALM if _calm(judged, facts, limits) else rules.State.HOLD
    return rules.Finding(
        kind,
        state,
        title=_title(worst, facts),
        what=_what(worst, facts, limits),
        why=_why(facts),
        effect=_effect(worst, drop, live, before),
        todo=(
            "Look at the confusion and the versions on the quality page.",
            "Look at the drift page: which columns have moved?",
            "Roll back if it began with a deploy; else train on the newly labelled rows.",
        ),
        since=facts.since,
        value=live.value,
        limit=_limit(worst, before, limits.threshold),
        detail={"metric": worst, "baseline": before.value, "rows": facts.labelled, "estimated": facts.estimated},
        unit="share" if worst == "accuracy" else "",
        below=HIGH_IS_GOOD[worst],
        greatest=1.0 if HIGH_IS_GOOD[worst] else None,
        severity="warning" if facts.estimated else "",
        calm_checks=CALM_CHECKS,
        page="quality",
    )


def _title(name: str, facts: Facts) -> str:
    moved = "fell" if HIGH_IS_GOOD[name] else "rose"
    which = f"Estimated {lower(name)}" if facts.estimated else title(name)
    return f"{which} {moved} from {shown(name, facts.before[name].value)} to {shown(name, facts.live[name].value)}"


def _what(name: str, facts: Facts, limits: rules.Limits) -> str:
    live = facts.live[name]
    rows = f"{facts.labelled:,} {'predictions without labels' if facts.estimated else 'labelled predictions'}"
    interval = f" ({shown(name, live.low)} to {shown(name, live.high)})" if live.low is not None else ""
    return (
        f"{'Estimated' if facts.estimated else 'Live'} {lower(name)} of v{facts.version} is {shown(name, live.value)}{interval} over "
        f"{rows} in {rules.duration(limits.window_minutes)}; it was {shown(name, facts.before[name].value)} on "
        f"{_where(facts.before_source)}."
    )


def _limit(name: str, before: Metric, tolerance: float) -> float:
    return before.value - tolerance if HIGH_IS_GOOD[name] else before.value * (1 + tolerance)


def _gap(name: str, facts: Facts, tolerance: float, alpha: float) -> tuple[float, float]:
    """(drop, how far the drop is beyond tolerance and chance): above 0 it is told. Drops are positive when it is worse."""
    live, before = facts.live[name], facts.before[name]
    sign = 1.0 if HIGH_IS_GOOD[name] else -1.0
    drop = sign * (before.value - live.value)
    tolerated = sign * (before.value - _limit(name, before, tolerance))
    error = math.hypot(_error(live), _error(before))
    return drop, drop - tolerated - intervals.normal_quantile(1 - alpha) * error


def _error(metric: Metric) -> float:
    """Its standard error; of a share of 0 or 1 that of one row more (a plain 0 would be certainty)."""
    if metric.error:
        return metric.error
    return 1.0 / (metric.rows + 1) if metric.value in (0.0, 1.0) else 0.0


def _calm(judged: Mapping[str, tuple[float, float]], facts: Facts, limits: rules.Limits) -> bool:
    """Back within most of what is tolerated, for every metric looked at."""
    return all(
        drop <= rules.CALM_SHARE * abs(facts.before[name].value - _limit(name, facts.before[name], limits.threshold))
        for name, (drop, _) in judged.items()
    )


def _where(source: str) -> str:
    return "the reference" if source == "reference" else "its first labelled rows"


def _why(facts: Facts) -> str:
    if facts.estimated:
        return "The scores have become less sure: the inputs look different from those the model knows. No label has confirmed it yet."
    return "The inputs moved away from what the model knows, or what they mean has changed; the drift page tells which."


def _effect(name: str, drop: float, live: Metric, before: Metric) -> str:
    if name == "accuracy":
        return f"About {max(drop, 0) * 1000:.0f} more wrong answers in 1,000 than before."
    if name == "mae":
        return (
            f"The mean error is {live.value / before.value:.2g} times what it was."
            if before.value
            else "Errors where there were none."
        )
    return f"{title(name)} is {abs(drop):.2g} {'lower' if HIGH_IS_GOOD[name] else 'higher'} than before."


def since_of(days: list[tuple[datetime, float, int]], usual: float) -> datetime | None:
    """The day since which a mean has been worse: the largest rise of the cumulative sum of (usual - value) * rows (Page 1954).
    days: (start, value, rows), oldest first; values so that high is good."""
    best: tuple[float, datetime | None] = (0.0, None)
    total, began = 0.0, None
    for at, value, rows in days:
        step = (usual - value) * rows
        if total <= 0 < step:
            total, began = 0.0, at
        total += step
        if total > best[0]:
            best = (total, began)
    return best[1]
