"""What of a deployment's predictions is kept: its policy, its archives, deletions on request."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import access
from accounts.caller import caller_of
from mlops.core.errors import Invalid, SlipwayError
from serving import certificates, log_care_words, matching
from serving.api.log_data import archive_file, certificate_file
from serving.log_forms import DeletionForm, PolicyForm
from serving.models import Deployment, LogArchive, LogDeletion
from serving.services import log_deletions, log_policies
from serving.views.deployments import get_deployment

ARCHIVES, DELETIONS = 50, 20


@login_required
@require_http_methods(["GET", "POST"])
def deployment_data(request: HttpRequest, org: str, name: str) -> HttpResponse:
    """The policy's form, archives, deletions."""
    row = get_deployment(request, org, name, "logs.view")
    columns = log_policies.columns_of(row)
    policy = log_policies.of(row)
    if request.method == "GET":
        return _page(request, row, PolicyForm.of(policy, columns))
    access.organization(caller_of(request), org, "deployment.write")
    form = PolicyForm(request.POST, columns=columns, policy=policy)
    if form.is_valid():
        try:
            log_policies.change(row, caller_of(request), **form.wishes())
        except Invalid as error:
            form.add_error(None, error.detail)
        else:
            messages.success(
                request,
                "Saved. It holds for what comes from now on; the sample and the retention also for what is there.",
            )
            return redirect("deployment_data", org=org, name=name)
    return _page(request, row, form, status=422)


def _page(
    request: HttpRequest, row: Deployment, form: PolicyForm, deletion: DeletionForm | None = None, status: int = 200
) -> HttpResponse:
    caller, policy = caller_of(request), log_policies.of(row)
    archives = LogArchive.objects.filter(deployment=row)
    context = {
        "deployment": row,
        "policy": policy,
        "sentence": log_care_words.sentence(policy),
        "form": form,
        "deletion_form": deletion or DeletionForm(columns=form.columns),
        "archives": Paginator(archives, ARCHIVES).get_page(request.GET.get("page")),
        "archived": log_care_words.totals(archives),
        "deletions": LogDeletion.objects.filter(deployment=row)[:DELETIONS],
        "may_change": caller.can("deployment.write", row.organization_id),
        "may_delete": caller.can("logs.delete", row.organization_id),
    }
    return render(request, "serving/deployment_data.html", context, status=status)


@login_required
@require_GET
def deployment_archive(request: HttpRequest, org: str, name: str, archive_id: int) -> StreamingHttpResponse:
    row = get_deployment(request, org, name, "logs.view")
    found = access.get(caller_of(request), LogArchive.objects.filter(deployment=row), "logs.view", pk=archive_id)
    return archive_file(row, found)


# -- deletion -------------------------------------------------------------------------------------------------------------


def _deletion(request: HttpRequest, org: str, name: str, deletion_id: int, action: str) -> LogDeletion:
    row = get_deployment(request, org, name, action)
    rows = LogDeletion.objects.filter(deployment=row).select_related("deployment", "organization", "job")
    return access.get(caller_of(request), rows, action, pk=deletion_id)


@login_required
@require_POST
def deployment_deletions(request: HttpRequest, org: str, name: str) -> HttpResponse:
    """Have the rows counted that a deletion would mean; its page shows the number, and asks."""
    row = get_deployment(request, org, name, "logs.delete")
    columns = log_policies.columns_of(row)
    form = DeletionForm(request.POST, columns=columns)
    if form.is_valid():
        try:
            made = log_deletions.request(row, caller_of(request), **wishes(form.cleaned_data))
        except SlipwayError as error:
            form.add_error(None, f"{error.detail} {error.hint}".strip())
        else:
            return redirect("deployment_deletion", org=org, name=name, deletion_id=made.pk)
    return _page(request, row, PolicyForm.of(log_policies.of(row), columns), form, status=422)


def wishes(data: dict[str, Any]) -> dict[str, Any]:
    """A form's fields as ``log_deletions.request`` takes them: a text may mean a number, too."""
    ids: list[uuid.UUID] = data["ids"]
    values = matching.meant_by(data["value"]) if data["column"] else ([data["value"]] if data["value"] else [])
    return {"ids": ids, "column": data["column"], "values": values, "since": data["since"], "until": data["until"]}


@login_required
@require_GET
def deployment_deletion(request: HttpRequest, org: str, name: str, deletion_id: int) -> HttpResponse:
    row = _deletion(request, org, name, deletion_id, "logs.view")
    context = {
        "deployment": row.deployment,
        "deletion": row,
        "criteria": certificates.criteria(row.told),
        "found": certificates.counted(row.found),
        "deleted": certificates.counted(row.deleted),
        "hidden": row.found.get("hidden", 0),
        "nothing": not row.found.get("rows") and not row.found.get("archived_rows"),
        "may_delete": caller_of(request).can("logs.delete", row.organization_id),
    }
    template = "serving/_deployment_deletion.html" if request.htmx else "serving/deployment_deletion.html"
    return render(request, template, context)


@login_required
@require_POST
def deployment_deletion_act(request: HttpRequest, org: str, name: str, deletion_id: int, act: str) -> HttpResponse:
    """``confirm``, ``cancel``, or ``again`` for one that failed."""
    row = _deletion(request, org, name, deletion_id, "logs.delete")
    log_deletions.act(row, act, caller_of(request))
    return redirect("deployment_deletion", org=org, name=name, deletion_id=deletion_id)


@login_required
@require_GET
def deployment_deletion_certificate(request: HttpRequest, org: str, name: str, deletion_id: int) -> HttpResponse:
    row = _deletion(request, org, name, deletion_id, "logs.view")
    return certificate_file(row)
