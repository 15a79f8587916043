"""Files of rows in the browser: send one, watch it, fetch what came of it."""

from __future__ import annotations

import uuid
from typing import Any

import orjson
from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import access
from accounts.caller import caller_of
from mlops.core import errors, storage
from mlops.core.errors import SlipwayError
from registry import uploads
from serving import batch_input, predict, snippets
from serving.api.batches import file_of
from serving.batch_input import PARTS
from serving.forms import deployable
from serving.models import BatchPart, BatchRun, Deployment
from serving.predict import Call
from serving.services import batches

SHOWN_RUNS = 50
SHOWN_FAILURES = 10
_OUTPUTS = (("csv", "CSV"), ("jsonl", "JSON lines"), ("parquet", "Parquet"))


class BatchForm(forms.Form):
    """A file, and what shall come of it."""

    file = forms.FileField(
        label="Rows",
        help_text="CSV with a header, JSON lines, JSON or Parquet. Columns that the model does not take are passed over.",
        widget=forms.FileInput(attrs={"accept": ",".join(PARTS["file"].endings)}),
    )
    output = forms.ChoiceField(label="Results as", choices=_OUTPUTS)
    version = forms.ChoiceField(label="Version", required=False)

    def __init__(self, *args: Any, deployment: Deployment, **options: Any) -> None:
        super().__init__(*args, **options)
        live = deployment.live_version
        others = [each for each in deployable(deployment.organization, deployment.model.slug) if each != live]
        self.fields["version"].choices = [
            ("", f"The live one (v{live.number})" if live else "The live one"),
            *((each.number, f"Version {each.number}") for each in others),
        ]


@csrf_exempt  # checked by _sent: the check reads the body, and the body must go through our upload handler
@login_required
@require_http_methods(["GET", "POST"])
def deployment_batches(request: HttpRequest, org: str, name: str) -> HttpResponse:
    """The form and the runs; a good file leads to its run's live page."""
    row = access.get(
        caller_of(request), Deployment.objects.with_routes(), "deployment.view", organization__slug=org, name=name
    )
    if request.method == "GET":
        return _page(request, row, BatchForm(deployment=row))
    access.organization(caller_of(request), org, "deployment.predict")
    with uploads.received(request, PARTS, eager=False) as handler:
        return _sent(request, row, handler)


@csrf_protect
def _sent(request: HttpRequest, row: Deployment, handler: uploads.SpoolingHandler) -> HttpResponse:
    form = BatchForm(request.POST, request.FILES, deployment=row)
    valid = form.is_valid()
    for field, error in handler.refused.items():
        form.errors.pop(field, None)
        form.add_error(field if field in form.fields else None, f"{error.detail} {error.hint}")
        valid = False
    if not valid:
        return _page(request, row, form, status=422)
    caller = caller_of(request)
    call = Call(
        caller=caller,
        organization=row.organization.slug,
        deployment=row.name,
        read=bytes,
        content_type="",
        request_id=request.request_id,
        version=form.cleaned_data["version"],
        via="page",
    )
    try:
        line = batches.admitted(predict.begin(call))
        run = batches.start_run(
            deployment=row,
            version_id=line.version_id,
            sent=batch_input.of_form(request),
            output=form.cleaned_data["output"],
            caller=caller,
        )
    except SlipwayError as error:
        form.add_error(None, f"{error.detail} {error.hint}".strip())
        return _page(request, row, form, status=error.status)
    messages.success(request, f"{run.filename} is here. Its rows are predicted in the background.")
    return redirect("deployment_batch", org=row.organization.slug, name=row.name, batch_id=run.pk)


def _page(request: HttpRequest, row: Deployment, form: BatchForm, status: int = 200) -> HttpResponse:
    caller = caller_of(request)
    runs = list(batches.listed(caller, row)[:SHOWN_RUNS])
    url = request.build_absolute_uri(f"{row.predict_path}/batch")
    context = {
        "deployment": row,
        "form": form,
        "runs": runs,
        "busy": any(not run.ended for run in runs),
        "all_runs": caller.can("logs.view", row.organization_id),
        "curl": snippets.batch_curl(url),
        "python": snippets.batch_python(url),
        "now_rows": batches.NOW_ROWS,
    }
    template = "serving/_batch_runs.html" if request.htmx else "serving/deployment_batches.html"
    return render(request, template, context, status=status)


def _run(request: HttpRequest, org: str, name: str, batch_id: uuid.UUID, action: str = "logs.view") -> BatchRun:
    access.organization(caller_of(request), org)  # pages are for members; a guest asks the API
    return batches.find(caller_of(request), org, name, batch_id, action)


@login_required
@require_GET
def deployment_batch(request: HttpRequest, org: str, name: str, batch_id: uuid.UUID) -> HttpResponse:
    run = _run(request, org, name, batch_id)
    caller = caller_of(request)
    context = {
        "deployment": Deployment.objects.with_routes().get(pk=run.deployment_id),
        "run": run,
        "rate": run.rows_done / run.busy_s if run.busy_s > 1 else None,
        "failures": _first_failures(run) if run.rows_failed else [],
        "may_cancel": not run.ended
        and (run.maker == caller.ref or caller.can("deployment.write", run.organization_id)),
        "may_retry": run.status == "failed" and caller.can("deployment.write", run.organization_id),
    }
    return render(request, "serving/_batch_run.html" if request.htmx else "serving/deployment_batch.html", context)


def _first_failures(run: BatchRun) -> list[dict[str, Any]]:
    """The first failed rows, from the first piece of their file. A runner wrote it: it may hold anything."""
    part = run.parts.filter(kind=BatchPart.Kind.FAILED).first()
    if part is None:
        return []
    try:
        lines = next(storage.open_stream(part.key), b"").split(b"\n")[:SHOWN_FAILURES]
        found = [orjson.loads(line) for line in lines if line]
    except (SlipwayError, orjson.JSONDecodeError):  # a piece that is gone, or a line longer than the look
        return []
    return [
        {
            "row": each.get("row"),
            "message": str(each.get("message", ""))[:300],
            "content": orjson.dumps(each["input"]).decode()[:200]
            if "input" in each
            else str(each.get("text", ""))[:200],
        }
        for each in found
        if isinstance(each, dict)
    ]


@login_required
@require_GET
def deployment_batch_results(request: HttpRequest, org: str, name: str, batch_id: uuid.UUID) -> HttpResponseBase:
    return file_of(_run(request, org, name, batch_id), BatchPart.Kind.RESULT)


@login_required
@require_GET
def deployment_batch_failed(request: HttpRequest, org: str, name: str, batch_id: uuid.UUID) -> HttpResponseBase:
    return file_of(_run(request, org, name, batch_id), BatchPart.Kind.FAILED)


@login_required
@require_POST
def deployment_batch_cancel(request: HttpRequest, org: str, name: str, batch_id: uuid.UUID) -> HttpResponse:
    batches.cancel(_run(request, org, name, batch_id, "deployment.write"), caller_of(request))
    messages.info(request, "Cancelled. What was done by then can be fetched.")
    return redirect("deployment_batch", org=org, name=name, batch_id=batch_id)


@login_required
@require_POST
def deployment_batch_retry(request: HttpRequest, org: str, name: str, batch_id: uuid.UUID) -> HttpResponse:
    """Go on where a failed run stopped."""
    run = _run(request, org, name, batch_id)
    access.organization(caller_of(request), org, "deployment.write")
    if run.job is None:
        raise errors.Conflict("This run has no job any more.", code="job_gone", hint="Send the file again.")
    batches.go_on(run)
    return redirect("deployment_batch", org=org, name=name, batch_id=batch_id)
