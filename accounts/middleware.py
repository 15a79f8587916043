"""``request.caller`` for pages: the signed-in person, or nobody."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.utils.functional import SimpleLazyObject

from accounts.caller import NOBODY, Caller


class CallerMiddleware:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        def find() -> Caller:
            user = request.user
            return Caller(user=user, ip=request.META.get("REMOTE_ADDR")) if user.is_authenticated else NOBODY

        request.caller = SimpleLazyObject(find)
        return self.get_response(request)
