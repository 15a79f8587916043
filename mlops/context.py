"""What every page may show about the product itself: ``product``, and ``nav`` with the number of open incidents."""

from __future__ import annotations

import time
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils.functional import SimpleLazyObject

from accounts.caller import caller_of
from mlops.runtime.host import get_host
from monitoring.models import Incident, IncidentStatus

_ASK_AGAIN_S = 15.0
_sandbox: tuple[float, str] = (0.0, "")


def sandbox_problem() -> str:
    """Why models cannot run, with the fix, or nothing. Asked at most every 15 s in each process."""
    global _sandbox
    if time.monotonic() - _sandbox[0] > _ASK_AGAIN_S or _sandbox[0] == 0.0:
        _sandbox = (time.monotonic(), _ask_host())
    return _sandbox[1]


def _ask_host() -> str:
    status = get_host().status()
    return "" if status["ready"] else f"{status['proof']['detail']} {status['proof']['fix']}".strip()


def product(request: HttpRequest) -> dict[str, Any]:
    caller = caller_of(request)
    return {
        "product": {
            "version": settings.VERSION,
            "trust_uploaders": settings.TRUST_UPLOADERS,
            "sandbox_problem": SimpleLazyObject(sandbox_problem) if caller.known else "",
        },
        "nav": {"open_incidents": SimpleLazyObject(lambda: _open_incidents(request))},
        "base_url": settings.BASE_URL,
    }


def _open_incidents(request: HttpRequest) -> int:
    slug = request.resolver_match.kwargs.get("org") if request.resolver_match else None
    mine = Incident.objects.visible_to(caller_of(request)).filter(organization__slug=slug)
    return mine.exclude(status=IncidentStatus.RESOLVED).count()
