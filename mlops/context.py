"""What every page may show about the product itself."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest


def product(request: HttpRequest) -> dict[str, Any]:
    return {
        "product_version": settings.VERSION,
        "request_id": getattr(request, "request_id", ""),
        "trust_uploaders": settings.TRUST_UPLOADERS,
        "base_url": settings.BASE_URL,
    }
