"""Deployments: the list, a new one, and the page of one with everything one can do to it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import access
from accounts.caller import caller_of
from accounts.roles import Role, Scope
from accounts.services import create_key
from mlops.core import errors, ids
from mlops.core.errors import SlipwayError
from mlops.jobs import queue
from mlops.jobs.models import Job, JobStatus
from mlops.runtime.host import get_host
from registry.models import ModelVersion, RegisteredModel
from serving import explaining, openapi, predict, protocol_snippets, snippets, traffic, tryit
from serving.api.predict import read_body, respond
from serving.forms import DeploymentForm, LimitForm, deployable
from serving.models import Deployment, DeploymentStatus
from serving.predict import Call
from serving.services import deployments, routes
from serving.services.limits import limit_deployment
from serving.services.traffic import told

PAGE_SIZE = 50
HISTORY = 20
SLOW_LOAD_MS = (
    5_000  # a version that took longer to load at its validation is deployed by a job, not while a page waits
)
SAMPLE_REQUESTS = 200


def get_deployment(request: HttpRequest, org: str, name: str, action: str = "deployment.view") -> Deployment:
    return access.get(caller_of(request), Deployment.objects.with_routes(), action, organization__slug=org, name=name)


@login_required
@require_GET
def deployment_list(request: HttpRequest, org: str) -> HttpResponse:
    organization = access.organization(caller_of(request), org, "deployment.view")
    page = Paginator(Deployment.objects.with_routes().filter(organization=organization), PAGE_SIZE).get_page(
        request.GET.get("page")
    )
    glances = traffic.glances([row.pk for row in page])
    rows = [{"deployment": row, "glance": glances[row.pk]} for row in page]
    return render(
        request,
        "serving/deployment_list.html",
        {"page": page, "rows": rows, "may_write": _may_write(request, organization.pk)},
    )


@login_required
@require_http_methods(["GET", "POST"])
def deployment_create(request: HttpRequest, org: str) -> HttpResponse:
    """``?model=`` and ``?version=`` choose beforehand: links from the model and version pages."""
    organization = access.organization(caller_of(request), org, "deployment.write")
    model = request.GET.get("model", "")
    form = DeploymentForm(
        request.POST or None, organization=organization, model_slug=model, initial=_chosen(request, organization.pk)
    )
    if form.is_valid():
        version, name = form.cleaned_data["version"], form.cleaned_data["name"]
        try:
            return _create(request, organization, version, name)
        except SlipwayError as error:
            form.add_error(
                "name" if isinstance(error.fields, dict) and "name" in error.fields else None,
                " ".join(filter(None, (error.detail, error.hint))),
            )
    context = {
        "form": form,
        "model": model,
        "has_models": RegisteredModel.objects.filter(organization=organization).exists(),
    }
    return render(request, "serving/deployment_create.html", context, status=422 if form.errors else 200)


def _chosen(request: HttpRequest, organization_id: int) -> dict[str, Any]:
    model, number = request.GET.get("model", ""), request.GET.get("version", "")
    if not model:
        return {}
    initial: dict[str, Any] = {"name": ids.to_slug(model, "")}
    if number.isdigit():
        found = ModelVersion.objects.filter(
            organization_id=organization_id, model__slug=model, number=int(number)
        ).first()
        initial["version"] = found.pk if found else None
    return initial


def _create(request: HttpRequest, organization: Any, version: ModelVersion, name: str) -> HttpResponse:
    caller = caller_of(request)
    if _slow(version):
        if Deployment.objects.filter(organization=organization, name=name).exists():
            raise errors.Conflict(f"There is a deployment {name!r} already.", fields={"name": ["This name is taken."]})
        deployments.reserve_deployment(organization=organization, name=name, model=version.model, caller=caller)
        _deploy_by_job(version, name, caller)
    else:
        deployments.create_deployment(organization=organization, name=name, version=version, caller=caller)
        messages.success(request, f"{name} is live.")
    return redirect("deployment_detail", org=organization.slug, name=name)


def _slow(version: ModelVersion) -> bool:
    return float(version.profile.get("load_ms") or 0) > SLOW_LOAD_MS


def _deploy_by_job(version: ModelVersion, name: str, caller: Any) -> None:
    args: dict[str, int | str | bool] = {"version_id": version.pk, "deployment": name}
    queue.enqueue(
        "deploy_version", organization=version.organization, subject=version, args=args, created_by=caller.user
    )


@login_required
@require_GET
def deployment_detail(request: HttpRequest, org: str, name: str) -> HttpResponse:
    row = get_deployment(request, org, name)
    context = _status_context(request, row)
    if request.htmx:
        return render(request, "serving/_deployment_status.html", context)
    version = row.live_version
    if version is not None and version.schema is not None:
        described = openapi.describe(row)
        context |= {
            "tryit": tryit.form_of(version.schema, described.example),
            "described": described,
            **_snippets(row, context["url"], described.example),
        }
    releases = row.releases.select_related("version").order_by("-number")[:HISTORY]
    context |= {
        "releases": releases,
        "previous": deployments.previous(row),
        "choices": [
            each for each in deployable(row.organization, row.model.slug) if each != version or context["shared"]
        ]
        if context["may_write"]
        else [],
    }
    return render(request, "serving/deployment_detail.html", context)


def _status_context(request: HttpRequest, row: Deployment) -> dict[str, Any]:
    """What the live part shows: state, address, and the one next step."""
    version = row.live_version
    moving = Job.objects.filter(
        kind="deploy_version",
        organization=row.organization,
        args__deployment=row.name,
        status__in=(JobStatus.QUEUED, JobStatus.RUNNING),
    ).first()
    return {
        "deployment": row,
        "version": version,
        "split": _split(row),
        "shared": len(routes.answering(row)) > 1,
        "moving": moving,
        "resident": _resident(version) if version is not None and row.status == DeploymentStatus.LIVE else None,
        "url": request.build_absolute_uri(row.predict_path),
        "waiting": moving is not None
        or row.status == DeploymentStatus.STARTING
        or (row.status == DeploymentStatus.LIVE and row.first_call_at is None),
        "may_write": _may_write(request, row.organization_id),
        "may_key": caller_of(request).can("keys.manage", row.organization_id),
    }


def _split(row: Deployment) -> str:
    """The shares in words, when more than one version is asked."""
    found = routes.shares_of(row)
    return told(found) if len(found) > 1 else ""


def _resident(version: ModelVersion) -> dict[str, Any]:
    """How the model host has this version: ``{"ready", "entry"}``; entry is None while it is not in memory."""
    status = get_host().status()
    prefix = f"v-{version.pk}-"
    entry = next((each for each in status["entries"] if str(each["key"]).startswith(prefix)), None)
    return {"ready": status["ready"], "entry": entry}


def _may_write(request: HttpRequest, organization_id: int) -> bool:
    return caller_of(request).can("deployment.write", organization_id)


def _snippets(row: Deployment, url: str, example: dict[str, Any], key: str = "") -> dict[str, Any]:
    schema = (row.live_version.schema if row.live_version else None) or {}
    return {
        "curl": snippets.curl(url, example, key),
        "python": snippets.python(url, example, key),
        "snippets": protocol_snippets.others(url, row.name, schema, example, key),
    }


@login_required
@require_POST
def deployment_deploy(request: HttpRequest, org: str, name: str) -> HttpResponse:
    row = get_deployment(request, org, name, "deployment.write")
    rows = ModelVersion.objects.select_related("model", "organization")
    version = access.get(caller_of(request), rows, "model.view", pk=_number(request, "version"), organization__slug=org)
    if _slow(version):
        deployments.reserve_deployment(
            organization=row.organization, name=row.name, model=version.model, caller=caller_of(request)
        )
        _deploy_by_job(version, row.name, caller_of(request))
        messages.info(request, f"Version {version.number} is being loaded. {name} switches when it is ready.")
    else:
        deployments.deploy_version(row, version, caller_of(request))
        messages.success(request, f"Version {version.number} is live.")
    return redirect("deployment_detail", org=org, name=name)


@login_required
@require_POST
def deployment_rollback(request: HttpRequest, org: str, name: str) -> HttpResponse:
    row = get_deployment(request, org, name, "deployment.write")
    changed = deployments.roll_back(
        row, caller_of(request), to=_number(request, "to") if request.POST.get("to") else None
    )
    messages.success(request, f"Rolled back: version {changed.live_version.number} is live.")
    return redirect("deployment_detail", org=org, name=name)


@login_required
@require_POST
def deployment_stop(request: HttpRequest, org: str, name: str) -> HttpResponse:
    deployments.stop(get_deployment(request, org, name, "deployment.write"), caller_of(request))
    messages.success(request, f"{name} is stopped. Its address answers 503 until it is started.")
    return redirect("deployment_detail", org=org, name=name)


@login_required
@require_POST
def deployment_start(request: HttpRequest, org: str, name: str) -> HttpResponse:
    deployments.start(get_deployment(request, org, name, "deployment.write"), caller_of(request))
    messages.success(request, f"{name} is live again.")
    return redirect("deployment_detail", org=org, name=name)


@login_required
@require_POST
def deployment_limit(request: HttpRequest, org: str, name: str) -> HttpResponse:
    row, form = get_deployment(request, org, name, "deployment.write"), LimitForm(request.POST)
    if not form.is_valid():
        raise errors.Invalid("Predictions a minute is a whole number from 1, or empty.", fields=dict(form.errors))
    limit_deployment(row, caller_of(request), calls_per_minute=form.cleaned_data["calls_per_minute"])
    messages.success(request, f"The limit of {name} was changed.")
    return redirect("deployment_detail", org=org, name=name)


def _number(request: HttpRequest, field: str) -> int:
    text = request.POST.get(field, "")
    if not text.isdigit() or len(text) > 12:
        raise errors.Invalid(f"{field} is not a number.", fields={field: ["Choose one from the list."]})
    return int(text)


@login_required
@require_POST
def deployment_try(request: HttpRequest, org: str, name: str) -> HttpResponse:
    """The try-it form: a signed-in person through the same predict function as every API call."""
    return respond(predict.answer(_tried(request, org, name)))


@login_required
@require_POST
def deployment_why(request: HttpRequest, org: str, name: str) -> HttpResponse:
    """Why the form's row is answered so: the same explanation as the API's."""
    return respond(explaining.answer(_tried(request, org, name)))


def _tried(request: HttpRequest, org: str, name: str) -> Call:
    return Call(
        caller=caller_of(request),
        organization=org,
        deployment=name,
        read=lambda: read_body(request),
        content_type=request.META.get("CONTENT_TYPE", ""),
        request_id=request.request_id,
        via="page",
    )


@login_required
@require_POST
@never_cache
def deployment_key(request: HttpRequest, org: str, name: str) -> HttpResponse:
    """A key for this deployment only, shown this once, inside the snippets."""
    row = get_deployment(request, org, name)
    caller = caller_of(request)
    organization = access.organization(caller, org, "keys.manage")
    _, key = create_key(
        organization,
        caller,
        name=f"{name} (from its page)",
        scopes=[Scope.PREDICT.value],
        role=Role.VIEWER,
        deployment=name,
    )
    example = openapi.describe(row).example
    url = request.build_absolute_uri(row.predict_path)
    return render(
        request,
        "serving/_deployment_call.html",
        {"deployment": row, "key": key, "url": url, **_snippets(row, url, example, key)},
    )


@login_required
@require_POST
def deployment_samples(request: HttpRequest, org: str, name: str) -> HttpResponse:
    """Send sample requests through the real path, in the background."""
    row = get_deployment(request, org, name, "deployment.write")
    if row.status != DeploymentStatus.LIVE:
        raise errors.Conflict(f"{name} is not live.", code="not_live", hint="Start it first.")
    args: dict[str, int | str | bool] = {"deployment_id": row.pk, "count": SAMPLE_REQUESTS}
    queue.enqueue(
        "send_samples", organization=row.organization, subject=row, args=args, created_by=caller_of(request).user
    )
    messages.info(request, f"{SAMPLE_REQUESTS} sample requests are on their way.")
    return redirect(reverse("deployment_traffic", kwargs={"org": org, "name": name}))


@login_required
@require_GET
def deployment_docs(request: HttpRequest, org: str, name: str) -> HttpResponse:
    described = openapi.described(caller_of(request), org, name)
    document = openapi.document(described, request.build_absolute_uri("/").rstrip("/"))
    return render(request, "serving/docs.html", {"document": document, "deployment": described.deployment})
