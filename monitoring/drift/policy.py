"""What the owner of a deployment chose: the budget of false alarms, and from where a move counts. Plain numbers, no scipy.

The budget says: at most one false alarm in `budget_days`, over all that watches one deployment. By the union bound the
expected number of false alarms is at most the sum of the alphas of all looks taken in that time, whatever the
dependence between them; so the sum is what is spread:

    1 / budget_days per day
      / looks a day (24)
      x the part's share: columns 1/2, multivariate 1/4, quality 1/4 (multivariate off: its share goes to the columns)
      / versions that answer (each is looked at)
      / windows (the last hour, the rule's own window, the last seven days)
      x 1/4 for the predictions, x 3/4 for the inputs, shared equally among the columns of each

A check asked for by hand is a look of its own beside these: whoever asks looks at the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Part = Literal["columns", "multivariate", "quality"]
PARTS: dict[Part, float] = {"columns": 0.5, "multivariate": 0.25, "quality": 0.25}
# Of the columns' part, for the model's outputs.
PREDICTIONS_SHARE = 0.25
LOOKS_PER_DAY = 24.0
# However few looks there are: a look that is wrong one time in twenty tells nobody anything.
LARGEST_ALPHA = 0.05


def share_of(part: Part, *, multivariate: bool = True) -> float:
    """The part's share of the budget (0..1); without the multivariate test its share is the columns'."""
    if multivariate:
        return PARTS[part]
    return {"columns": PARTS["columns"] + PARTS["multivariate"], "multivariate": 0.0}.get(part, PARTS[part])


def alpha_for(
    part: Part,
    budget_days: float,
    *,
    looks_per_day: float = LOOKS_PER_DAY,
    versions: int = 1,
    multivariate: bool = True,
) -> float:
    """The chance of a false alarm that one look of this part at one version may take.

    looks_per_day: how often the part looks. versions: how many share the deployment's requests. Raises ValueError for an
    unknown part, or numbers not above 0.
    """
    if part not in get_args(Part):
        raise ValueError(f"unknown part {part!r}: one of {', '.join(PARTS)}")
    if min(budget_days, looks_per_day, versions) <= 0:
        raise ValueError("days, looks and versions must be above 0")
    share = share_of(part, multivariate=multivariate)
    return min(share / (budget_days * looks_per_day * versions), LARGEST_ALPHA)


@dataclass(frozen=True)
class Policy:
    """What a deployment's owner chose. Raises ValueError for values that make no sense.

    budget_days: at most one false alarm in so many days, over the whole deployment. checks_per_day, windows: how often
    it is checked, over how many windows each (hour, day, week: 3). versions: how many answer. share: the columns' part
    of the budget (see alpha_for). min_rows, min_reference_rows: below these the
    answer is "learning". psi_warning, psi_drift: PSI from which a significant move is called so; the same for
    wasserstein_* in standard deviations of the reference (0.1 is Evidently's limit, 0.5
    about the shift at which PSI passes 0.2). mix_*: share of the rows that are in other categories than before, for columns with levels.
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
    mix_warning: float = 0.05
    mix_drift: float = 0.2
    fixed_psi: float | None = None
    versions: int = 1
    share: float = 1.0

    def __post_init__(self) -> None:
        positive = (self.budget_days, self.checks_per_day, self.windows, self.min_rows, self.min_reference_rows,
                    self.psi_warning, self.wasserstein_warning, self.mix_warning, self.versions, self.share)  # fmt: skip
        if min(positive) <= 0 or (self.fixed_psi is not None and self.fixed_psi <= 0):
            raise ValueError("days, checks, windows, rows, versions, the share and limits must be above 0")
        if self.share > 1:
            raise ValueError("the share of the budget may not be above 1")
        limits = (
            (self.psi_warning, self.psi_drift),
            (self.wasserstein_warning, self.wasserstein_drift),
            (self.mix_warning, self.mix_drift),
        )
        if any(drift < warning for warning, drift in limits):
            raise ValueError("the limit for drift may not be below the limit for a warning")

    @property
    def alpha_per_check(self) -> float:
        """Chance of a false alarm that one check of one window of one version may take: expected false alarms in
        budget_days are at most 1, whatever the dependence between checks. At most 0.05, however few checks there are."""
        looks = self.budget_days * self.checks_per_day * self.windows * self.versions
        return min(self.share / looks, LARGEST_ALPHA)

    def alphas(self, predictions: int, inputs: int) -> tuple[float, float]:
        """Alpha of one prediction column and of one input column: PREDICTIONS_SHARE of the check's alpha for the outputs (one or
        two columns, that get more than each of many inputs so), the rest for the inputs; all of it for the only group there is."""
        alpha = self.alpha_per_check
        outputs = PREDICTIONS_SHARE if inputs else 1.0
        rest = 1.0 - PREDICTIONS_SHARE if predictions else 1.0
        return alpha * outputs / max(predictions, 1), alpha * rest / max(inputs, 1)
