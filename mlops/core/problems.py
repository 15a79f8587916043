"""The one place that turns an error into what its reader can use: problem+json, a page, or a toast in the open page."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from rest_framework import exceptions as drf
from rest_framework.response import Response

from mlops.core import errors, logs
from mlops.core.errors import SlipwayError
from mlops.core.rendering import JsonRenderer

log = logs.get(__name__)
_CRASH_CODE = "internal_error"


def from_exception(error: Exception) -> SlipwayError | None:
    """Our own error for anything expected that Django, DRF or we raise; None for a crash."""
    match error:
        case SlipwayError():
            return error
        case Http404():
            return errors.NotFound("There is nothing at this address.")
        case PermissionDenied():
            return errors.Forbidden(str(error) or "You may not do this.")
        case RequestDataTooBig():
            return errors.TooLarge("The request body is larger than 5 MB.", hint="Send fewer rows per request.")
        case drf.Throttled():
            return errors.RateLimited("Too many requests.", retry_after_s=error.wait or 1)
        case drf.NotAuthenticated() | drf.AuthenticationFailed():
            return errors.Unauthenticated(_text(error.detail))
        case drf.ParseError():
            return errors.BadRequest(
                _text(error.detail), code="malformed_json", hint="Send valid JSON with Content-Type: application/json."
            )
        case drf.UnsupportedMediaType():
            return errors.UnsupportedMediaType(_text(error.detail), hint="Send Content-Type: application/json.")
        case drf.ValidationError():
            fields = error.detail if isinstance(error.detail, dict) else {"body": error.detail}
            named = {name: _sentences(value) for name, value in fields.items()}
            first = next(iter(named))
            return errors.Invalid(f"{first}: {named[first][0]}", fields=named)
        case drf.APIException():
            return SlipwayError(
                _text(error.detail),
                code=error.get_codes() if isinstance(error.get_codes(), str) else "error",
                status=error.status_code,
            )
    return None


def _sentences(detail: Any) -> list[str]:
    """The messages of one field, however deeply its own items nest them: ``{0: ["no"], 2: ["no"]}`` says where."""
    if isinstance(detail, dict):
        return [f"item {at}: {text}" for at, inner in detail.items() for text in _sentences(inner)]
    if isinstance(detail, list):
        return [text for inner in detail for text in _sentences(inner)]
    return [str(detail)]


def _text(detail: Any) -> str:
    return detail if isinstance(detail, str) else "; ".join(str(part) for part in detail)


def body_of(error: SlipwayError, request_id: str) -> dict[str, Any]:
    return {**error.as_problem(), "request_id": request_id}


def headers_of(error: SlipwayError) -> dict[str, str]:
    headers = {"Cache-Control": "no-store", **error.headers}
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(max(1, math.ceil(error.retry_after_s)))
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="slipway"'
    return headers


def drf_handler(error: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's EXCEPTION_HANDLER. Always JSON, also where a view would answer in YAML or HTML."""
    known = from_exception(error)
    if known is None:
        return None
    request = context["request"]
    request.accepted_renderer, request.accepted_media_type = JsonRenderer(), JsonRenderer.media_type
    body = body_of(known, getattr(request, "request_id", ""))
    return Response(body, status=known.status, headers=headers_of(known), content_type="application/problem+json")


def json_problem(error: SlipwayError, request: HttpRequest) -> HttpResponse:
    body = json.dumps(body_of(error, getattr(request, "request_id", "")))
    return HttpResponse(body, status=error.status, content_type="application/problem+json", headers=headers_of(error))


def page(error: SlipwayError, request: HttpRequest) -> HttpResponse:
    """A toast for an htmx request, else a whole page; an API path always gets JSON."""
    if request.path.startswith("/api/") or request.headers.get("Accept", "").startswith("application/json"):
        return json_problem(error, request)
    if getattr(request, "htmx", False):
        toast = {"toast": {"level": "danger", "message": error.detail, "hint": error.hint}}
        return HttpResponse(
            status=error.status, headers={**headers_of(error), "HX-Reswap": "none", "HX-Trigger": json.dumps(toast)}
        )
    context = {
        "error": error,
        "title": errors._TITLES.get(error.status, "Error"),
        "request_id": getattr(request, "request_id", ""),
    }
    # A crash may be the database's: then the frame around the page (who is this, which organisation) must not ask it again.
    asker = None if error.code == _CRASH_CODE else request
    response = render(asker, "ui/error.html", context, status=error.status)
    for name, value in headers_of(error).items():
        response[name] = value
    return response


class ProblemMiddleware:
    """Expected errors of pages become pages; a crash is logged with its request id and shown without a stack trace."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        known = from_exception(exception)
        if known is not None:
            return page(known, request)
        log.error("request_crashed", path=request.path, exc_info=exception)
        return None


def crash() -> SlipwayError:
    return SlipwayError(
        "Something broke on our side. It was logged.",
        code=_CRASH_CODE,
        status=500,
        hint="Try again; if it stays, give the request id to your administrator.",
    )


def handler400(request: HttpRequest, exception: Exception) -> HttpResponse:
    return page(errors.BadRequest("The request could not be understood."), request)


def handler403(request: HttpRequest, exception: Exception) -> HttpResponse:
    return page(errors.Forbidden(str(exception) or "You may not do this."), request)


def handler404(request: HttpRequest, exception: Exception) -> HttpResponse:
    return page(errors.NotFound("There is nothing at this address."), request)


def handler500(request: HttpRequest) -> HttpResponse:
    return page(crash(), request)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """CSRF_FAILURE_VIEW."""
    return page(
        errors.Forbidden(
            "The form was too old or came from another site.",
            code="csrf_failed",
            hint="Reload the page and send the form again.",
        ),
        request,
    )
