"""Alert rules: what fires, its state and value now, what it would have done, rules of one's own, and a test message."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import access
from accounts.caller import caller_of
from mlops.core import errors
from monitoring import alert_rules, backtest, measures, rule_charts, rules, trials, words
from monitoring.measures import Measure
from monitoring.models import AlertRule
from monitoring.rule_forms import OwnRuleForm, RuleForm, groups
from serving.models import Deployment, DeploymentStatus
from serving.views.deployments import get_deployment

PER_PAGE = 50


def _entry(rule: AlertRule) -> dict[str, Any]:
    """A rule as a row: its sentence, its value beside its limit."""
    unit = words.unit_of(rule)
    return {
        "rule": rule,
        "sentence": words.rule_sentence(rule),
        "value": rules.amount(rule.value, unit) if rule.value is not None else "",
        "limit": rules.amount(rule.bound, unit) if rule.bound is not None else "",
    }


@login_required
@require_safe
def deployment_rules(request: HttpRequest, org: str, name: str) -> HttpResponse:
    deployment = get_deployment(request, org, name, "deployment.view")
    entries = [_entry(rule) for rule in alert_rules.rules_of(deployment)]
    context = {
        "deployment": deployment,
        "entries": entries,
        "firing": sum(entry["rule"].enabled and entry["rule"].state == rules.State.FIRING for entry in entries),
        "may_change": caller_of(request).can("rule.write", deployment.organization_id),
    }
    return render(request, "monitoring/deployment_rules.html", context)


@login_required
@require_safe
def alert_list(request: HttpRequest, org: str) -> HttpResponse:
    """The rules of all live deployments, those that fire first."""
    organization = access.organization(caller_of(request), org, "deployment.view")
    live = AlertRule.objects.filter(organization=organization, enabled=True, deployment__status=DeploymentStatus.LIVE)
    firing = live.filter(state=rules.State.FIRING)
    rows = live.select_related("deployment").order_by("deployment__name", "kind", "name")
    if request.GET.get("state") == "firing":
        rows = rows.filter(state=rules.State.FIRING)
    page = Paginator(rows, PER_PAGE).get_page(request.GET.get("page"))
    context = {
        "page": page,
        "entries": [_entry(rule) for rule in page],
        "firing": firing.count(),
        "only_firing": request.GET.get("state") == "firing",
        "deployments": live.values("deployment").distinct().count(),
        "total": live.count(),
    }
    return render(request, "monitoring/alert_list.html", context)


# -- one rule -----------------------------------------------------------------------------------------------------


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def rule_create(request: HttpRequest, org: str, name: str) -> HttpResponse:
    """First what it is about (``?measure=psi``), then its form."""
    deployment = get_deployment(request, org, name, "rule.write")
    data = request.POST if request.method == "POST" else None
    measure = measures.known().get((data or request.GET).get("measure", ""))
    if measure is None:
        return render(request, "monitoring/rule_create.html", {"deployment": deployment, "groups": groups()})
    form = OwnRuleForm(measure, alert_rules.column_names(deployment), data=data)
    if data is not None and form.is_valid():
        made = _kept(form, lambda: alert_rules.create(deployment, caller_of(request), **form.fields_of()))
        if made:
            messages.success(request, f"{made.title}: the rule is {'on' if made.enabled else 'kept, and off'}.")
            return redirect("deployment_rules", org=org, name=name)
    context = _form_context(deployment, form, measure, None)
    return render(request, "monitoring/rule_change.html", context, status=422 if data is not None else 200)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def rule_change(request: HttpRequest, org: str, name: str, rule: str) -> HttpResponse:
    needs = "rule.write" if request.method == "POST" else "deployment.view"
    deployment = get_deployment(request, org, name, needs)
    found = alert_rules.find(deployment, rule)
    data = request.POST if request.method == "POST" else None
    measure = measures.known().get(found.measure)
    form = _form_of(found, measure, deployment, data)
    if data is not None and form.is_valid():
        kept = _kept(form, lambda: alert_rules.change_rule(found, caller_of(request), **form.fields_of()))
        if kept:
            messages.success(request, f"{kept.title}: saved.")
            return redirect("deployment_rules", org=org, name=name)
        found.refresh_from_db()
    context = _form_context(deployment, form, measure, found) | {
        "entry": _entry(found),
        "may_change": caller_of(request).can("rule.write", deployment.organization_id),
    }
    return render(request, "monitoring/rule_change.html", context, status=422 if data is not None else 200)


def _form_of(found: AlertRule, measure: Measure | None, deployment: Deployment, data: Any) -> RuleForm | OwnRuleForm:
    if found.is_own and measure is not None:
        return OwnRuleForm(measure, alert_rules.column_names(deployment), found, data)
    return RuleForm(found, data)


def _kept(form: forms.Form, act: Any) -> AlertRule | None:
    """The rule that ``act`` stored; None with the errors beside their fields."""
    try:
        return act()
    except (errors.Invalid, errors.Conflict) as error:
        fields = dict(error.fields or {}) if not isinstance(error.fields, list) else {}
        for name, texts in fields.items():
            place = name if name in form.fields else f"param_{name}"
            form.add_error(place if place in form.fields else None, texts)
        if not fields:
            form.add_error("name" if "name" in form.fields else None, error.detail)
        return None


def _form_context(
    deployment: Deployment, form: forms.Form, measure: Measure | None, found: AlertRule | None
) -> dict[str, Any]:
    return {"deployment": deployment, "form": form, "measure": measure, "rule": found, "may_change": True}


@login_required
@require_safe
def rule_backtest(request: HttpRequest, org: str, name: str) -> HttpResponse:
    """What the rule in the query would have done: a stored one (``?rule=drift``) with whatever else is in the query changed, or a
    draft of an own one. A part of the form and of the list; nothing is stored."""
    deployment = get_deployment(request, org, name, "deployment.view")
    context: dict[str, Any] = {"deployment": deployment, "brief": "brief" in request.GET}
    try:
        rule = _asked(request, deployment)
        found = backtest.run(rule)
        context |= {"rule": rule, "found": found, "fired": rule_charts.listed(found)}
        if not context["brief"]:
            context["chart"] = rule_charts.of_backtest(rule, found)
    except errors.Invalid as error:
        context["error"] = error
    part = "monitoring/_rule_backtest.html" if request.htmx else "monitoring/rule_backtest.html"
    return render(request, part, context)


def _asked(request: HttpRequest, deployment: Deployment) -> AlertRule:
    """The rule of the query. Raises Invalid for what does not make one."""
    key, query = request.GET.get("rule", ""), request.GET
    stored = alert_rules.find(deployment, key) if key else None
    if stored is not None and "threshold" not in query:
        return stored
    measure = measures.known().get(stored.measure if stored else query.get("measure", ""))
    if stored is None and measure is None:
        raise errors.Invalid("Choose what to measure.")
    named = query.copy()
    named["name"] = query.get("name") or "Draft"
    if stored is not None:
        form: RuleForm | OwnRuleForm = _form_of(stored, measure, deployment, named)
    else:
        form = OwnRuleForm(measure, alert_rules.column_names(deployment), data=named)
    if not form.is_valid():
        field, texts = next(iter(form.errors.items()))
        label = form.fields[field].label or field if field in form.fields else field
        if form.has_error(field, "required"):  # a form that is just being filled in is no mistake
            raise errors.Invalid(
                f"Fill in {str(label).lower()}, and here stands when the rule would have fired.", code="unfinished"
            )
        raise errors.Invalid(f"{str(label).capitalize()}: {texts[0]}")
    if stored is not None:
        return alert_rules.changed(stored, form.fields_of())
    return alert_rules.draft(deployment, **form.fields_of())


@login_required
@require_POST
def rule_switch(request: HttpRequest, org: str, name: str, rule: str) -> HttpResponse:
    found = alert_rules.find(get_deployment(request, org, name, "rule.write"), rule)
    found = alert_rules.change_rule(found, caller_of(request), enabled=request.POST.get("on") == "1")
    messages.success(request, f"{found.title}: {'on' if found.enabled else 'off'}.")
    return redirect("deployment_rules", org=org, name=name)


@login_required
@require_POST
def rule_test(request: HttpRequest, org: str, name: str, rule: str) -> HttpResponse:
    found = alert_rules.find(get_deployment(request, org, name, "rule.write"), rule)
    sent = trials.send(found, caller_of(request))
    messages.success(
        request,
        f"{sent} test message{'s' if sent > 1 else ''} on the way: by mail to you, and to the channels that hear of it.",
    )
    return redirect("deployment_rules", org=org, name=name)


@login_required
@require_POST
def rule_delete(request: HttpRequest, org: str, name: str, rule: str) -> HttpResponse:
    found = alert_rules.find(get_deployment(request, org, name, "rule.write"), rule)
    alert_rules.delete(found, caller_of(request))
    messages.success(request, f"{found.title}: deleted.")
    return redirect("deployment_rules", org=org, name=name)
