"""A one-time sign-in link for the person at this machine: made by the demo, good for one hour, from loopback only."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets

from django.contrib.auth import login
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from accounts.models import User
from mlops.core import errors

HOUR_S = 3600


def _cache_key(token: str) -> str:
    return f"sign-in-{hashlib.sha256(token.encode()).hexdigest()}"


def sign_in_link(email: str) -> str:
    """A path to open in the browser; used up by the first sign-in."""
    token = secrets.token_urlsafe(32)
    cache.set(_cache_key(token), email, timeout=HOUR_S)
    return reverse("one_time_sign_in", args=[token])


@require_http_methods(["GET", "POST"])
def one_time_sign_in(request: HttpRequest, token: str) -> HttpResponse:
    """GET shows a button (a link preview must not use the link up), POST signs in."""
    if not ipaddress.ip_address(request.META["REMOTE_ADDR"]).is_loopback:
        raise errors.NotFound("There is nothing at this address.")
    email = cache.get(_cache_key(token))
    if email is None:
        raise errors.NotFound(
            "This sign-in link was used or is older than an hour.",
            hint="Sign in with your password, or start the demo again.",
        )
    if request.method == "GET":
        return render(request, "home/one_time_sign_in.html", {"email": email})
    if not cache.delete(_cache_key(token)):
        raise errors.NotFound("This sign-in link was just used.")
    login(request, User.objects.get(email=email), backend="allauth.account.auth_backends.AuthenticationBackend")
    return redirect("home")
