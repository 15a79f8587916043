"""``{% load monitoring %}``."""

from __future__ import annotations

import re

from django import template
from django.utils.html import conditional_escape
from django.utils.safestring import SafeString, mark_safe

register = template.Library()
_NAMED = re.compile(r"`([^`\n]{1,200})`")


@register.filter
def coded(text: object) -> SafeString:
    """Column names that sentences put between backticks, as code. The text is escaped first."""
    return mark_safe(_NAMED.sub(r"<code>\1</code>", conditional_escape(text)))  # noqa: S308  escaped one line above
