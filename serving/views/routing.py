"""Who answers: the shares of versions, a guarded rollout, shadows, previews, pause. One page, its live part, and what one can do there."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST

from accounts import access
from accounts.caller import caller_of
from mlops.core import clock, errors
from mlops.core.errors import SlipwayError
from registry.models import ModelVersion
from serving import shadow_records, traffic
from serving.forms import PreviewForm, RolloutForm, deployable
from serving.models import Deployment, Preview, Rollout, Sticky
from serving.services import deployments, previews, rollouts, routes
from serving.services import traffic as shares
from serving.services.traffic import Wish
from serving.views.deployments import get_deployment

PERIOD = timedelta(days=7)
OBSERVED = timedelta(hours=1)
CHOICES = 8  # versions that are offered beside those of the table
_MENDABLE = (400, 409, 422)


@login_required
@require_GET
def deployment_routing(request: HttpRequest, org: str, name: str) -> HttpResponse:
    row = get_deployment(request, org, name)
    if request.htmx:
        return render(request, "serving/_routing_live.html", _live(request, row))
    return _page(request, row)


def _page(
    request: HttpRequest, row: Deployment, *, problem: SlipwayError | None = None, status: int = 200, **forms: Any
) -> HttpResponse:
    context = _live(request, row)
    lines = {route.version_id: route for route in row.routes.all()}
    offered = [route.version for route in lines.values()]
    offered += [version for version in deployable(row.organization, row.model.slug) if version.pk not in lines][
        :CHOICES
    ]
    offered.sort(key=lambda version: version.number, reverse=True)
    others = [version for version in offered if version.pk not in lines or lines[version.pk].shadow]
    living = Preview.objects.living().filter(deployment=row).select_related("version", "deployment__organization")
    context |= {
        "problem": problem,
        "table": [_field(version, lines.get(version.pk), forms.get("entered")) for version in offered],
        "sticky_choices": Sticky.choices,
        "rollout_form": forms.get("rollout_form") or RolloutForm(versions=others),
        "preview_form": forms.get("preview_form") or PreviewForm(versions=offered),
        "others": others,
        "previews": [{"row": each, "url": _absolute(request, row, each.name)} for each in living],
        "numbered": _absolute(request, row, f"v{offered[0].number}") if offered else "",
    }
    return render(request, "serving/deployment_routing.html", context, status=status)


def _absolute(request: HttpRequest, row: Deployment, name: str) -> str:
    return str(request.build_absolute_uri(previews.path_of(row, name)))


def _field(version: ModelVersion, route: Any, entered: Any) -> dict[str, Any]:
    """A line of the form: as it was entered, else as it is."""
    if entered is not None:
        return {
            "version": version,
            "weight": entered.get(f"weight_{version.number}", ""),
            "shadow": f"shadow_{version.number}" in entered,
        }
    weight = route.weight if route is not None and not route.shadow else ""
    return {"version": version, "weight": weight, "shadow": route is not None and route.shadow}


def _live(request: HttpRequest, row: Deployment) -> dict[str, Any]:
    """What changes by itself: who answers how much, the rollout, what shadows say."""
    caller = caller_of(request)
    rollout = rollouts.latest(row)
    if rollout is not None and rollouts.tick(rollout):
        row = get_deployment(request, row.organization.slug, row.name)
        rollout = rollouts.latest(row)
    seen = traffic.read(row, clock.now() - OBSERVED).versions
    total = sum(counts.requests for pk, counts in seen.items() if pk is not None)
    may_log = caller.can("logs.view", row.organization_id)
    followers = [route.version for route in row.routes.all() if route.shadow]
    return {
        "deployment": row,
        "lines": [_line(route, seen.get(route.version_id), total) for route in row.routes.all()],
        "rollout": rollout,
        "seen": rollouts.look(rollout) if rollout is not None else None,
        "steps": _steps(rollout) if rollout is not None else [],
        "shadows": [
            shadow_records.read(
                row.pk, version, clock.now() - PERIOD, examples=shadow_records.EXAMPLES if may_log else 0
            )
            for version in followers
        ],
        "may_write": caller.can("deployment.write", row.organization_id),
        "may_log": may_log,
        "moving": (rollout is not None and rollout.open) or bool(followers),
    }


def _line(route: Any, counts: traffic.Counts | None, total: int) -> dict[str, Any]:
    counts = counts or traffic.Counts()
    share = counts.requests / total if total and not route.shadow else None
    return {"route": route, "counts": counts, "share": share}


def _steps(rollout: Rollout) -> list[dict[str, Any]]:
    """The rollout as ui/_steps.html draws it."""
    found = []
    for place, share in enumerate(rollout.steps):
        if place < rollout.step or rollout.state == Rollout.State.DONE:
            status = "done"
        elif place > rollout.step:
            status = "waiting" if rollout.open else "skipped"
        else:
            status = (
                "running" if rollout.open else "failed" if rollout.state == Rollout.State.ROLLED_BACK else "skipped"
            )
        found.append({"name": "step", "label": f"{share} % of the requests", "status": status, "seconds": None})
    return found


# --- What one can do ------------------------------------------------------------------------------------------------------


def _back(row: Deployment) -> HttpResponse:
    return redirect("deployment_routing", org=row.organization.slug, name=row.name)


@login_required
@require_POST
def deployment_shares(request: HttpRequest, org: str, name: str) -> HttpResponse:
    row = get_deployment(request, org, name, "deployment.write")
    try:
        changed = shares.set_traffic(
            row, _wishes(request), caller_of(request), sticky=request.POST.get("sticky") or None
        )
    except SlipwayError as error:
        if error.status not in _MENDABLE:
            raise
        return _page(request, row, problem=error, status=error.status, entered=request.POST)
    messages.success(request, f"Traffic of {name}: {shares.told(routes.shares_of(changed))}.")
    return _back(row)


def _wishes(request: HttpRequest) -> list[Wish]:
    """Fields ``weight_3`` and ``shadow_3``. Empty ones are no lines."""
    wishes = []
    for field, text in request.POST.items():
        kind, _, number = field.partition("_")
        if kind not in ("weight", "shadow") or not number.isascii() or not number.isdigit() or len(number) > 8:
            continue
        if kind == "shadow":
            wishes.append(Wish(int(number), None, shadow=True))
        elif text.strip():
            if not text.strip().isascii() or not text.strip().isdigit() or len(text) > 8:
                raise errors.Invalid(f"The weight of version {number} is a whole number.", hint="1 to 100, or empty.")
            if int(text):
                wishes.append(Wish(int(number), int(text)))
    return wishes


@login_required
@require_POST
def deployment_rollout(request: HttpRequest, org: str, name: str) -> HttpResponse:
    row = get_deployment(request, org, name, "deployment.write")
    form = RolloutForm(request.POST, versions=deployable(row.organization, row.model.slug))
    if not form.is_valid():
        return _page(request, row, status=422, rollout_form=form)
    try:
        rollouts.start(row, form.cleaned_data["version"], caller_of(request), form.plan())
    except SlipwayError as error:
        if error.status not in _MENDABLE:
            raise
        return _page(request, row, problem=error, status=error.status, rollout_form=form)
    messages.success(request, f"The rollout of version {form.cleaned_data['version'].number} has begun.")
    return _back(row)


_ACTS = {
    "hold": (rollouts.hold, "It stays at this step."),
    "go-on": (rollouts.go_on, "The rollout goes on."),
    "promote": (rollouts.promote, "Version {} answers everything."),
    "abort": (rollouts.abort, "Version {} was taken back."),
}


@login_required
@require_POST
def deployment_rollout_act(request: HttpRequest, org: str, name: str, act: str) -> HttpResponse:
    row = get_deployment(request, org, name, "deployment.write")
    found = rollouts.latest(row)
    if found is None or act not in _ACTS:
        raise errors.NotFound(f"{name} has no rollout to {act.replace('-', ' ')}.")
    change, words = _ACTS[act]
    changed = change(found, caller_of(request))
    messages.success(request, words.format(changed.candidate.number))
    return _back(row)


@login_required
@require_POST
def deployment_pause(request: HttpRequest, org: str, name: str) -> HttpResponse:
    deployments.pause(get_deployment(request, org, name, "deployment.write"), caller_of(request))
    messages.success(request, f"{name} is paused. Its address answers 503 until it is resumed.")
    return redirect("deployment_detail", org=org, name=name)


@login_required
@require_POST
def deployment_resume(request: HttpRequest, org: str, name: str) -> HttpResponse:
    deployments.resume(get_deployment(request, org, name, "deployment.write"), caller_of(request))
    messages.success(request, f"{name} answers again.")
    return redirect("deployment_detail", org=org, name=name)


@login_required
@require_POST
def deployment_preview(request: HttpRequest, org: str, name: str) -> HttpResponse:
    row = get_deployment(request, org, name, "deployment.write")
    form = PreviewForm(request.POST, versions=deployable(row.organization, row.model.slug))
    if not form.is_valid():
        return _page(request, row, status=422, preview_form=form)
    try:
        previews.create(deployment=row, caller=caller_of(request), **form.cleaned_data)
    except SlipwayError as error:
        if error.status not in _MENDABLE:
            raise
        form.add_error("name" if isinstance(error.fields, dict) and "name" in error.fields else None, error.detail)
        return _page(request, row, status=error.status, preview_form=form)
    messages.success(request, f"The preview {form.cleaned_data['name']} answers.")
    return _back(row)


@login_required
@require_POST
def deployment_preview_delete(request: HttpRequest, org: str, name: str, preview: str) -> HttpResponse:
    row = get_deployment(request, org, name, "deployment.write")
    rows = Preview.objects.filter(deployment=row).select_related("deployment", "organization", "version")
    previews.delete(access.get(caller_of(request), rows, "deployment.write", name=preview), caller_of(request))
    messages.success(request, f"The preview {preview} is gone.")
    return _back(row)
