"""Public keys, for anyone who wants to check a signature without asking us."""

from __future__ import annotations

from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.http import require_safe

from registry import signing


@require_safe
def signing_keys(request: HttpRequest) -> JsonResponse:
    return JsonResponse(signing.jwks(), headers={"Cache-Control": "public, max-age=300"})


urlpatterns = [path(".well-known/slipway-keys.json", signing_keys, name="signing_keys")]
