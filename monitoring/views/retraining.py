"""Retraining of a deployment: its runs, one of them, its policy; begin, promote, reject, cancel."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import access
from accounts.caller import Caller, caller_of
from mlops.core import errors
from monitoring import retraining_words
from monitoring.models import Incident, Retraining
from monitoring.retraining import bundles, policies, releasing, runs, training, triggers
from monitoring.retraining_form import RetrainingForm
from serving.models import Deployment
from serving.views.deployments import get_deployment

SHOWN = 20


def _run(request: HttpRequest, org: str, name: str, retraining_id: int, action: str) -> Retraining:
    rows = Retraining.objects.filter(deployment__name=name)
    return runs.read(access.get(caller_of(request), rows, action, organization__slug=org, pk=retraining_id).pk)


# -- runs -----------------------------------------------------------------------------------------------------------


@login_required
@require_GET
def deployment_retraining(request: HttpRequest, org: str, name: str) -> HttpResponse:
    deployment = get_deployment(request, org, name, "deployment.view")
    policy = policies.of(deployment)
    rows = Retraining.objects.filter(deployment=deployment).select_related("champion", "candidate")
    page = Paginator(rows, SHOWN).get_page(request.GET.get("page"))
    caller = caller_of(request)
    context = {
        "deployment": deployment,
        "policy": policy,
        "page": page,
        "incident": triggers.open_incident(deployment),
        "open": next((run for run in page if run.open), None),
        "sentence": retraining_words.policy(policy),
        "ready": retraining_words.ready(policy),
        "may_write": caller.can("deployment.write", deployment.organization_id),
    }
    return render(request, "monitoring/deployment_retraining.html", context)


@login_required
@require_GET
def retraining_detail(request: HttpRequest, org: str, name: str, retraining_id: int) -> HttpResponse:
    run = _run(request, org, name, retraining_id, "deployment.view")
    caller = caller_of(request)
    sees_log = caller.can("logs.view", run.organization_id)  # it may print rows
    if run.open and request.htmx:
        runs.go_on(run)  # only if it is due: whoever looks need not wait for the minute
    context = {
        "deployment": Deployment.objects.with_routes().get(pk=run.deployment_id),
        "run": run,
        "sentence": retraining_words.run(run),
        "steps": retraining_words.steps(run),
        "table": retraining_words.table(run),
        "checks": run.figures.get("checks") or [],
        "log": training.live_log(run) if sees_log else "",
        "may_write": caller.can("deployment.write", run.organization_id),
        "sees_log": sees_log,
        "patience": 3 if run.state not in (Retraining.State.PROPOSED, Retraining.State.APPROVAL) else 30,
    }
    template = "_retraining.html" if request.htmx else "retraining_detail.html"
    return render(request, f"monitoring/{template}", context)


@login_required
@require_http_methods(["GET", "POST"])
def deployment_retrain(request: HttpRequest, org: str, name: str) -> HttpResponse:
    """By hand; a link here leads to the page with the button. ``incident``: the one it answers."""
    deployment = get_deployment(request, org, name, "deployment.write")
    if request.method == "GET":
        return redirect("deployment_retraining", org=org, name=name)
    incident, wanted = None, request.POST.get("incident", "")
    if wanted.isdigit():
        incident = access.get(
            caller_of(request), Incident.objects.filter(deployment=deployment), "incident.view", pk=int(wanted)
        )
    try:
        run = triggers.begin_by_hand(deployment, caller_of(request), request.POST.get("reason", "")[:300], incident)
    except errors.SlipwayError as error:
        messages.error(request, f"{error.detail} {error.hint}".strip())
        return redirect("deployment_retraining", org=org, name=name)
    return redirect("retraining_detail", org=org, name=name, retraining_id=run.pk)


@login_required
@require_POST
def retraining_promote(request: HttpRequest, org: str, name: str, retraining_id: int) -> HttpResponse:
    return _acted(request, org, name, retraining_id, releasing.promote, "The candidate is on its way.")


@login_required
@require_POST
def retraining_reject(request: HttpRequest, org: str, name: str, retraining_id: int) -> HttpResponse:
    why = request.POST.get("reason", "")[:300]
    return _acted(
        request, org, name, retraining_id, lambda run, caller: releasing.reject(run, caller, why), "Rejected."
    )


@login_required
@require_POST
def retraining_cancel(request: HttpRequest, org: str, name: str, retraining_id: int) -> HttpResponse:
    return _acted(request, org, name, retraining_id, releasing.cancel, "Cancelled.")


def _acted(  # noqa: PLR0913  a place, a deed, a word
    request: HttpRequest, org: str, name: str, retraining_id: int, act: Callable[[Retraining, Caller], Any], done: str
) -> HttpResponse:  # fmt: skip
    run = _run(request, org, name, retraining_id, "deployment.write")
    try:
        act(run, caller_of(request))
        messages.success(request, done)
    except errors.SlipwayError as error:
        messages.error(request, f"{error.detail} {error.hint}".strip())
    return redirect("retraining_detail", org=org, name=name, retraining_id=retraining_id)


# -- the policy -----------------------------------------------------------------------------------------------------


@login_required
@require_http_methods(["GET", "POST"])
def retraining_policy(request: HttpRequest, org: str, name: str) -> HttpResponse:
    deployment = get_deployment(request, org, name, "deployment.write")
    policy = policies.of(deployment)
    form = RetrainingForm(policy, request.POST if request.method == "POST" else None)
    if form.is_valid():
        try:
            policies.change(deployment, caller_of(request), **form.changes())
        except errors.Invalid as error:
            for field, texts in (error.fields if isinstance(error.fields, dict) else {None: [error.detail]}).items():
                form.add_error(field if field in form.fields else None, texts)
        else:
            messages.success(request, "Saved.")
            return redirect("deployment_retraining", org=org, name=name)
    return _policy_page(request, deployment, form, status=422 if form.errors else 200)


def _policy_page(
    request: HttpRequest, deployment: Deployment, form: RetrainingForm, *, secret: str = "", bundle_error: str = "", status: int = 200
) -> HttpResponse:  # fmt: skip
    context = {
        "deployment": deployment,
        "policy": policies.of(deployment),
        "form": form,
        "secret": secret,
        "bundle_error": bundle_error,
        "endings": ",".join(policies.BUNDLE_ENDINGS),
    }
    return render(request, "monitoring/retraining_policy.html", context, status=status)


@login_required
@require_POST
def retraining_secret(request: HttpRequest, org: str, name: str) -> HttpResponse:
    """A new secret, shown on the page that answers."""
    deployment = get_deployment(request, org, name, "deployment.write")
    policy, plain = policies.new_secret(deployment, caller_of(request))
    return _policy_page(request, deployment, RetrainingForm(policy), secret=plain)


@csrf_exempt  # checked by _bundle: the check reads the body, and the body must go through our upload handler
@login_required
@require_POST
def retraining_bundle(request: HttpRequest, org: str, name: str) -> HttpResponse:
    deployment = get_deployment(request, org, name, "deployment.write")
    with bundles.upload(deployment, request):
        return _bundle(request, deployment)


@csrf_protect
def _bundle(request: HttpRequest, deployment: Deployment) -> HttpResponse:
    try:
        bundles.taken(deployment, caller_of(request), request)
    except errors.SlipwayError as error:
        form = RetrainingForm(policies.of(deployment))
        said = f"{error.detail} {error.hint}".strip()
        return _policy_page(request, deployment, form, bundle_error=said, status=error.status)
    messages.success(request, "The bundle is here.")
    return redirect("retraining_policy", org=deployment.organization.slug, name=deployment.name)


@login_required
@require_POST
def retraining_resume(request: HttpRequest, org: str, name: str) -> HttpResponse:
    deployment = get_deployment(request, org, name, "deployment.write")
    try:
        policies.resume(deployment, caller_of(request))
        messages.success(request, "It goes on.")
    except errors.Conflict as error:
        messages.error(request, error.detail)
    return redirect("deployment_retraining", org=org, name=name)
