"""The two halves of a mail, from templates/monitoring/mail."""

from __future__ import annotations

from typing import Any

from django.template.loader import render_to_string


def bodies(template: str, context: dict[str, Any]) -> dict[str, str]:
    """Text and HTML."""
    text = render_to_string(f"monitoring/mail/{template}.txt", context)
    return {"text": text, "html": render_to_string(f"monitoring/mail/{template}.html", context)}
