"""The verdict: did the columns move, by how much, and may we say so? Pure: tallies in, a verdict with sentences out.

Two questions, kept apart. Silence comes from significance: a column's calibrated p-value must be at most its alpha,
and the alphas come from a false-alarm budget ("at most one in N days") spread over checks, windows and columns.
Severity comes from effect size: PSI, for numbers the Wasserstein distance in standard deviations of the reference, for columns
with levels the share of rows that are in other ones.
The prediction columns are tested first: they share a quarter of alpha (Rabanser, Guennemann, Lipton 2019, "Failing
loudly": the model's output is the best single place to look), the inputs share the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from monitoring.drift import distances, tests
from monitoring.drift.causes import Cause, likely_causes, percent
from monitoring.drift.kl import kl
from monitoring.drift.limits import effective_rows, rows_for_limit
from monitoring.drift.policy import Policy
from monitoring.drift.psi import psi, psi_parts, shares
from monitoring.drift.since import change_point
from monitoring.drift.window import ColumnWindow

Severity = Literal["ok", "learning", "warning", "drift"]
# One column that still learns does not make a deployment "learning" when others can be judged.
ORDER: dict[Severity, int] = {"learning": 0, "ok": 1, "warning": 2, "drift": 3}

# From so many numbers on a side a Wasserstein distance may raise the severity; below it one outlier makes it.
LEAST_NUMBERS = 30
# Of the test of the tails, beside 1 of the others of a column.
TAILS_WEIGHT = 0.2


@dataclass(frozen=True)
class ColumnVerdict:
    """What is known of one column. Distances are None without rows, the Wasserstein ones also without numbers.

    p_value: of the column, the harmonic mean of its tests'; significant when <= alpha. psi, kl (nats), js (base e),
    hellinger as their modules say. wasserstein in the column's unit, wasserstein_normed in standard deviations of the
    reference. mix: of a column with levels, the total variation distance (0..1): the least share of rows that would have to change
    their place to get the reference's mix back. parts: what each place of labels adds to the PSI. since: start of the hour it moved in, ISO 8601;
    since_at_least: it may be older than the hours at hand.
    """

    name: str
    kind: str
    is_prediction: bool
    severity: Severity
    sentence: str
    rows: int
    reference_rows: int
    alpha: float
    significant: bool = False
    p_value: float | None = None
    chi2: float | None = None
    ks: float | None = None
    psi: float | None = None
    kl: float | None = None
    js: float | None = None
    hellinger: float | None = None
    wasserstein: float | None = None
    wasserstein_normed: float | None = None
    mix: float | None = None
    parts: tuple[float, ...] = ()
    since: str | None = None
    since_at_least: bool = False
    causes: tuple[Cause, ...] = ()

    @property
    def moved(self) -> bool:
        return self.severity in ("warning", "drift")

    def to_json(self) -> dict[str, Any]:
        """Plain JSON: finite numbers, strings, lists."""
        plain = {name: value for name, value in vars(self).items() if name not in ("causes", "parts")}
        return plain | {"parts": list(self.parts), "causes": [cause.to_json() for cause in self.causes]}


@dataclass(frozen=True)
class Verdict:
    """The deployment's verdict over one window. severity: the worst column's
    ("learning" only when every column is). columns: moved predictions first, then
    by severity and effect. sentence: the verdict in words, ready for a page or a mail. rows: of the window."""

    severity: Severity
    sentence: str
    rows: int
    min_rows: int
    alpha_per_check: float
    columns: tuple[ColumnVerdict, ...]

    @property
    def moved(self) -> tuple[ColumnVerdict, ...]:
        return tuple(column for column in self.columns if column.moved)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, with the verdict under "verdict" and the columns in order."""
        return {
            "verdict": self.severity,
            "sentence": self.sentence,
            "rows": self.rows,
            "min_rows": self.min_rows,
            "alpha_per_check": self.alpha_per_check,
            "columns": [column.to_json() for column in self.columns],
        }


def judge(columns: Sequence[ColumnWindow], policy: Policy | None = None) -> Verdict:
    """Judge one window of a deployment, all its columns together (the budget is shared among them).

    One bad column (all null, wrong type, no rows) costs that column only. Raises ValueError when a tally was not
    counted with its column's bins.
    """
    policy = policy or Policy()
    predictions = sum(column.is_prediction for column in columns)
    alpha_prediction, alpha_input = policy.alphas(predictions, len(columns) - predictions)
    judged = [judge_column(c, policy, alpha_prediction if c.is_prediction else alpha_input) for c in columns]
    judged.sort(key=_place)
    rows = max((column.rows for column in judged), default=0)
    severities: list[Severity] = [column.severity for column in judged] or ["learning"]
    severity = max(severities, key=ORDER.__getitem__)
    sentence = _sentence(judged, rows, policy)
    return Verdict(severity, sentence, rows, policy.min_rows, policy.alpha_per_check, tuple(judged))


def _place(column: ColumnVerdict) -> tuple[Any, ...]:
    """Sort key: moved ones first, of them the predictions; then by severity and effect."""
    return (
        not column.moved,
        not (column.moved and column.is_prediction),
        -ORDER[column.severity],
        -(column.psi or 0.0),
        column.name,
    )


def judge_column(column: ColumnWindow, policy: Policy, alpha: float) -> ColumnVerdict:
    """Judge one column at a given alpha (0..1): the largest chance of a false alarm it may take in this check."""
    bins, before, now = column.bins, column.reference, column.current
    if not bins.bins_id == before.bins_id == now.bins_id:
        raise ValueError(f"column {column.name!r}: its tallies were counted with other bins")
    facts: dict[str, Any] = {
        "name": column.name,
        "kind": bins.kind,
        "is_prediction": column.is_prediction,
        "rows": now.rows,
        "reference_rows": before.rows,
        "alpha": alpha,
    }
    if before.rows and now.rows:
        facts |= _measure(column)
        facts["significant"] = facts["p_value"] <= alpha
    wait = _still_learning(column, policy, alpha)
    if wait:
        return ColumnVerdict(severity="learning", sentence=wait, **facts)
    severity = _severity(column, facts, policy)
    if severity == "ok":
        return ColumnVerdict(severity=severity, sentence=_calm_sentence(column, facts, policy), **facts)
    facts |= _since(column, alpha)
    facts["causes"] = tuple(likely_causes(bins, before, now))
    return ColumnVerdict(severity=severity, sentence=_moved_sentence(facts, policy), **facts)


def _measure(column: ColumnWindow) -> dict[str, Any]:
    """Every statistic and distance of a column that has rows on both sides."""
    bins, before, now = column.bins, column.reference, column.current
    chi2 = tests.binned(before.counts, now.counts)
    ks, ordered = _ordered_tests(column) if bins.is_ordered else (None, [])
    return {
        "p_value": tests.harmonic((1.0, chi2.p_value), *ordered),
        "chi2": chi2.statistic,
        "ks": ks.statistic if ks else None,
        "psi": float(psi(before.counts, now.counts)),
        "kl": float(kl(before.counts, now.counts)),
        "js": float(distances.jensen_shannon(before.counts, now.counts)),
        "hellinger": float(distances.hellinger(before.counts, now.counts)),
        "wasserstein": distances.wasserstein_of_tallies(bins, before, now),
        "wasserstein_normed": distances.normed_wasserstein_of_tallies(bins, before, now),
        "mix": _mix(before.counts, now.counts) if bins.has_levels else None,
        "parts": tuple(psi_parts(before.counts, now.counts).tolist()),
    }


def _mix(before: NDArray[np.int64], now: NDArray[np.int64]) -> float:
    return float(np.abs(shares(before) - shares(now)).sum() / 2)


def _ordered_tests(column: ColumnWindow) -> tuple[tests.TestResult, list[tuple[float, float]]]:
    """KS, and the tests beside chi-square that use the order of the values, as (weight, p): KS on samples when they are at hand, else
    on bins or sketches, whichever sees the larger gap; the rank sum where it is calibrated; and the tails, which need little weight: what
    they see is hardly ever close."""
    places = column.bins.value_bins
    before, now = column.reference.counts[:places], column.current.counts[:places]
    if len(column.reference_sample) and len(column.current_sample):
        ks = tests.ks_samples(column.reference_sample, column.current_sample)
    else:
        ks = tests.ks_counts(before, now)
    found = []
    numbers, numbers_now = column.reference.numbers, column.current.numbers
    if numbers and numbers_now:
        ks = min(ks, tests.ks_sketches(numbers.sketch, numbers_now.sketch), key=lambda test: test.p_value)
        found.append((TAILS_WEIGHT, tests.tails(numbers.sketch, numbers_now.sketch).p_value))
    if tests.are_even(before, now):
        found.append((1.0, tests.rank_counts(before, now).p_value))
    return ks, [(1.0, ks.p_value), *found]


def _still_learning(column: ColumnWindow, policy: Policy, alpha: float) -> str | None:
    """Why nothing can be said yet, or None when it can."""
    before, now = column.reference.rows, column.current.rows
    if before < policy.min_reference_rows:
        return f"the baseline is still learning: {before:,} of {policy.min_reference_rows:,} rows"
    if now < policy.min_rows:
        return f"still learning: {now:,} of {policy.min_rows:,}"
    if policy.fixed_psi is not None:
        used = int(np.count_nonzero(column.reference.counts + column.current.counts))
        needed, have = rows_for_limit(policy.fixed_psi, used, alpha), effective_rows(before, now)
        if have < needed:
            return (f"still learning: PSI > {policy.fixed_psi:g} means something from {needed:,.0f} effective rows, "
                    f"there are {have:,.0f}")  # fmt: skip
    return None


def _severity(column: ColumnWindow, facts: dict[str, Any], policy: Policy) -> Severity:
    if policy.fixed_psi is not None:
        return "drift" if facts["psi"] > policy.fixed_psi else "ok"
    if not facts["significant"]:
        return "ok"
    distance, mix = _usable_distance(column, facts), facts["mix"] or 0.0
    if facts["psi"] >= policy.psi_drift or distance >= policy.wasserstein_drift or mix >= policy.mix_drift:
        return "drift"
    if facts["psi"] >= policy.psi_warning or distance >= policy.wasserstein_warning or mix >= policy.mix_warning:
        return "warning"
    return "ok"


def _usable_distance(column: ColumnWindow, facts: dict[str, Any]) -> float:
    before, now = column.reference.numbers, column.current.numbers
    enough = before is not None and now is not None and min(before.rows, now.rows) >= LEAST_NUMBERS
    return float(facts["wasserstein_normed"] or 0.0) if enough else 0.0


def _since(column: ColumnWindow, alpha: float) -> dict[str, Any]:
    if not column.hours:
        return {}
    steps = np.stack([hour.counts for hour in column.hours])
    point = change_point(column.reference.counts, steps, max(alpha, 1e-6))
    if point is None:
        return {}
    return {"since": column.hours[point.index].start.isoformat(), "since_at_least": point.at_start}


def _moved_sentence(facts: dict[str, Any], policy: Policy) -> str:
    limit = policy.fixed_psi if policy.fixed_psi is not None else policy.psi_drift
    how = f"PSI {_places(facts['psi'])} (limit {limit:g})"
    distance = facts["wasserstein_normed"]
    if facts["psi"] < limit and distance and distance >= policy.wasserstein_warning:
        how += f", {_places(distance)} standard deviations from the baseline"
    if facts["psi"] < limit and facts["mix"] and facts["mix"] >= policy.mix_warning:
        how += f", {percent(facts['mix'])} of the rows in other categories"
    if facts.get("since"):
        start = datetime.fromisoformat(facts["since"])
        how += f" since {'at least ' if facts['since_at_least'] else ''}{start:%H:%M} UTC on {start.day} {start:%b}"
    cause = f"; {facts['causes'][0].sentence}" if facts["causes"] else ""
    return f"`{facts['name']}` moved: {how}{cause}"


def _calm_sentence(column: ColumnWindow, facts: dict[str, Any], policy: Policy) -> str:
    if facts["significant"]:
        return f"`{column.name}` differs from the baseline, but little: PSI {_places(facts['psi'])}"
    index = column.bins.unseen_index
    unseen = int(column.current.counts[index]) if index is not None else 0
    note = f"; {percent(unseen / column.current.rows)} of the values are new, which is no drift" if unseen else ""
    return f"`{column.name}` is as the baseline: PSI {_places(facts['psi'])}{note}"


def _sentence(judged: Sequence[ColumnVerdict], rows: int, policy: Policy) -> str:
    if not judged:
        return "Nothing to compare: there are no columns with a baseline."
    moved = [column for column in judged if column.moved]
    learning = [column for column in judged if column.severity == "learning"]
    if moved:
        first = moved[0]
        others = f" {len(moved) - 1} more of {len(judged)} columns moved too." if len(moved) > 1 else ""
        predictions = [column for column in judged if column.is_prediction]
        calm = predictions and not first.is_prediction and all(column.severity == "ok" for column in predictions)
        return f"{first.sentence}.{others}" + (" The predictions have not moved." if calm else "")
    if len(learning) == len(judged):
        return f"{_capital(learning[0].sentence)}."
    named = ", ".join(f"`{column.name}`" for column in learning[:3])
    waiting = f" Still learning: {named}{' and others' if len(learning) > 3 else ''}." if learning else ""
    return f"No drift in {len(judged) - len(learning)} of {len(judged)} columns over {rows:,} rows.{waiting}"


def _places(value: float) -> str:
    return f"{value:.2f}" if value >= 0.005 or value == 0 else f"{value:.2g}"


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
