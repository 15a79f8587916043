"""Uploads in pieces for the signed-in browser: the same protocol as the API's, with the session and its CSRF token."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from functools import wraps

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from accounts.caller import caller_of
from mlops.core import problems
from mlops.core.errors import SlipwayError
from registry import tus
from registry.models import Upload

View = Callable[..., HttpResponse]


def _speaks_tus(view: View) -> View:
    """Refusals as JSON, and every answer names the protocol."""

    @wraps(view)
    def spoken(request: HttpRequest, *args: object, **kwargs: object) -> HttpResponse:
        try:
            return tus.mark(view(request, *args, **kwargs))
        except SlipwayError as error:
            return tus.mark(problems.json_problem(error, request))

    return spoken


@login_required
@require_http_methods(["POST"])
@_speaks_tus
def upload_list(request: HttpRequest, org: str) -> HttpResponse:
    def address(upload: Upload) -> str:
        return reverse("upload_detail", kwargs={"org": org, "upload_id": upload.pk})

    return tus.create(request, caller_of(request), org, address)


@login_required
@require_http_methods(["HEAD", "PATCH", "DELETE"])
@_speaks_tus
def upload_detail(request: HttpRequest, org: str, upload_id: uuid.UUID) -> HttpResponse:
    upload = tus.find(caller_of(request), org, upload_id)
    return {"HEAD": tus.head, "PATCH": tus.patch, "DELETE": tus.delete}[request.method](upload, request)
