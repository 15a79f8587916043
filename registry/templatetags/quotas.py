"""What an organisation's storage holds, for the settings page: that page is the app's below, which has never heard of models."""

from __future__ import annotations

from typing import Any

from django import template

from accounts.models import Organization
from registry.services import quotas

register = template.Library()


@register.inclusion_tag("registry/_storage.html")
def storage_used(organization: Organization) -> dict[str, Any]:
    return {"usage": quotas.usage(organization)}
