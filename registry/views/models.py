"""Models and projects."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.forms import model_to_dict
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import access
from accounts.caller import caller_of
from mlops.core import errors
from registry import lookup, snippets
from registry.forms import ModelForm, PolicyForm, ProjectForm
from registry.models import Dataset, ModelVersion, Project, RegisteredModel, VersionStatus
from registry.services import models, policies, projects, stages

PAGE = 25
FILTERS = ("q", "project", "status", "framework", "tag")


@login_required
@require_GET
def model_list(request: HttpRequest, org: str) -> HttpResponse:
    organization = access.organization(caller_of(request), org, "model.view")
    everything = RegisteredModel.objects.filter(organization=organization)
    wanted = {name: request.GET.get(name, "").strip()[:120] for name in FILTERS}
    rows = everything.with_latest().matching(**wanted).select_related("project").prefetch_related("aliases__version")
    context = {
        "organization": organization,
        "page": Paginator(rows.order_by("-updated_at", "-pk"), PAGE).get_page(request.GET.get("page")),
        "wanted": wanted,
        "filtered": any(wanted.values()),
        "any_model": everything.exists(),
        "projects": Project.objects.filter(organization=organization, archived_at__isnull=True),
        "statuses": [choice for choice in VersionStatus.choices if choice[0] != "received"],
        "frameworks": _frameworks(organization.pk),
        "snippet": snippets.push(organization),
        "may_write": caller_of(request).can("model.write", organization),
    }
    return render(request, "registry/_model_list.html" if request.htmx else "registry/model_list.html", context)


def _frameworks(organization_id: int) -> list[str]:
    rows = ModelVersion.objects.filter(organization=organization_id).exclude(framework="")
    return list(rows.order_by("framework").values_list("framework", flat=True).distinct())


def frame(request: HttpRequest, model: RegisteredModel, tab: str) -> dict[str, object]:
    """What every tab of a model shows."""
    caller = caller_of(request)
    return {
        "model": model,
        "organization": model.organization,
        "tab": tab,
        "may_write": caller.can("model.write", model.organization),
        "version_count": model.version_count,
    }


@login_required
@require_GET
def model_detail(request: HttpRequest, org: str, model: str) -> HttpResponse:
    row = lookup.model_of(request, org, model)
    rows = list(row.versions.prefetch_related("aliases", "findings", "datasets").order_by("-number")[:5])
    ready = row.versions.deployable().prefetch_related("datasets").order_by("-number").first()
    context = {
        **frame(request, row, "overview"),
        "versions": rows,
        "latest": rows[0] if rows else None,
        "ready": ready,
        "deployments": row.deployments.all(),
        "snippet": snippets.push(row.organization, row.slug),
    }
    return render(request, "registry/model_detail.html", context)


@login_required
@require_GET
def model_versions(request: HttpRequest, org: str, model: str) -> HttpResponse:
    row = lookup.model_of(request, org, model)
    rows = row.versions.select_related("created_by").prefetch_related("aliases").order_by("-number")
    context = {**frame(request, row, "versions"), "page": Paginator(rows, PAGE).get_page(request.GET.get("page"))}
    return render(request, "registry/model_versions.html", context)


@login_required
@require_http_methods(["GET", "POST"])
def model_settings(request: HttpRequest, org: str, model: str) -> HttpResponse:
    row = lookup.model_of(request, org, model, "model.write")
    form = _model_form(row, request.POST or None)
    if request.method == "POST" and form.is_valid():
        wanted = form.cleaned_data["project"] or row.project.slug
        project = Project.objects.get(organization=row.organization, archived_at__isnull=True, slug=wanted)
        models.edit_model(row, caller_of(request), **{**form.cleaned_data, "project": project})
        messages.success(request, "Saved.")
        return redirect("model_settings", org=org, model=model)
    return settings_page(request, row, form)


def settings_page(
    request: HttpRequest, row: RegisteredModel, form: ModelForm | None = None, policy_form: PolicyForm | None = None
) -> HttpResponse:
    """Both forms of the page; the one that was sent and refused as it was sent."""
    refused = any(each is not None and each.is_bound for each in (form, policy_form))
    context = {
        **frame(request, row, "settings"),
        "form": form or _model_form(row),
        "policy_form": policy_form or PolicyForm(initial=model_to_dict(stages.policy_of(row), fields=policies.FIELDS)),
        "may_rule": caller_of(request).can("org.manage", row.organization_id),
    }
    return render(request, "registry/model_settings.html", context, status=422 if refused else 200)


def _model_form(row: RegisteredModel, data: QueryDict | None = None) -> ModelForm:
    known = Project.objects.filter(organization=row.organization, archived_at__isnull=True)
    initial = {"name": row.name, "description": row.description, "tags": row.tags, "project": row.project.slug}
    return ModelForm(data, projects=list(known), initial=initial)


@login_required
@require_POST
def model_archive(request: HttpRequest, org: str, model: str) -> HttpResponse:
    row = models.archive_model(lookup.model_of(request, org, model, "model.archive"), caller_of(request))
    messages.success(request, f"{row.name} is archived. Restore it any time from the list, status Archived.")
    return redirect("model_list", org=org)


@login_required
@require_POST
def model_restore(request: HttpRequest, org: str, model: str) -> HttpResponse:
    row = models.restore_model(lookup.model_of(request, org, model, "model.archive"), caller_of(request))
    messages.success(request, f"{row.name} is back.")
    return redirect("model_detail", org=org, model=model)


@login_required
@require_http_methods(["GET", "POST"])
def project_list(request: HttpRequest, org: str) -> HttpResponse:
    caller = caller_of(request)
    organization = access.organization(caller, org, "model.write" if request.method == "POST" else "model.view")
    form = ProjectForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            project = projects.create_project(organization, caller, **form.cleaned_data)
        except (errors.Invalid, errors.Conflict) as error:
            form.add_error("slug", f"{error.detail} {error.hint}".strip())
        else:
            messages.success(request, f"Project {project.name} is there.")
            return redirect("project_list", org=org)
    context = {
        "organization": organization,
        "projects": Project.objects.filter(organization=organization, archived_at__isnull=True).with_counts(),
        "form": form,
        "may_write": caller.can("model.write", organization),
    }
    return render(request, "registry/project_list.html", context, status=422 if form.is_bound else 200)


@login_required
@require_GET
def dataset_list(request: HttpRequest, org: str) -> HttpResponse:
    organization = access.organization(caller_of(request), org, "dataset.view")
    rows = Dataset.objects.filter(organization=organization).select_related("version__model").order_by("-pk")
    context = {"organization": organization, "page": Paginator(rows, PAGE).get_page(request.GET.get("page"))}
    return render(request, "registry/dataset_list.html", context)
