"""Is the candidate better than the champion? Paired answers to the same rows in, a verdict with sentences out. Plain numbers.

Labels: the metric is accuracy. Numbers: the mean absolute error, as a share of the champion's. Differences are paired (both answered the
same rows), so their standard error is that of the mean of per-row differences (normal approximation; from 50 rows on it holds well).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

Z95 = 1.959964
Verdict = Literal["ok", "failed", "unknown"]


@dataclass(frozen=True)
class Side:
    """Both versions on the same labelled rows. metric: accuracy or mae. gain: how much better the candidate is (accuracy: the difference;
    mae: the champion's less the candidate's, as a share of the champion's); low, high: its 95 % interval."""

    rows: int
    metric: str
    champion: float | None = None
    candidate: float | None = None
    gain: float | None = None
    low: float | None = None
    high: float | None = None
    failed: int = 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Rule:
    """max_drop, min_gain, max_change: shares. min_labels: fewer labelled rows prove nothing. drift: other answers are what is wanted."""

    max_drop: float
    min_gain: float
    min_labels: int
    max_change: float
    drift: bool


@dataclass(frozen=True)
class Check:
    name: str
    verdict: Verdict
    sentence: str


def paired(actual: Sequence[Any], champion: Sequence[Any], candidate: Sequence[Any], *, labels: bool) -> Side:
    """Score two versions. An answer of None is one that failed: wrong for labels; for numbers such rows are left out and counted."""
    failed = sum(each is None for each in candidate)
    if labels:
        ours = [float(_same(*pair)) for pair in zip(actual, champion, strict=True)]
        theirs = [float(_same(*pair)) for pair in zip(actual, candidate, strict=True)]
        return _side("accuracy", ours, theirs, 1.0, failed)
    kept = [
        (float(truth), float(one), float(other))
        for truth, one, other in zip(actual, champion, candidate, strict=True)
        if _number(truth) and _number(one) and _number(other)
    ]
    ours, theirs = [abs(one - truth) for truth, one, _ in kept], [abs(other - truth) for truth, _, other in kept]
    return _side("mae", ours, theirs, -1.0, failed)


def _side(metric: str, ours: list[float], theirs: list[float], sign: float, failed: int) -> Side:
    rows = len(ours)
    if not rows:
        return Side(0, metric, failed=failed)
    before, after = sum(ours) / rows, sum(theirs) / rows
    gaps = [sign * (other - one) for one, other in zip(ours, theirs, strict=True)]
    mean = sum(gaps) / rows
    spread = math.sqrt(sum((gap - mean) ** 2 for gap in gaps) / max(rows - 1, 1) / rows)
    scale = 1.0 if metric == "accuracy" else max(before, 1e-12)
    return Side(
        rows, metric, before, after, mean / scale, (mean - Z95 * spread) / scale, (mean + Z95 * spread) / scale, failed
    )  # fmt: skip


def _same(truth: Any, answer: Any) -> bool:
    return answer is not None and _label(truth) == _label(answer)


def _label(value: Any) -> str:
    """1, 1.0, "1" and True are one class: feedback comes from other programs than the model."""
    if isinstance(value, bool):
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    return {"true": "1", "false": "0"}.get(text.lower(), text)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def judge(reference: Side | None, recent: Side | None, changed: float | None, failed: int, rule: Rule) -> list[Check]:
    """changed: share of replayed rows that the candidate answered differently. failed: replayed rows that only the candidate failed on."""
    return [
        _on_reference(reference, rule),
        _on_recent(recent, rule),
        _on_traffic(changed, failed, rule),
    ]


def _on_reference(side: Side | None, rule: Rule) -> Check:
    if side is None or side.gain is None or side.rows < rule.min_labels:
        return Check("reference", "unknown", "The reference does not say what really happened, so it was not scored.")
    drop = max(0.0, -side.gain)
    words = f"{_both(side)} on {side.rows:,} rows of the reference; it may be {_share(rule.max_drop)} worse."
    return Check("reference", "ok" if drop <= rule.max_drop else "failed", words)


def _on_recent(side: Side | None, rule: Rule) -> Check:
    rows = side.rows if side is not None else 0
    if side is None or side.gain is None or rows < rule.min_labels:
        return Check(
            "recent",
            "unknown",
            f"Only {rows:,} of {rule.min_labels:,} recent rows that it has not seen have a label: too few to say.",
        )
    better = side.gain >= rule.min_gain and side.gain > 0
    wide = "" if side.low is None or side.high is None else f" (95 %: {_signed(side.low)} to {_signed(side.high)})"
    words = f"{_both(side)} on {rows:,} recent labelled rows that it has not seen: {_signed(side.gain)}{wide}; it must gain "
    return Check(
        "recent", "ok" if better else "failed", words + (f"{_share(rule.min_gain)}." if rule.min_gain else "something.")
    )


def _on_traffic(changed: float | None, failed: int, rule: Rule) -> Check:
    if failed:
        return Check("traffic", "failed", f"It failed on {failed:,} logged requests that the live version answers.")
    if changed is None:
        return Check("traffic", "unknown", "There was no traffic to replay.")
    words = f"It answers {_share(changed)} of replayed requests differently"
    if rule.drift:
        return Check("traffic", "ok", f"{words}; after drift that is what is wanted.")
    return Check(
        "traffic", "ok" if changed <= rule.max_change else "failed", f"{words}; {_share(rule.max_change)} may be."
    )


def outcome(checks: Sequence[Check]) -> Verdict:
    """failed when any failed, ok when all are, unknown when something could not be said."""
    verdicts = {check.verdict for check in checks}
    return "failed" if "failed" in verdicts else "unknown" if "unknown" in verdicts else "ok"


def _both(side: Side) -> str:
    if side.metric == "accuracy":
        return f"It is right on {_share(side.candidate or 0)}, the live version on {_share(side.champion or 0)}"
    return f"Its mean error is {side.candidate:.4g}, the live version's {side.champion:.4g}"


def _share(value: float) -> str:
    return f"{100 * value:.3g} %"


def _signed(value: float) -> str:
    return f"{100 * value:+.2g} %"
