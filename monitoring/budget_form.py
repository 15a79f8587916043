"""The form of a deployment's budget. What a value may be is decided by ``policies.change``."""

from __future__ import annotations

from typing import Any

from django import forms

from monitoring.models import WatchPolicy


class BudgetForm(forms.Form):
    budget_days = forms.IntegerField(
        label="Days for one false alarm", help_text="90 is usual. More days: quieter, and a small drift is found later."
    )
    multivariate = forms.BooleanField(
        required=False,
        label="Look at columns together",
        help_text="Finds that two columns do not follow each other any more while each looks as ever. Needs raw rows.",
    )
    fixed_psi = forms.FloatField(
        required=False,
        label="Fixed PSI limit",
        help_text="Empty: calibrated tests, which keep the budget. 0.2: the old rule, silent until there are rows enough for it.",
    )

    def __init__(self, policy: WatchPolicy, data: Any = None) -> None:
        names = ("budget_days", "multivariate", "fixed_psi")
        super().__init__(data, initial={name: getattr(policy, name) for name in names})
        self.fields["fixed_psi"].widget.attrs["step"] = "any"
