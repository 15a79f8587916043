"""What a guarded rollout decides from: the candidate against the live version, in the same window. Numbers only, in plain Python.

Each test answers "could this be chance?" with a p-value that keeps its promise far out in the tail, because a rollout looks again and
again: at ``ALPHA`` a look, a hundred looks raise a false alarm in fewer than one rollout in a thousand (Bonferroni). A difference must
also be large enough to matter: beyond the rollout's own limit.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from serving import traffic

ALPHA = 1e-5
SAMPLE = 1_000  # predicted numbers kept of a version and step
LABELS = 200  # predicted labels told apart; the rest is counted together
OTHER = "…"
LATENCY_FLOOR_MS = 5.0  # less than this slower is no reason, whatever the factor
LEAST_EXPECTED = 5.0  # of a place in a chi-square test (Cochran's rule)


@dataclass
class Arm:
    """What one version did in the window. ``sample``: up to SAMPLE of ``sampled`` predicted numbers, each as likely as any other."""

    requests: int = 0
    errors: int = 0
    latency: list[int] = field(default_factory=lambda: [0] * traffic.BINS)
    labels: dict[str, int] = field(default_factory=dict)
    sample: list[float] = field(default_factory=list)
    sampled: int = 0

    @property
    def error_rate(self) -> float:
        return self.errors / self.requests if self.requests else 0.0


@dataclass(frozen=True)
class Limits:
    error_increase: float
    latency_factor: float
    shift: float | None
    min_requests: int


def judge(candidate: Arm, champion: Arm, limits: Limits) -> list[dict[str, Any]]:
    """``[{"name", "state": ok | waiting | failed, "value", "limit", "p_value", "sentence"}]`` for errors, latency and predictions.

    Errors are judged from the first request on: the test is exact, so a broken version is found after a handful. The others need
    ``min_requests`` of the candidate.
    """
    found = [errors(candidate, champion, limits)]
    enough = candidate.requests >= limits.min_requests
    for name, test in (("latency", latency), ("predictions", predictions)):
        found.append(test(candidate, champion, limits) if enough else _waiting(name))
    return found


def _check(
    name: str, failed: bool, sentence: str, value: float | None, limit: float | None, p_value: float | None
) -> dict[str, Any]:
    state = "failed" if failed else "ok"
    return {
        "name": name, "state": state, "value": value, "limit": limit, "p_value": p_value, "sentence": sentence
    }  # fmt: skip


def _waiting(name: str, why: str = "Too few requests to judge.") -> dict[str, Any]:
    return {"name": name, "state": "waiting", "value": None, "limit": None, "p_value": None, "sentence": why}


# --- Errors: Fisher's exact test, one-sided -------------------------------------------------------------------------------


def errors(candidate: Arm, champion: Arm, limits: Limits) -> dict[str, Any]:
    """Failed requests of either kind: also what a stricter schema refuses counts, for the live version would have taken it."""
    if not candidate.requests:
        return _waiting("errors", "No request yet.")
    if champion.requests:
        p_value = fisher(candidate.errors, candidate.requests, champion.errors, champion.requests)
    else:
        p_value = binomial_tail(candidate.errors, candidate.requests, limits.error_increase)
    rise = candidate.error_rate - champion.error_rate
    sentence = (
        f"{_pct(candidate.error_rate)} of its {candidate.requests:,} requests failed, "
        f"{_pct(champion.error_rate)} of the live version's {champion.requests:,}."
    )
    return _check(
        "errors", rise > limits.error_increase and p_value < ALPHA, sentence, rise, limits.error_increase, p_value
    )


def fisher(hits: int, count: int, other_hits: int, other_count: int) -> float:
    """How likely so many ``hits`` or more of ``count`` are, if both sides fail alike: the hypergeometric tail (R. A. Fisher, 1922)."""
    total, all_hits = count + other_count, hits + other_hits
    scale = _log_choose(total, count)
    top = min(count, all_hits)
    terms = (
        _log_choose(all_hits, k) + _log_choose(total - all_hits, count - k) - scale
        for k in range(hits, top + 1)
        if count - k <= total - all_hits
    )
    return min(1.0, math.fsum(math.exp(term) for term in terms))


def binomial_tail(hits: int, count: int, share: float) -> float:
    """P(at least ``hits`` of ``count``) where each has the chance ``share``."""
    if hits <= 0:
        return 1.0
    if not 0 < share < 1:
        return 0.0 if share <= 0 else 1.0
    yes, no = math.log(share), math.log1p(-share)
    mode = max(hits, int(share * (count + 1)))
    total = 0.0
    for k in range(hits, count + 1):
        term = math.exp(_log_choose(count, k) + k * yes + (count - k) * no)
        total += term
        if k > mode and term < total * 1e-15:
            break
    return min(1.0, total)


def _log_choose(total: int, taken: int) -> float:
    return math.lgamma(total + 1) - math.lgamma(taken + 1) - math.lgamma(total - taken + 1)


# --- Latency: how many requests lie beyond the limit ----------------------------------------------------------------------


def latency(candidate: Arm, champion: Arm, limits: Limits) -> dict[str, Any]:
    """p95 against p95. Were the candidate within the limit, at most 5 % of its requests would take longer than it: a binomial test."""
    ours, theirs = traffic.percentile(candidate.latency, 0.95), traffic.percentile(champion.latency, 0.95)
    if ours is None or theirs is None or sum(champion.latency) < limits.min_requests:
        return _waiting("latency", "Too few answers of the live version to compare with.")
    limit_ms = max(theirs * limits.latency_factor, theirs + LATENCY_FLOOR_MS)
    first = bisect_right(traffic.EDGES_MS, limit_ms) + 1  # whole bins above the limit
    p_value = binomial_tail(sum(candidate.latency[first:]), sum(candidate.latency), 0.05)
    sentence = f"p95 {ours:.3g} ms, the live version's {theirs:.3g} ms."
    return _check(
        "latency", ours > limit_ms and p_value < ALPHA, sentence, ours / theirs, limits.latency_factor, p_value
    )


# --- Predictions: do both answer alike? -----------------------------------------------------------------------------------


def predictions(candidate: Arm, champion: Arm, limits: Limits) -> dict[str, Any]:
    """The mix of predicted labels, or the distribution of predicted numbers. The size is a difference of shares, 0 to 1."""
    if limits.shift is None:
        return _check("predictions", False, "Not judged in this rollout.", None, None, None)
    if candidate.labels and champion.labels:
        size, label = _largest_gap(candidate.labels, champion.labels)
        p_value = homogeneity(candidate.labels, champion.labels)
        ours, theirs = _share(candidate.labels, label), _share(champion.labels, label)
        sentence = f"“{label}” is {_pct(ours)} of its predictions, {_pct(theirs)} of the live version's."
    elif candidate.sample and champion.sample:
        size, p_value = kolmogorov(candidate.sample, champion.sample)
        sentence = (
            f"Median {_median(candidate.sample):.4g}, the live version's {_median(champion.sample):.4g}; "
            f"the distributions lie {_pct(size)} apart."
        )
    else:
        return _waiting("predictions", "There are no predictions of both versions that can be compared.")
    return _check("predictions", size > limits.shift and p_value < ALPHA, sentence, size, limits.shift, p_value)


def _largest_gap(ours: Mapping[str, int], theirs: Mapping[str, int]) -> tuple[float, str]:
    """And of which label: of two alike the one that the first has more of."""
    gaps = {label: _share(ours, label) - _share(theirs, label) for label in sorted(ours.keys() | theirs.keys())}
    label = max(gaps, key=lambda each: (abs(gaps[each]), gaps[each]))
    return abs(gaps[label]), label


def _share(counts: Mapping[str, int], label: str) -> float:
    return counts.get(label, 0) / sum(counts.values())


def homogeneity(ours: Mapping[str, int], theirs: Mapping[str, int]) -> float:
    """p of "both draw from one mix of labels": the larger of Pearson's chi-square and the likelihood ratio's (G).

    Alone either is too optimistic in the far tail; the larger of the two was measured to keep its level there (see
    monitoring/drift/tests.py). Labels too rare for it (fewer than LEAST_EXPECTED expected on a side) are counted together.
    """
    sides = [sum(ours.values()), sum(theirs.values())]
    total = sum(sides)
    if not all(sides):
        return 1.0
    table, rest = [], [0, 0]
    for label in ours.keys() | theirs.keys():
        pair = [ours.get(label, 0), theirs.get(label, 0)]
        if min(sides) * sum(pair) / total < LEAST_EXPECTED:
            rest = [rest[0] + pair[0], rest[1] + pair[1]]
        else:
            table.append(pair)
    if sum(rest):
        if min(sides) * sum(rest) / total < LEAST_EXPECTED and table:
            thinnest = min(table, key=sum)
            thinnest[0], thinnest[1] = thinnest[0] + rest[0], thinnest[1] + rest[1]
        else:
            table.append(rest)
    if len(table) < 2:
        return 1.0
    pearson = ratio = 0.0
    for pair in table:
        for seen, side in zip(pair, sides, strict=True):
            expected = sum(pair) * side / total
            pearson += (seen - expected) ** 2 / expected
            ratio += 2 * seen * math.log(seen / expected) if seen else 0.0
    freedom = len(table) - 1
    return max(chi2_tail(pearson, freedom), chi2_tail(max(ratio, 0.0), freedom))


def chi2_tail(statistic: float, freedom: int) -> float:
    """P(chi-square > statistic): the regularised upper incomplete gamma function, by its series below its hump and by its continued
    fraction above (Abramowitz and Stegun 6.5.29, 6.5.31; the fraction by Lentz's method)."""
    a, x = freedom / 2, statistic / 2
    if x <= 0:
        return 1.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        step = a
        while abs(term) > abs(total) * 1e-15:
            step += 1
            term *= x / step
            total += term
        return max(0.0, 1.0 - front * total)
    b, c = x + 1 - a, 1e300
    d = 1 / b
    product = d
    for place in range(1, 10_000):
        numerator = -place * (place - a)
        b += 2
        d = 1 / (numerator * d + b or 1e-300)
        c = b + numerator / c or 1e-300
        product *= d * c
        if abs(d * c - 1) < 1e-15:
            break
    return min(1.0, front * product)


def kolmogorov(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """The largest gap between two empirical distributions, and its p: the two-sample Kolmogorov-Smirnov test with Stephens' (1970)
    correction for small samples. With ties it errs towards calm."""
    first, second = sorted(ours), sorted(theirs)
    n, m = len(first), len(second)
    gap = max(abs(bisect_right(first, value) / n - bisect_right(second, value) / m) for value in {*first, *second})
    root = math.sqrt(n * m / (n + m))
    reach = (root + 0.12 + 0.11 / root) * gap
    if reach < 0.2:
        return gap, 1.0
    terms = ((-1) ** (k - 1) * math.exp(-2 * k * k * reach * reach) for k in range(1, 101))
    return gap, min(1.0, max(0.0, 2 * math.fsum(terms)))


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def _pct(share: float) -> str:
    percent = share * 100
    return f"{percent:.0f} %" if percent >= 9.95 or percent == int(percent) else f"{percent:.1f} %"


# --- Filling an arm -------------------------------------------------------------------------------------------------------


def add_prediction(arm: Arm, prediction: Any, *, numbers: bool, draw: random.Random) -> None:
    """Count one prediction. ``numbers``: they are quantities, sampled by a reservoir (Vitter's algorithm R); all else is a label, and what
    is neither is passed over."""
    if numbers and isinstance(prediction, (int, float)) and not isinstance(prediction, bool):
        if not math.isfinite(prediction):
            return
        arm.sampled += 1
        if len(arm.sample) < SAMPLE:
            arm.sample.append(float(prediction))
        elif (place := draw.randrange(arm.sampled)) < SAMPLE:
            arm.sample[place] = float(prediction)
    elif isinstance(prediction, (str, int, float, bool)):
        label = str(prediction)[:100]
        if label not in arm.labels and len(arm.labels) >= LABELS:
            label = OTHER
        arm.labels[label] = arm.labels.get(label, 0) + 1


def joined(arms: Sequence[Arm]) -> Arm:
    """Several windows as one. Samples are put together: their steps had different lengths, but a version stays one version."""
    total = Arm()
    for arm in arms:
        total.requests += arm.requests
        total.errors += arm.errors
        total.latency = traffic.merged([total.latency, arm.latency])
        for label, count in arm.labels.items():
            total.labels[label] = total.labels.get(label, 0) + count
        total.sample += arm.sample
        total.sampled += arm.sampled
    return total
