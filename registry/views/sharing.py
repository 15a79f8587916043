"""The owner's page of a model's shares."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from accounts import access
from accounts.caller import caller_of
from accounts.forms import tell
from mlops.core import errors
from registry import lookup
from registry.forms import ShareForm
from registry.models import ModelVersion, RegisteredModel, Share
from registry.services import sharing
from registry.views.models import PAGE, frame


@login_required
@require_http_methods(["GET", "POST"])
def model_sharing(request: HttpRequest, org: str, model: str) -> HttpResponse:
    row = lookup.model_of(request, org, model, "model.share" if request.method == "POST" else "model.view")
    ready = list(ModelVersion.objects.deployable().filter(model=row))
    form = ShareForm(request.POST or None, versions=ready)
    if request.method == "POST" and form.is_valid() and _shared(request, row, form, ready):
        return redirect("model_sharing", org=org, model=model)
    rows = Share.objects.filter(model=row).select_related("version", "grantee").order_by("revoked_at", "-pk")
    context = {
        **frame(request, row, "sharing"),
        "form": form,
        "page": Paginator(rows, PAGE).get_page(request.GET.get("page")),
        "may_share": caller_of(request).can("model.share", row.organization_id),
    }
    return render(request, "registry/model_sharing.html", context, status=422 if form.errors else 200)


def _shared(request: HttpRequest, row: RegisteredModel, form: ShareForm, ready: list[ModelVersion]) -> bool:
    entered = form.cleaned_data
    version = next((found for found in ready if str(found.number) == entered["version"]), None)
    try:
        share = sharing.share_model(
            row, caller_of(request), grantee=entered["organization"], rights=entered["rights"], version=version
        )
    except (errors.Invalid, errors.Conflict) as error:
        tell(form, error)
        return False
    messages.success(request, f"Shared with {share.grantee.name}: they find it under Shared with us.")
    return True


@login_required
@require_POST
def share_revoke(request: HttpRequest, org: str, model: str, share_id: int) -> HttpResponse:
    rows = Share.objects.select_related("model", "version", "grantee", "organization")
    found = {"organization__slug": org, "model__slug": model, "pk": share_id}
    share = access.get(caller_of(request), rows, "model.share", **found)
    sharing.revoke(share, caller_of(request))
    messages.success(
        request, f"The share with {share.grantee.name} has ended: their calls are refused within 5 seconds."
    )
    return redirect("model_sharing", org=org, model=model)
