"""The budget of false alarms of a deployment: what it is, how it is spread, and the form that changes it."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from accounts import access
from accounts.caller import caller_of
from mlops.core import errors
from monitoring import alert_rules, lookback, policies
from monitoring.budget_form import BudgetForm
from monitoring.drift.policy import PREDICTIONS_SHARE
from monitoring.models import AlertRule
from serving.models import Deployment


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def deployment_budget(request: HttpRequest, org: str, name: str) -> HttpResponse:
    """Everybody of the organisation may look; a developer changes it."""
    caller = caller_of(request)
    action = "rule.write" if request.method == "POST" else "deployment.view"
    deployment = access.get(caller, Deployment.objects.with_routes(), action, organization__slug=org, name=name)
    policy = policies.of(deployment)
    form = BudgetForm(policy, request.POST if request.method == "POST" else None)
    if request.method == "POST" and form.is_valid():
        try:
            policies.change(deployment, caller, **form.cleaned_data)
        except errors.Invalid as error:
            for field, texts in dict(error.fields or {}).items():
                form.add_error(field, texts)
        else:
            messages.success(request, "The budget is saved; it holds from the next check on.")
            return redirect("deployment_budget", org=org, name=name)
    rule = alert_rules.rule(deployment, AlertRule.Kind.DRIFT)
    context = {
        "deployment": deployment,
        "policy": policy,
        "form": form,
        "may_change": caller.can("rule.write", deployment.organization_id),
        "spread": policies.spread(deployment, policy),
        "windows": [lookback.named(minutes) for minutes in lookback.lengths(rule.window_minutes)],
        "outputs_share": PREDICTIONS_SHARE,
    }
    return render(request, "monitoring/deployment_budget.html", context, status=422 if form.errors else 200)
