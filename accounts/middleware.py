"""``request.caller`` for pages (the signed-in person, or nobody), and the RateLimit headers of throttled answers."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils.functional import SimpleLazyObject

from accounts import time_zones
from accounts.addresses import client_ip
from accounts.caller import NOBODY, Caller


class CallerMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        def find() -> Caller:
            user = request.user  # None in an API call by nobody
            return Caller(user=user, ip=client_ip(request)) if user is not None and user.is_authenticated else NOBODY

        request.caller = SimpleLazyObject(find)
        time_zones.remember(request)
        response = self.get_response(request)
        for name, value in getattr(request, "rate_limit_headers", {}).items():
            response.headers.setdefault(name, value)
        return response
