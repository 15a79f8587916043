"""Alert rules of a deployment: what fires, in words, and the numbers to change."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_POST, require_safe

from accounts import access
from accounts.caller import caller_of
from mlops.core import errors
from monitoring import alert_rules, services, words
from monitoring.forms import RuleForm
from monitoring.models import AlertRule
from serving.models import Deployment


def _deployment(request: HttpRequest, org: str, name: str, action: str) -> Deployment:
    return access.get(caller_of(request), Deployment.objects.with_routes(), action, organization__slug=org, name=name)


def _shown(
    request: HttpRequest, deployment: Deployment, bad: RuleForm | None = None, bad_kind: str = ""
) -> dict[str, Any]:
    entries = [
        {
            "rule": rule,
            "sentence": words.rule_sentence(rule),
            "form": bad if bad is not None and rule.kind == bad_kind else RuleForm(rule),
        }
        for rule in services.rules_of(deployment)
    ]
    may_change = caller_of(request).can("rule.write", deployment.organization_id)
    return {"deployment": deployment, "entries": entries, "may_change": may_change}


@login_required
@require_safe
def deployment_rules(request: HttpRequest, org: str, name: str) -> HttpResponse:
    deployment = _deployment(request, org, name, "deployment.view")
    return render(request, "monitoring/deployment_rules.html", _shown(request, deployment))


@login_required
@require_POST
def rule_change(request: HttpRequest, org: str, name: str, kind: str) -> HttpResponse:
    deployment = _deployment(request, org, name, "rule.write")
    if kind not in alert_rules.DEFAULTS:
        raise errors.NotFound(f"There is no rule {kind!r}.")
    rule: AlertRule = services.rule(deployment, kind)
    form = RuleForm(rule, request.POST)
    if form.is_valid():
        try:
            services.change_rule(rule, caller_of(request), **form.cleaned_data)
        except errors.Invalid as error:
            for field, texts in dict(error.fields or {}).items():
                form.add_error(field, texts)
        else:
            messages.success(request, f"{rule.get_kind_display()}: saved.")
            return redirect("deployment_rules", org=org, name=name)
    return render(request, "monitoring/deployment_rules.html", _shown(request, deployment, form, kind), status=422)
