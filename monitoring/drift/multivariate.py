"""Do the columns move together as before? Over raw rows of both sides, a bounded sample; runs in the worker.

A column's own test cannot see that two columns stop following each other while each looks as ever. Two tests do, on the
table of `encoding.encode`, in which both sides have the same margins:

    pairs       for each pair of dimensions the influence of a row on their correlation, z_i z_j - r (z_i^2 + z_j^2) / 2 with r the
                pooled correlation: its mean moves with the correlation, and its spread is small where the pair is tight.
                Bonferroni over the pairs. Strong where one relation changed, and names it.
    classifier  a domain classifier: can now be told from before? Regularised linear discriminant on products of the whitened
                dimensions and on cosines over random pairs of numbers, trained on one half of the rows, judged on the other, and the
                other way round. Strong where much changed a little, or a relation that is no correlation.

Neither trains and judges on the same rows, and both p-values are those of a permutation of the sides: mean and
variance exact, normal tail corrected for skewness (Cramer's factor exp(|skew| z^3 / 6), always against an alarm), so that
they reach alphas that no drawn permutation can. p is twice the smaller one.

Measured, p against nominal 5 %, 1 % and 0.2 % on 2,000 clean pairs of samples each (seven columns, three of them with levels): 2.3 %, 0.5 %,
0.15 % at 2,000 rows a side; 2.3 %, 0.45 %, 0.1 % at 2,000 against 300; 2.6 %, 0.65 %, 0.1 % at 1,000 a side. Far out, on 4 million draws of products
of two rare levels (3 % each, 2,000 against 300 rows): the plain normal tail 1.3, 1.9 and 2.7 times nominal at 1e-3, 1e-4 and
1e-5, the widened one 0.56, 0.49 and 0.52 times.

Found at the default budget (alpha 5.8e-5) among ten columns, of 20 each at 300, 1,000 and 2,000 rows against 2,000: a column that follows
the others no more, 20, 20, 20; every correlation down from 0.40 to 0.25, 7, 19, 20; half of a column become a square of another, 1, 12, 14.
Clean: none of 120. CPU of one judgement: 0.05 to 0.08 s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

from monitoring.drift.bins import ColumnBins
from monitoring.drift.encoding import Table, encode
from monitoring.drift.values import Values

Severity = Literal["learning", "ok", "warning", "drift"]
# Below so many rows on a side nothing is said; more than MOST_ROWS a side are not looked at.
LEAST_ROWS = 300
MOST_ROWS = 2_000
# Effects: Cohen's q = |atanh r1 - atanh r2| (0.3 is "medium"), and the classifier's AUC (0.55 is Evidently's limit for its
# domain classifier, 0.65 NannyML's).
Q_WARNING, Q_DRIFT = 0.2, 0.3
AUC_WARNING, AUC_DRIFT = 0.55, 0.65
PAIRS_NAMED = 3
_COSINES = 64
_LARGEST_R = 0.995
_CLIP = 4.0
# Directions in which the columns hardly vary (one follows from the others) are widened to this share of the variance.
_LEAST_EIGENVALUE = 1e-3


@dataclass(frozen=True)
class Pair:
    """A pair of dimensions. before, now: correlation of their scores (-1..1). p_value: over all pairs (Bonferroni)."""

    first: str
    second: str
    columns: tuple[str, str]
    before: float
    now: float
    p_value: float

    @property
    def effect(self) -> float:
        """Cohen's q, >= 0."""
        r = np.clip([self.before, self.now], -_LARGEST_R, _LARGEST_R)
        return float(abs(np.arctanh(r[0]) - np.arctanh(r[1])))

    def to_json(self) -> dict[str, Any]:
        return {
            "first": self.first,
            "second": self.second,
            "columns": list(self.columns),
            "before": self.before,
            "now": self.now,
            "p_value": self.p_value,
            "effect": self.effect,
        }


@dataclass(frozen=True)
class Together:
    """What is known of how the columns move together. p_value: of both tests; auc: the classifier's on rows it had not seen
    (0.5: cannot tell). pairs: those that changed most, at most PAIRS_NAMED, one per pair of columns. columns: looked at."""

    severity: Severity
    sentence: str
    rows: int
    reference_rows: int
    alpha: float
    p_value: float | None = None
    auc: float | None = None
    pairs: tuple[Pair, ...] = ()
    columns: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def moved(self) -> bool:
        return self.severity in ("warning", "drift")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: finite numbers, strings, lists."""
        plain = {name: value for name, value in vars(self).items() if name not in ("pairs", "columns", "left_out")}
        return plain | {
            "pairs": [pair.to_json() for pair in self.pairs],
            "columns": list(self.columns),
            "left_out": list(self.left_out),
        }


def judge_together(
    reference: Mapping[str, Values], current: Mapping[str, Values], bins: Mapping[str, ColumnBins], alpha: float
) -> Together:
    """Judge raw rows of both sides: column name -> values, all of a side equally long and aligned (row i is row i).

    bins: the columns to look at, with their kinds and levels. alpha (0..1): the largest chance of a false alarm. Never raises
    for strange values: they count as missing.
    """
    rows = min((len(current[name]) for name in bins if name in current), default=0)
    reference_rows = min((len(reference[name]) for name in bins if name in reference), default=0)
    if min(rows, reference_rows) < LEAST_ROWS:
        return still_learning(rows, reference_rows, alpha)
    facts: dict[str, Any] = {
        "rows": min(rows, MOST_ROWS),
        "reference_rows": min(reference_rows, MOST_ROWS),
        "alpha": alpha,
    }
    table = encode(_cut(reference, reference_rows), _cut(current, rows), bins)
    facts |= {"columns": tuple(dict.fromkeys(table.columns)), "left_out": table.left_out}
    if len(set(table.columns)) < 2:
        return Together("ok", "fewer than two columns can be looked at together", **facts)
    pairs, p_pairs = _pairs(table)
    auc, p_classifier = _classifier(table)
    facts |= {"p_value": min(2 * min(p_pairs, p_classifier), 1.0), "auc": auc}
    facts["pairs"] = _named(pairs, alpha)
    severity = _severity(facts, alpha)
    return Together(severity, _sentence(severity, facts, alpha), **facts)


def still_learning(rows: int, reference_rows: int, alpha: float) -> Together:
    """What is said while there are too few rows on a side."""
    side = "" if rows <= reference_rows else " of the baseline"
    few = min(rows, reference_rows)
    text = f"still learning how the columns move together: {few:,} of {LEAST_ROWS:,} rows{side}"
    return Together("learning", text, rows, reference_rows, alpha)


def _cut(values: Mapping[str, Values], rows: int) -> dict[str, Values]:
    """At most MOST_ROWS rows, spread evenly."""
    picked = np.unique(np.linspace(0, rows - 1, min(rows, MOST_ROWS)).astype(int)).tolist()
    return {name: [column[place] for place in picked] for name, column in values.items() if len(column) >= rows}


def _severity(facts: dict[str, Any], alpha: float) -> Severity:
    if facts["p_value"] > alpha:
        return "ok"
    effect = max((pair.effect for pair in facts["pairs"]), default=0.0)
    if effect >= Q_DRIFT or facts["auc"] >= AUC_DRIFT:
        return "drift"
    return "warning" if effect >= Q_WARNING or facts["auc"] >= AUC_WARNING else "ok"


def _sentence(severity: Severity, facts: dict[str, Any], alpha: float) -> str:
    if facts["p_value"] > alpha:
        return "the columns move together as before"
    if severity == "ok":
        return "the columns move together a little otherwise than before, too little to matter"
    named = "; ".join(
        f"{pair.first} and {pair.second} (correlation {pair.before:z.2f} before, {pair.now:z.2f} now)"
        for pair in facts["pairs"]
    )
    if named:
        return f"columns move together otherwise than before: {named}"
    return (f"columns move together otherwise than before, in no single pair: rows of now are told from rows of before "
            f"{facts['auc']:.0%} of the time, where a guess is right in 50%")  # fmt: skip


# -- pairs --------------------------------------------------------------------------------------------------------


def _pairs(table: Table) -> tuple[list[Pair], float]:
    """Every pair of dimensions of two columns, the most significant first, and the smallest p over all of them."""
    places = [(i, j) for i, j in combinations(range(len(table.columns)), 2) if table.columns[i] != table.columns[j]]
    found = [_pair(table, i, j, len(places)) for i, j in places]
    found.sort(key=lambda pair: (pair.p_value, -pair.effect))
    return found, found[0].p_value if found else 1.0


def _pair(table: Table, i: int, j: int, tried: int) -> Pair:
    sides = [_both(side[:, i], side[:, j]) for side in (table.before, table.now)]
    products = [x * y for x, y in sides]
    rows = [len(side) for side in products]
    before, now = (float(np.clip(side.mean(), -1, 1)) if len(side) else 0.0 for side in products)
    p_value = 1.0
    if min(rows) >= LEAST_ROWS // 2:
        r = (rows[0] * before + rows[1] * now) / sum(rows)
        influence = [xy - r * (x * x + y * y) / 2 for xy, (x, y) in zip(products, sides, strict=True)]
        p_value = min(permutation_p(*influence) * tried, 1.0)
    names = (table.columns[i], table.columns[j])
    return Pair(table.labels[i], table.labels[j], names, before, now, p_value)


def _both(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    there = ~(np.isnan(x) | np.isnan(y))
    return _standard(x[there]), _standard(y[there])


def _standard(x: NDArray[np.float64]) -> NDArray[np.float64]:
    return (x - x.mean()) / (float(x.std()) or 1.0) if x.size else x


def _named(pairs: list[Pair], alpha: float) -> tuple[Pair, ...]:
    """The significant pairs, of two columns only the strongest, those that changed most first."""
    strongest: dict[tuple[str, str], Pair] = {}
    for pair in pairs:
        if 2 * pair.p_value <= alpha:
            strongest.setdefault(pair.columns, pair)
    return tuple(sorted(strongest.values(), key=lambda pair: -pair.effect)[:PAIRS_NAMED])


def permutation_p(before: NDArray[np.float64], now: NDArray[np.float64]) -> float:
    """Two-sided p of a difference in mean between two sets of numbers (n,), (m,), as if the sides were dealt out anew.

    Numbers further than four standard deviations out count as four. Mean, variance and skewness are those of sampling
    without replacement; the normal tail is widened by exp(|skew| z^3 / 6). 1 where there is nothing to compare.
    """
    x = np.concatenate([before, now])
    n, m = len(before), len(now)
    spread = float(x.std())
    if not n or not m or not spread > 1e-12:
        return 1.0
    x = np.clip((x - x.mean()) / spread, -_CLIP, _CLIP)
    x = x - x.mean()
    variance, skew = float(np.mean(x**2)), float(np.mean(x**3))
    rows = n + m
    error = np.sqrt(variance * n / (m * (rows - 1)))
    z = abs(float(x[n:].mean())) / error
    # third moment of a mean of m of the rows without replacement, in units of its error
    lean = abs(skew) / variance**1.5 * abs(rows - 2 * m) / np.sqrt(n * m * rows)
    return widened_tail(z, lean)


def widened_tail(z: float, lean: float) -> float:
    """Two-sided normal tail at z >= 0 times Cramer's factor for a skewness `lean` >= 0 of the statistic; at most 1."""
    return float(min(np.exp(special.log_ndtr(-z) + np.log(2) + min(lean, 1.0) * z**3 / 6), 1.0))


# -- classifier ---------------------------------------------------------------------------------------------------


def _classifier(table: Table) -> tuple[float, float]:
    """(AUC on rows the classifier had not seen, p): two halves, each judged by what the other taught (Bonferroni over both)."""
    features = _features(table)
    n = len(table.before)
    halves = np.random.default_rng(n * 1_000_003 + len(table.now)).permuted(np.arange(len(features)) % 2)
    is_now = np.arange(len(features)) >= n
    results = []
    for half in (0, 1):
        taught, judged = halves != half, halves == half
        weights = _discriminant(features[taught & ~is_now], features[taught & is_now])
        scores = features @ weights
        results.append(_rank_sum(scores[judged & ~is_now], scores[judged & is_now]))
    auc = float(np.mean([auc for auc, _ in results]))
    return auc, min(2 * min(p for _, p in results), 1.0)


def _features(table: Table) -> NDArray[np.float64]:
    """What the classifier sees of each row, (n + m, features): products of the smooth dimensions, whitened; products of the others
    with them and, of other columns, with each other; cosines over random pairs of smooth ones."""
    z = np.nan_to_num(np.vstack([table.before, table.now]))
    smooth = np.array(table.smooth)
    numbers, levels = z[:, smooth], z[:, ~smooth]
    names = [name for name, each in zip(table.columns, table.smooth, strict=True) if not each]
    white = _whitened(numbers)
    i, j = np.triu_indices(white.shape[1])
    others = [(a, b) for a, b in combinations(range(len(names)), 2) if names[a] != names[b]]
    parts = [white[:, i] * white[:, j], (white[:, :, None] * levels[:, None, :]).reshape(len(z), -1), _waves(numbers)]
    if others:
        a, b = np.array(others).T
        parts.append(levels[:, a] * levels[:, b])
    return np.clip(np.hstack(parts), -10, 10)


def _whitened(z: NDArray[np.float64]) -> NDArray[np.float64]:
    if not z.shape[1]:
        return z
    values, vectors = np.linalg.eigh(z.T @ z / len(z))
    return np.clip(z @ vectors / np.sqrt(np.maximum(values, _LEAST_EIGENVALUE)), -5, 5)


def _waves(z: NDArray[np.float64]) -> NDArray[np.float64]:
    couples = list(combinations(range(z.shape[1]), 2))
    if not couples:
        return np.zeros((len(z), 0))
    random = np.random.default_rng(len(couples))
    first, second = np.array(couples)[random.integers(len(couples), size=_COSINES)].T
    slopes, phases = random.normal(0, 1.2, (2, _COSINES)), random.uniform(0, 2 * np.pi, _COSINES)
    return np.cos(z[:, first] * slopes[0] + z[:, second] * slopes[1] + phases)


def _discriminant(before: NDArray[np.float64], now: NDArray[np.float64]) -> NDArray[np.float64]:
    """Regularised linear discriminant: the direction (features,) in which the second set lies higher."""
    gap = now.mean(axis=0) - before.mean(axis=0)
    centred = np.vstack([before - before.mean(axis=0), now - now.mean(axis=0)])
    spread = np.maximum(centred.std(axis=0), 1e-9)
    centred = centred / spread
    rows, width = centred.shape
    covariance = centred.T @ centred / rows + (0.1 + 2 * width / rows) * np.eye(width)
    result: NDArray[np.float64] = np.linalg.solve(covariance, gap / spread) / spread
    return result


def _rank_sum(before: NDArray[np.float64], now: NDArray[np.float64]) -> tuple[float, float]:
    """(AUC, one-sided p) of scores that should be higher now, by mid-ranks."""
    n, m = len(before), len(now)
    ranks = stats.rankdata(np.concatenate([before, now]))
    auc = (float(ranks[n:].mean()) - (m + 1) / 2) / n
    p_value = permutation_p(ranks[:n], ranks[n:])
    return auc, p_value / 2 if auc > 0.5 else 1.0
