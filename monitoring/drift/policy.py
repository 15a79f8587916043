"""What the owner of a deployment chose: the budget of false alarms, and from where a move counts. Plain numbers, no scipy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Policy:
    """What a deployment's owner chose. Raises ValueError for values that make no sense.

    budget_days: at most one false alarm in so many days, over the whole deployment. checks_per_day, windows: how often
    it is checked, over how many windows each (hour, day, week: 3). min_rows, min_reference_rows: below these the
    answer is "learning". psi_warning, psi_drift: PSI from which a significant move is called so; the same for
    wasserstein_* in standard deviations of the reference (0.1 is Evidently's limit, 0.5
    about the shift at which PSI passes 0.2).
    fixed_psi: instead of all this, the seeds' rule PSI > limit, silent until it can mean something.
    """

    budget_days: float = 90.0
    checks_per_day: float = 24.0
    windows: int = 1
    min_rows: int = 300
    min_reference_rows: int = 50
    psi_warning: float = 0.1
    psi_drift: float = 0.2
    wasserstein_warning: float = 0.1
    wasserstein_drift: float = 0.5
    fixed_psi: float | None = None

    def __post_init__(self) -> None:
        positive = (self.budget_days, self.checks_per_day, self.windows, self.min_rows, self.min_reference_rows,
                    self.psi_warning, self.wasserstein_warning)  # fmt: skip
        if min(positive) <= 0 or (self.fixed_psi is not None and self.fixed_psi <= 0):
            raise ValueError("days, checks, windows, rows and limits must be above 0")
        if self.psi_drift < self.psi_warning or self.wasserstein_drift < self.wasserstein_warning:
            raise ValueError("the limit for drift may not be below the limit for a warning")

    @property
    def alpha_per_check(self) -> float:
        """Chance of a false alarm that one check of one window may take: expected false alarms in budget_days are at
        most 1, whatever the dependence between checks. At most 0.05, however few checks there are."""
        return min(1.0 / (self.budget_days * self.checks_per_day * self.windows), 0.05)

    def alphas(self, predictions: int, inputs: int) -> tuple[float, float]:
        """Alpha of one prediction column and of one input column: halves of the check's alpha, shared equally; all of
        it for the only group there is."""
        alpha = self.alpha_per_check
        half = alpha / 2 if predictions and inputs else alpha
        return half / max(predictions, 1), half / max(inputs, 1)
