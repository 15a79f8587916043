"""What the page frame shows of the organisation: ``caller``, ``current_org``, ``organizations``, ``role``."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest

from accounts.caller import NOBODY
from accounts.models import Organization


def organisation(request: HttpRequest) -> dict[str, Any]:
    caller = getattr(request, "caller", NOBODY)
    if not caller.known:
        return {"caller": caller, "current_org": None, "organizations": [], "role": None}
    rows = list(Organization.objects.filter(pk__in=caller.organization_ids))
    slug = request.resolver_match.kwargs.get("org") if request.resolver_match else None
    current = next((row for row in rows if row.slug == slug), rows[0] if len(rows) == 1 else None)
    role = caller.role_in(current) if current else None
    return {"caller": caller, "current_org": current, "organizations": rows, "role": role}
