"""Push a model with the browser."""

from __future__ import annotations

from functools import partial

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_http_methods

from accounts import access
from accounts.caller import caller_of
from accounts.models import Organization
from mlops.core import errors
from registry import snippets, uploads
from registry.forms import UploadForm
from registry.models import Project, RegisteredModel
from registry.services import quotas
from registry.services.push import Files, push_tree, push_version
from registry.services.uploads import FIELDS, Gone, chosen


@csrf_exempt  # checked by _push: the check reads the body, and the body must go through our upload handler
@login_required
@require_http_methods(["GET", "POST"])
def model_upload(request: HttpRequest, org: str) -> HttpResponse:
    """The form; a good one leads to the live validation, a bad one comes back with what was typed."""
    organization = access.organization(caller_of(request), org, "model.write")
    if request.method == "GET":
        form = UploadForm(projects=_projects(organization), initial={"model": request.GET.get("model", "")[:63]})
        return _page(request, organization, form)
    room = partial(quotas.require_room, organization)
    with uploads.received(request, eager=False, admit=room) as handler:
        return _push(request, organization, handler)


@csrf_protect
def _push(request: HttpRequest, organization: Organization, handler: uploads.SpoolingHandler) -> HttpResponse:
    form = UploadForm(request.POST, request.FILES, projects=_projects(organization))
    folder = uploads.folder_of(request)
    form.fields["file"].required = not request.POST.get(FIELDS["file"]) and not folder
    valid = form.is_valid()
    for field, error in handler.refused.items():
        form.errors.pop(field, None)
        _add(form, error, field)
        valid = False
    if not valid:
        return _page(request, organization, form, status=422)
    try:
        files = {field: chosen(organization, request, field) for field in uploads.PARTS}
        model, said = files.pop("file"), form.cleaned_data
        about = {"model": said["model"], "metadata": form.to_metadata(), "deploy": said["deploy"]}
        caller = caller_of(request)
        if model is not None:
            version, _ = push_version(organization, caller, files=Files(model, **files), **about)
        else:
            version, _ = push_tree(organization, caller, files=folder, data=files, **about)
    except (errors.Invalid, errors.Conflict, errors.TooLarge, Gone) as error:
        _add(form, error, "model" if isinstance(error, errors.Conflict) and not error.fields else None)
        return _page(request, organization, form, status=error.status)
    messages.success(request, f"{version.filename} is here: version {version.number} of {version.model.name}.")
    return redirect("version_validation", org=organization.slug, model=version.model.slug, number=version.number)


def _add(form: UploadForm, error: errors.SlipwayError, field: str | None) -> None:
    """The error at the field it names, else at the form."""
    named = error.fields if isinstance(error.fields, dict) else {}
    known = field or next((name for name in named if name in form.fields), None)
    form.add_error(known, f"{error.detail} {error.hint}".strip())


def _projects(organization: Organization) -> list[Project]:
    return list(Project.objects.filter(organization=organization, archived_at__isnull=True))


def _page(request: HttpRequest, organization: Organization, form: UploadForm, status: int = 200) -> HttpResponse:
    known = RegisteredModel.objects.filter(organization=organization).active().values_list("slug", flat=True)[:200]
    context = {
        "form": form,
        "known_models": known,
        "snippet": snippets.push(organization),
        "organization": organization,
    }
    return render(request, "registry/model_upload.html", context, status=status)
