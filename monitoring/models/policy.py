"""How a deployment is watched: its budget of false alarms, and what is looked at."""

from __future__ import annotations

from django.db import models

from accounts.scoping import OrgOwned
from monitoring.drift import policy as budget

DEFAULT_DAYS = 90


class WatchPolicy(OrgOwned):
    """THE budget of a deployment; ``monitoring.policies.of`` gives it, also where nobody has changed anything."""

    deployment = models.OneToOneField("serving.Deployment", on_delete=models.CASCADE, related_name="watch_policy")
    budget_days = models.PositiveIntegerField(
        default=DEFAULT_DAYS,
        help_text="At most one false alarm in so many days, over all that watches this deployment.",
    )
    fixed_psi = models.FloatField(
        null=True, blank=True, help_text="Instead of calibrated tests: drift is PSI above this limit."
    )
    multivariate = models.BooleanField(
        default=True, help_text="Also look at whether the columns move together as before."
    )

    class Meta:
        verbose_name = "watch policy"
        constraints = (
            models.CheckConstraint(condition=models.Q(budget_days__gte=1), name="watch_budget_days"),
            models.CheckConstraint(
                condition=models.Q(fixed_psi__isnull=True) | models.Q(fixed_psi__gt=0), name="watch_fixed_psi"
            ),
        )

    def __str__(self) -> str:
        return f"{self.deployment}: one false alarm in {self.budget_days} days"

    def alpha_for(self, part: budget.Part, *, looks_per_day: float = budget.LOOKS_PER_DAY, versions: int = 1) -> float:
        """The chance of a false alarm that one look of this part ("columns", "multivariate", "quality") at one of the
        answering versions may take (monitoring/drift/policy.py says how the budget is spread)."""
        return budget.alpha_for(
            part,
            self.budget_days,
            looks_per_day=looks_per_day,
            versions=versions,
            multivariate=self.multivariate,
        )
