"""The address a request came from, behind as many trusted proxies as SLIPWAY_PROXIES says."""

from __future__ import annotations

import ipaddress

from django.conf import settings
from django.http import HttpRequest


def client_ip(request: HttpRequest) -> str | None:
    """Canonical text of the client's address; None when there is none (a unix socket). ``X-Forwarded-For`` counts only from our own proxies."""
    trusted = settings.REST_FRAMEWORK["NUM_PROXIES"]
    claimed = [part.strip() for part in request.META.get("HTTP_X_FORWARDED_FOR", "").split(",") if part.strip()]
    found = claimed[-min(trusted, len(claimed))] if trusted and claimed else request.META.get("REMOTE_ADDR", "")
    try:
        address = ipaddress.ip_address(found)
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
