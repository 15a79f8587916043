"""``{% load monitoring %}``."""

from __future__ import annotations

import re
from typing import Any

from django import template
from django.utils.html import conditional_escape
from django.utils.safestring import SafeString, mark_safe

from accounts.caller import Caller
from accounts.models import Organization
from monitoring import bell
from monitoring.drift_page import Choice

register = template.Library()
_NAMED = re.compile(r"`([^`\n]{1,200})`")


@register.filter
def coded(text: object) -> SafeString:
    """Column names that sentences put between backticks, as code. The text is escaped first."""
    return mark_safe(_NAMED.sub(r"<code>\1</code>", conditional_escape(text)))  # noqa: S308  escaped one line above


@register.simple_tag
def drift_query(choice: Choice, **changes: Any) -> str:
    """The drift page's query with some of it changed: ``{% drift_query choice range="7d" %}``."""
    return choice.query(**changes)


@register.filter
def probability(value: float | None) -> str:
    """0.0321 -> "0.032", 4e-6 -> "4 in a million", 0 -> "below 1 in a million million", None -> "–"."""
    if value is None:
        return "–"
    if value >= 0.001:
        return f"{value:.2g}"
    if value < 1e-12:
        return "below 1 in a million million"
    for size, name in ((1e6, "million"), (1e9, "thousand million"), (1e12, "million million")):
        if value * size >= 1:
            return f"{value * size:.0f} in a {name}"
    return "–"


@register.simple_tag
def unread_notices(caller: Caller, organization: Organization) -> int:
    """For the number at the bell."""
    return bell.unread(caller, organization)
