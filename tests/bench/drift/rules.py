"""Ours and the others as functions of one window: whether they raise an alarm.

Evidently's own statistics and default limits are called column by column (``get_stattest`` chooses as its DataDriftPreset does);
``check_evidently`` holds that against whole reports. NannyML runs in an environment of its own (``nanny.py``).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from monitoring.drift import bins as binning
from monitoring.drift import psi, tests
from monitoring.drift.bins import ColumnBins, kind_for
from monitoring.drift.multivariate import judge_together
from monitoring.drift.policy import PARTS, Policy, alpha_for
from monitoring.drift.tally import Tally
from monitoring.drift.verdict import judge
from monitoring.drift.window import ColumnWindow
from tests.bench.drift.data import DataSet, Table

WINDOWS = 3  # of each check as the product runs it: hour, rule's window, week
BUDGET_DAYS = 90.0


def policy(**changed: Any) -> Policy:
    """The product's defaults: at most one false alarm in 90 days, hourly, with the columns' share of the budget."""
    return Policy(budget_days=BUDGET_DAYS, windows=WINDOWS, share=PARTS["columns"], **changed)


def plain(values: np.ndarray) -> list[Any]:
    """As JSON rows bring them: None for what is missing."""
    return [None if isinstance(value, float) and np.isnan(value) else value for value in values.tolist()]


@dataclass
class Ours:
    """The product's verdict. ``says``: a warning or drift; ``incident``: drift."""

    of: DataSet
    bins: dict[str, ColumnBins] = field(default_factory=dict)
    before: dict[str, Tally] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, values in self.of.reference.items():
            rows = plain(values)
            self.bins[name] = binning.fit(rows, kind_for(rows))
            self.before[name] = self.bins[name].tally(rows)

    def __call__(self, window: Table) -> dict[str, bool]:
        found = judge([self._column(name, values) for name, values in window.items()], policy())
        return {"ours": found.severity in ("warning", "drift"), "ours, incident": found.severity == "drift"}

    def _column(self, name: str, values: np.ndarray) -> ColumnWindow:
        return ColumnWindow(
            name, self.bins[name], self.before[name], self.bins[name].tally(plain(values)), name in self.of.outputs
        )


@dataclass
class PlainRules:
    """PSI > 0.2 as many teams have it; the same PSI with a limit that keeps our budget; KS and chi-square with our budget."""

    ours: Ours

    def __call__(self, window: Table) -> dict[str, bool]:
        alpha = policy().alpha_per_check / len(window)
        fixed, calibrated, tested = False, False, False
        for name, values in window.items():
            bins, before = self.ours.bins[name], self.ours.before[name]
            now = bins.tally(plain(values))
            value = float(psi.psi(before.counts, now.counts))
            used = int(np.count_nonzero(before.counts + now.counts))
            fixed |= value > 0.2
            chance = (1 / before.rows + 1 / now.rows) * stats.chi2.ppf(1 - alpha, max(used - 1, 1))
            calibrated |= value > chance
            tested |= self._p(name, values, before, now) <= alpha
        return {"PSI > 0.2": fixed, "PSI, calibrated": calibrated, "KS and chi-square, calibrated": tested}

    def _p(self, name: str, values: np.ndarray, before: Tally, now: Tally) -> float:
        p = tests.chi2_homogeneity(before.counts, now.counts).p_value
        if values.dtype != object:
            numbers = [each[~np.isnan(each)] for each in (self.ours.of.reference[name], values)]
            p = 2 * min(p, float(stats.ks_2samp(*numbers, method="asymp").pvalue))
        return min(p, 1.0)


class Evidently:
    """Its default tests and limits: any column drifted (what its column tests say), and its "dataset drift" (half of them)."""

    def __init__(self, of: DataSet) -> None:
        import pandas as pd

        self.reference = {name: pd.Series(values) for name, values in of.reference.items()}

    def __call__(self, window: Table) -> dict[str, bool]:
        drifted = [self._column(name, values) for name, values in window.items()]
        return {
            "Evidently, any column": any(drifted),
            "Evidently, half of the columns": sum(drifted) >= len(drifted) / 2,
        }

    def _column(self, name: str, values: np.ndarray) -> bool:
        import pandas as pd
        from evidently.legacy.calculations.stattests import get_stattest

        reference, current = self.reference[name].dropna(), pd.Series(values).dropna()
        kind = "cat" if values.dtype == object else "num"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            test = get_stattest(reference, current, kind, None)
            return bool(test(reference, current, kind, None).drifted)


class Together:
    """Ours for columns together: the multivariate test with its share of the budget, on inputs and outputs."""

    def __init__(self, ours: Ours) -> None:
        self.ours = ours
        self.before = {name: plain(values) for name, values in ours.of.reference.items()}
        self.alpha = alpha_for("multivariate", BUDGET_DAYS)

    def __call__(self, window: Table) -> dict[str, bool]:
        now = {name: plain(values) for name, values in window.items()}
        return {"ours, columns together": judge_together(self.before, now, self.ours.bins, self.alpha).moved}
