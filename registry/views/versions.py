"""One version: its facts, its live validation, and what can be done with it."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.caller import caller_of
from mlops.core import errors
from mlops.jobs.models import Job
from registry import acceleration, downloads, lookup
from registry.contents_shown import contents_of
from registry.forms import SchemaForm, VersionForm
from registry.models import Alias, ModelVersion, VersionStatus
from registry.services import aliases, versions
from registry.validation import LABELS
from registry.views import environments, governance


def _frame(request: HttpRequest, version: ModelVersion) -> dict[str, Any]:
    caller = caller_of(request)
    return {
        "version": version,
        "model": version.model,
        "organization": version.organization,
        "may_write": caller.can("model.write", version.organization),
        "may_download": caller.can("version.download", version.organization),
        "path": {"org": version.organization.slug, "model": version.model.slug, "number": version.number},
    }


def _to(name: str, version: ModelVersion) -> HttpResponse:
    return redirect(name, org=version.organization.slug, model=version.model.slug, number=version.number)


@login_required
@require_GET
def version_detail(request: HttpRequest, org: str, model: str, number: int) -> HttpResponse:
    version = lookup.version_of(request, org, model, number)
    held = {alias.name for alias in version.aliases.all()}
    context = {
        **_frame(request, version),
        "aliases": [{"name": name, "here": name in held} for name in Alias.NAMES],
        "routes": version.routes.select_related("deployment"),
        "sentence": _sentence(version),
        "key_id": ((version.signature or {}).get("signatures") or [{}])[0].get("keyid"),
        "findings": [
            {"label": LABELS.get(found.check_name, found.check_name), "row": found} for found in version.findings.all()
        ],
        **contents_of(version),
        **environments.of_version(version),
        **governance.of_version(request, version),
        **governance.lineage_of(version),
    }
    return render(request, "registry/version_detail.html", context)


def _steps(job: Job | None, version: ModelVersion) -> list[dict[str, Any]]:
    """Every check in order: as the job tells, else waiting (skipped when the validation has ended)."""
    told = {step["name"]: step for step in (job.steps if job else [])}
    rest = "skipped" if version.ended else "waiting"
    return [
        {"name": name, "status": rest, "seconds": None, **told.get(name, {}), "label": label}
        for name, label in LABELS.items()
    ]


@login_required
@require_GET
def version_validation(request: HttpRequest, org: str, model: str, number: int) -> HttpResponse:
    """Live while it runs: the part asks for itself each second and stops with the end."""
    version = lookup.version_of(request, org, model, number)
    job = versions.latest_job(version)
    steps = _steps(job, version)
    context = {
        **_frame(request, version),
        "job": job,
        "steps": steps,
        "done": sum(step["status"] in ("done", "warning") for step in steps),
        "live": not version.ended,
        "failed_finding": next((found for found in version.findings.all() if found.level == "error"), None),
        "taking": sum(step["seconds"] or 0 for step in steps),
    }
    return render(
        request, "registry/_version_validation.html" if request.htmx else "registry/version_validation.html", context
    )


@login_required
@require_POST
def version_validate(request: HttpRequest, org: str, model: str, number: int) -> HttpResponse:
    version = lookup.version_of(request, org, model, number, "model.write")
    versions.validate_again(version, caller_of(request))
    return _to("version_validation", version)


@login_required
@require_http_methods(["GET", "POST"])
def version_edit(request: HttpRequest, org: str, model: str, number: int) -> HttpResponse:
    version = lookup.version_of(request, org, model, number, "model.write")
    form = VersionForm(
        request.POST or None,
        initial={"description": version.description, "metrics": version.metrics, "tags": version.tags},
    )
    if request.method == "POST" and form.is_valid():
        versions.edit_version(version, caller_of(request), **form.cleaned_data)
        messages.success(request, "Saved.")
        return _to("version_detail", version)
    return render(
        request,
        "registry/version_edit.html",
        {**_frame(request, version), "form": form},
        status=422 if form.is_bound else 200,
    )


@login_required
@require_http_methods(["GET", "POST"])
def version_schema(request: HttpRequest, org: str, model: str, number: int) -> HttpResponse:
    """Give a failed version the schema it lacked, and validate again."""
    version = lookup.version_of(
        request, org, model, number, "model.write" if request.method == "POST" else "model.view"
    )
    form = SchemaForm(request.POST or None, initial={"schema": version.given_schema or version.schema})
    if request.method == "POST" and form.is_valid():
        versions.give_schema(version, caller_of(request), form.cleaned_data["schema"])
        versions.validate_again(version, caller_of(request))
        return _to("version_validation", version)
    context = {
        **_frame(request, version),
        "form": form,
        "editable": version.status in (VersionStatus.RECEIVED, VersionStatus.FAILED),
    }
    return render(request, "registry/version_schema.html", context, status=422 if form.is_bound else 200)


@login_required
@require_POST
def version_archive(request: HttpRequest, org: str, model: str, number: int) -> HttpResponse:
    version = versions.archive_version(
        lookup.version_of(request, org, model, number, "model.archive"), caller_of(request)
    )
    messages.success(request, f"Version {version.number} is archived. Its file is kept; restore it here any time.")
    return _to("version_detail", version)


@login_required
@require_POST
def version_restore(request: HttpRequest, org: str, model: str, number: int) -> HttpResponse:
    version = versions.restore_version(
        lookup.version_of(request, org, model, number, "model.archive"), caller_of(request)
    )
    messages.success(request, f"Version {version.number} is back.")
    return _to("version_detail", version)


@login_required
@require_POST
def version_alias(request: HttpRequest, org: str, model: str, number: int) -> HttpResponse:
    """``alias`` is set to this version, or taken away with ``remove``."""
    version = lookup.version_of(request, org, model, number, "model.write")
    name = request.POST.get("alias", "")
    if "remove" in request.POST:
        if not version.aliases.filter(name=name).exists():
            raise errors.Conflict(
                f"{version} is not {name[:20]} any more.", code="alias_moved", hint="Reload the page."
            )
        aliases.remove_alias(version.model, caller_of(request), name=name)
    else:
        aliases.set_alias(version.model, caller_of(request), name=name, version=version)
        messages.success(request, f"{name} is version {version.number} now.")
    return _to("version_detail", version)


@login_required
@require_POST
def version_acceleration(request: HttpRequest, org: str, model: str, number: int) -> HttpResponse:
    """Switch the faster form ``on`` (1) or off; the card is all that changes."""
    version = lookup.version_of(request, org, model, number, "model.write")
    versions.switch_acceleration(version, caller_of(request), on=request.POST.get("on") == "1")
    if request.htmx:
        return render(
            request, "registry/_acceleration.html", {**_frame(request, version), "sentence": _sentence(version)}
        )
    return _to("version_detail", version)


def _sentence(version: ModelVersion) -> str:
    record = version.acceleration or {}
    return acceleration.words(record) if record.get("status") == "accelerated" else str(record.get("reason", ""))


@login_required
@require_GET
def version_download(request: HttpRequest, org: str, model: str, number: int) -> HttpResponseBase:
    return downloads.stream(lookup.version_of(request, org, model, number, "version.download"))


@login_required
@require_GET
def dataset_download(request: HttpRequest, org: str, model: str, number: int, kind: str) -> HttpResponseBase:
    return downloads.stream(lookup.dataset_of(request, org, model, number, kind))
